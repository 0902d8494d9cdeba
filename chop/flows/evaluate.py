"""Accuracy of the float model and of the integer reference, on the same samples."""

from __future__ import annotations

import tempfile
from pathlib import Path

from chop.config.schema import Config
from chop.errors import ConfigError
from chop.flows.compile import Accelerator
from chop.flows.job import Job, accuracy, hit_rate
from chop.flows.prepare import compile_job, prepare_job
from chop.flows.progress import Progress
from chop.flows.report import Accuracy

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
            float_accuracy=accuracy(job.model, job.test, job.labels),
            integer_accuracy=hit_rate(accelerator.predict(job.test)[0], job.labels),
        )
