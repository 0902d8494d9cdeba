"""Simulation of an emitted folder, and its measurements in one value."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from chop.config.schema import SimulateConfig
from chop.errors import VerifyError
from chop.flows.compile import Accelerator
from chop.flows.progress import Progress
from chop.flows.report import SimulationSummary
from chop.flows.samples import RANDOM_SAMPLES, random_inputs
from chop.ir.manifest import Manifest

__all__ = ["check_simulation", "run_simulation", "simulate_folder"]


def simulate_folder(
    directory: Path, config: SimulateConfig, progress: Progress
) -> tuple[Manifest, tuple[SimulationSummary, ...]]:
    """Runs an emitted folder on random samples, without stalls and with them.

    Returns its manifest and the runs; every output is compared with the integer reference. Raises
    DataError when the folder holds no design.
    """
    accelerator = Accelerator.load(directory)
    inputs = random_inputs(
        [stream.shape for stream in accelerator.manifest.inputs],
        config.samples or RANDOM_SAMPLES,
        config.seed,
    )
    return accelerator.manifest, run_simulation(accelerator, inputs, config, progress)


def run_simulation(
    accelerator: Accelerator,
    inputs: tuple[torch.Tensor, ...],
    config: SimulateConfig,
    progress: Progress,
) -> tuple[SimulationSummary, ...]:
    """Returns a run without stalls and, unless the probability is 0, one with random stalls."""
    probabilities = (0.0, config.stall_probability) if config.stall_probability else (0.0,)
    return tuple(
        _simulate_once(accelerator, inputs, probability, config, progress)
        for probability in probabilities
    )


def check_simulation(name: str, runs: tuple[SimulationSummary, ...]) -> None:
    """Raises VerifyError when a run found a difference or stood still."""
    for run in runs:
        where = f"design '{name}' at stall probability {run.stall_probability:g}"
        if run.deadlock:
            raise VerifyError(
                f"{where}: the RTL stands still after {run.cycles} cycles: "
                f"{'; '.join(run.waiting)}; this is a bug of chop, please report it"
            )
        if run.mismatches:
            raise VerifyError(
                f"{where}: {run.mismatches} elements of the RTL differ from the integer "
                f"reference: {run.first_mismatch}; "
                "--set simulate.check_streams=true finds the first node that differs"
            )


def _simulate_once(
    accelerator: Accelerator,
    inputs: tuple[torch.Tensor, ...],
    probability: float,
    config: SimulateConfig,
    progress: Progress,
) -> SimulationSummary:
    samples = len(inputs[0])
    stalls = f"stall probability {probability:g}" if probability else "no stalls"
    with progress.task(f"simulate {samples} samples, {stalls}"):
        run = accelerator.simulate(
            inputs,
            stall_probability=probability,
            seed=config.seed,
            check_streams=config.check_streams,
        )
    return SimulationSummary(
        samples=run.samples,
        stall_probability=probability,
        elements=samples * sum(math.prod(stream.shape) for stream in accelerator.manifest.outputs),
        mismatches=run.mismatches,
        deadlock=run.deadlock,
        cycles=run.cycles,
        initiation_interval=run.initiation_interval,
        latency_cycles=run.latency_cycles,
        seconds=run.run_seconds,
        first_mismatch=None if run.first_mismatch is None else str(run.first_mismatch),
        waiting=run.waiting,
    )
