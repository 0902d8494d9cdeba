"""The first steps of every job that compiles: load, train where needed, compile."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from chop.config.schema import Config
from chop.flows.compile import Accelerator, FineTune, compile_trained
from chop.flows.compress import compress_job, rehearse_compression, trained_stages
from chop.flows.job import Job, load_job
from chop.flows.places import run_directory
from chop.flows.progress import Progress
from chop.flows.weights import (
    QAT,
    RETRAIN,
    Metrics,
    read_metrics,
    restore_weights,
    retrain,
    train_job,
    train_quantised,
)
from chop.ir.graph import MaseGraph

__all__ = ["compile_job", "prepare_job", "train_design"]

# Samples whose vectors go into the emitted folder, for `make sim` there.
_VECTORS = 16


def prepare_job(config: Config, progress: Progress) -> Job:
    """Returns the job with trained weights, from runs/<name> where they fit the configuration.

    With [compress], they are those after its stages. Before anything is trained, the untrained
    model goes down the whole road once: a model that cannot be emitted is refused in seconds.
    Raises any ChopError of that road.
    """
    job = load_job(config, progress)
    if config.compress is not None:
        rehearse_compression(job)
    if config.train is not None and not restore_weights(job):
        with tempfile.TemporaryDirectory() as scratch:
            _compile(job, Path(scratch) / config.name, progress)
        train_job(job, progress)
    return _compressed(job, progress)


def _compressed(job: Job, progress: Progress, resume: bool = False) -> Job:
    """Returns the trained job with the model that its [compress] table makes of it."""
    if job.config.compress is None:
        return job
    return replace(job, model=compress_job(job, progress, resume).model)


def train_design(
    config: Config, progress: Progress, resume: bool
) -> tuple[tuple[Path, Metrics], ...]:
    """Trains, then trains in the stages of [compress] and where it says [retrain] and [qat].

    Returns the folder and the metrics of each. With `resume`, what is finished is kept and the
    first training that is not goes on. Raises ConfigError as `train_job`.
    """
    job = load_job(config, progress)
    if config.compress is not None:
        rehearse_compression(job)
    directory = run_directory(config.name)
    tables = {RETRAIN: config.retrain, QAT: config.qat}
    later = [stage for stage, table in tables.items() if table is not None]
    goes_on = bool(later) or config.compress is not None
    finished = resume and goes_on and restore_weights(job)
    stages = []
    if config.train is not None or config.retrain is None:
        metrics = read_metrics(directory) if finished else train_job(job, progress, resume)
        stages.append((directory, metrics))
    if config.compress is not None:
        job = _compressed(job, progress, resume)
        folders = [directory / name for name in trained_stages(config.compress)]
        stages += [(folder, read_metrics(folder)) for folder in folders]
    if later:
        with tempfile.TemporaryDirectory() as scratch:
            compile_job(job, Path(scratch) / config.name, progress, resume)
        stages += [(directory / stage, read_metrics(directory / stage)) for stage in later]
    return tuple(stages)


def compile_job(job: Job, directory: Path, progress: Progress, resume: bool = False) -> Accelerator:
    """Returns the job's model compiled into `directory`, trained on the way where [retrain] and
    [qat] say so."""
    fine_tune = before = None
    if job.config.qat is not None:

        def fine_tune(graph: MaseGraph) -> MaseGraph:
            return train_quantised(job, graph, progress, resume)

    if job.config.retrain is not None:

        def before(graph: MaseGraph) -> MaseGraph:
            return retrain(job, graph, progress, resume)

    return _compile(job, directory, progress, fine_tune, before)


def _compile(
    job: Job,
    directory: Path,
    progress: Progress,
    fine_tune: FineTune | None = None,
    before: FineTune | None = None,
) -> Accelerator:
    with progress.task(f"compile {job.config.name}"):
        return compile_trained(
            job.model,
            tuple(tensor[:_VECTORS] for tensor in job.test),
            job.config,
            job.calibration,
            directory,
            fine_tune,
            before,
            job.reshaped,
        )
