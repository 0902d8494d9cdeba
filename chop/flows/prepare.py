"""The first steps of every job that compiles: load, train where needed, compile."""

from __future__ import annotations

import tempfile
from pathlib import Path

from chop.config.schema import Config
from chop.flows.compile import Accelerator, FineTune, compile_trained
from chop.flows.job import Job, load_job
from chop.flows.places import run_directory
from chop.flows.progress import Progress
from chop.flows.weights import (
    QAT,
    Metrics,
    read_metrics,
    restore_weights,
    train_job,
    train_quantised,
)
from chop.ir.graph import MaseGraph

__all__ = ["compile_job", "prepare_job", "train_design"]

# Samples whose vectors go into the emitted folder, for `make sim` there.
_VECTORS = 16


def prepare_job(config: Config, progress: Progress) -> Job:
    """Returns the job with trained weights, from runs/<name> where they fit the configuration.

    Before anything is trained, the untrained model goes down the whole road once: a model that
    cannot be emitted is refused in seconds. Raises any ChopError of that road.
    """
    job = load_job(config, progress)
    if config.train is None or restore_weights(job):
        return job
    with tempfile.TemporaryDirectory() as scratch:
        _compile(job, Path(scratch) / config.name, progress, None)
    train_job(job, progress)
    return job


def train_design(
    config: Config, progress: Progress, resume: bool
) -> tuple[tuple[Path, Metrics], ...]:
    """Trains, then trains the quantised network where the configuration says [qat].

    Returns the folder and the metrics of each. With `resume`, what is finished is kept and the
    first training that is not goes on. Raises ConfigError as `train_job`.
    """
    job = load_job(config, progress)
    directory = run_directory(config.name)
    finished = resume and config.qat is not None and restore_weights(job)
    stages = [
        (directory, read_metrics(directory) if finished else train_job(job, progress, resume))
    ]
    if config.qat is not None:
        with tempfile.TemporaryDirectory() as scratch:
            compile_job(job, Path(scratch) / config.name, progress, resume)
        stages.append((directory / QAT, read_metrics(directory / QAT)))
    return tuple(stages)


def compile_job(job: Job, directory: Path, progress: Progress, resume: bool = False) -> Accelerator:
    """Returns the job's model compiled into `directory`; with [qat], trained once quantised."""
    fine_tune = None
    if job.config.qat is not None:

        def fine_tune(graph: MaseGraph) -> MaseGraph:
            return train_quantised(job, graph, progress, resume)

    return _compile(job, directory, progress, fine_tune)


def _compile(
    job: Job, directory: Path, progress: Progress, fine_tune: FineTune | None
) -> Accelerator:
    with progress.task(f"compile {job.config.name}"):
        return compile_trained(
            job.model,
            tuple(tensor[:_VECTORS] for tensor in job.test),
            job.config,
            job.calibration,
            directory,
            fine_tune,
        )
