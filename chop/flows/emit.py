"""From a configuration to an emitted folder."""

from __future__ import annotations

from pathlib import Path

from chop.config.schema import Config
from chop.flows.compile import Accelerator
from chop.flows.job import Job
from chop.flows.places import build_directory, record_build
from chop.flows.prepare import compile_job, prepare_job
from chop.flows.progress import Progress

__all__ = ["emit_design", "emit_job"]


def emit_design(config: Config, directory: Path | None, progress: Progress) -> Accelerator:
    """Returns the design compiled into `directory`, build/<name> by default."""
    return emit_job(prepare_job(config, progress), directory, progress)


def emit_job(job: Job, directory: Path | None, progress: Progress) -> Accelerator:
    """Compiles a prepared job into `directory` and remembers it as the folder emitted last."""
    accelerator = compile_job(job, directory or build_directory(job.config.name), progress)
    record_build(accelerator.directory)
    return accelerator
