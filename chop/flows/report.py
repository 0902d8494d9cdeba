"""What `chop transform` found out, as values; the command line makes tables or JSON of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chop.ir.manifest import LayerEntry
from chop.synth.synthesize import SynthesisReport

__all__ = ["Accuracy", "JobReport", "SimulationSummary"]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Shares in 0..1 of the samples, of the same test set."""

    samples: int
    float_accuracy: float
    integer_accuracy: float


@dataclass(frozen=True, slots=True)
class SimulationSummary:
    """One run of the emitted RTL.

    Attributes:
        elements: outputs that were compared with the integer reference.
        mismatches: how many of them differed.
        latency_cycles: from the first input beat, when it is offered, to the first output beat.
        seconds: of the simulation itself, without building it.
        first_mismatch: node, stream, sample and element of the first difference.
        waiting: what every stream with beats to come waits for, after a deadlock.
    """

    samples: int
    stall_probability: float
    elements: int
    mismatches: int
    deadlock: bool
    cycles: int
    initiation_interval: float
    latency_cycles: int
    seconds: float
    first_mismatch: str | None
    waiting: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobReport:
    """Everything measured and predicted about one design.

    `numbers` is what the pass report_numbers says: a row per node in a number format, and totals.
    """

    name: str
    directory: str
    layers: tuple[LayerEntry, ...]
    multipliers: int
    ideal_initiation_interval: int
    predicted_initiation_interval: int
    predicted_latency_cycles: int
    accuracy: Accuracy | None
    numbers: Mapping[str, Any]
    simulations: tuple[SimulationSummary, ...]
    synthesis: SynthesisReport | None
