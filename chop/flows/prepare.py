"""The first steps of every job that compiles: load, train where needed, compile."""

from __future__ import annotations

import tempfile
from pathlib import Path

from chop.config.schema import Config
from chop.flows.compile import Accelerator, compile
from chop.flows.job import Job, load_job
from chop.flows.progress import Progress
from chop.flows.weights import restore_weights, train_job

__all__ = ["compile_job", "prepare_job"]

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
        compile_job(job, Path(scratch) / config.name, progress)
    train_job(job, progress)
    return job


def compile_job(job: Job, directory: Path, progress: Progress) -> Accelerator:
    """Returns the job's model compiled into `directory`."""
    with progress.task(f"compile {job.config.name}"):
        return compile(
            job.model,
            tuple(tensor[:_VECTORS] for tensor in job.test),
            config=job.config.compiler_config(),
            calibration_inputs=job.calibration,
            out_dir=directory,
        )
