"""Accuracy of the float model and of the integer reference, on the same samples."""

from __future__ import annotations

import tempfile
from pathlib import Path

from torch import nn

from chop.config.schema import Config
from chop.errors import ConfigError
from chop.flows.compile import Accelerator
from chop.flows.job import Job, accuracy, hit_rate
from chop.flows.prepare import compile_job, prepare_job
from chop.flows.progress import Progress
from chop.flows.report import Accuracy
from chop.passes.graph.transforms.dequantize import take_back_formats

__all__ = ["evaluate_design", "measure_accuracy"]


def evaluate_design(config: Config, progress: Progress) -> Accuracy:
    """Returns both accuracies; nothing is left in build/. Raises ConfigError without a data set."""
    if config.dataset is None:
        raise ConfigError(f"job '{config.name}': an evaluation needs a [dataset] table")
    job = prepare_job(config, progress)
    with tempfile.TemporaryDirectory() as scratch:
        accelerator = compile_job(job, Path(scratch) / config.name, progress)
        measured = measure_accuracy(job, accelerator, progress)
    if measured is None:
        raise ConfigError(f"job '{config.name}': an evaluation needs a [dataset] table")
    return measured


def measure_accuracy(job: Job, accelerator: Accelerator, progress: Progress) -> Accuracy | None:
    """Returns the accuracies on the job's test samples; None where there are no labels."""
    if job.labels is None:
        return None
    with progress.task(f"evaluate {len(job.labels)} samples"):
        return Accuracy(
            samples=len(job.labels),
            float_accuracy=accuracy(_float_model(job, accelerator), job.test, job.labels),
            integer_accuracy=hit_rate(accelerator.predict(job.test)[0], job.labels),
        )


def _float_model(job: Job, accelerator: Accelerator) -> nn.Module:
    """Returns the network without its formats; the job's own, unless [retrain] trained another."""
    if job.config.retrain is None or accelerator.fake_graph is None:
        return job.model
    graph = accelerator.fake_graph.copy()
    take_back_formats(graph)
    return graph.model
