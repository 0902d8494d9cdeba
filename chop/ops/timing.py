"""When beats move: the exact timing of the hardware's building blocks, in closed form.

Times are cycles, as int64 arrays over the beats of several samples. All functions assume that the
consumer takes a beat as soon as it is valid: the schedule sizes every queue so that this holds in a
periodic run, and then the finished hardware keeps the same interval (a design is a timed event
graph: if a periodic schedule meets all its constraints, running freely is at least as fast) and the
same time for the first sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chop.formats.rounding import Ints

__all__ = ["Flow", "elastic", "folded", "join", "occupancy", "serial", "widen"]


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """The movement of beats through one instance.

    `taken[i]` are the cycles in which the beats of input i are taken; `valid` those from which the
    result's beats are valid. `in_depth` is the input buffer that this needs, `patient_depth` the
    one that suffices where the sender can wait at no loss (a port of the top, one beat a cycle).
    `reserved`, if any, are the cycles in which the output queue's slots are claimed (its depth
    follows once it is known when the beats leave). Of the beats in an input buffer, if any,
    `needed` are the last cycles in which they may be taken without a change, `freed` those in which
    their slots are free for others. Of a buffer that may be made to wait, `steps` counts what it
    does: from when a beat leaves to the next one, as many cycles as between their steps pass.
    """

    taken: tuple[Ints, ...]
    valid: Ints
    in_depth: int = 1
    patient_depth: int = 1
    reserved: Ints | None = None
    needed: Ints | None = None
    freed: Ints | None = None
    steps: Ints | None = None


def serial(earliest: Ints, step: int = 1, start: int = 0) -> Ints:
    """Returns t with t[k] = max(earliest[k], t[k-1] + step), t[0] >= start."""
    ramp = np.arange(len(earliest), dtype=np.int64) * step
    return np.maximum(np.maximum.accumulate(earliest - ramp), start) + ramp


def occupancy(claimed: Ints, freed: Ints) -> int:
    """Returns the slots needed when slot k is held from claimed[k] to freed[k].

    A slot freed in cycle t can be claimed in cycle t. Both arrays are non-decreasing.
    """
    free_before = np.searchsorted(freed, claimed, side="right")
    return int(
        (np.arange(1, len(claimed) + 1) - np.minimum(free_before, np.arange(len(claimed)))).max()
    )


def elastic(valid: Ints, latency: int) -> Flow:
    """A pipeline of registers that takes and gives one beat a cycle."""
    return Flow((valid,), valid + latency)


def join(valid: Sequence[Ints], latency: int) -> Flow:
    """An elastic pipeline that takes one beat of every input at once."""
    taken = np.maximum.reduce(list(valid))
    return Flow(tuple(taken for _ in valid), taken + latency)


def widen(taken: Ints, ratio: int) -> Ints:
    """Returns when the beats of a widening converter are valid: a cycle after their last part."""
    return taken[ratio - 1 :: ratio] + 1


def folded(
    valid: Ints, samples: int, beats: int, groups: int, input_stationary: bool, latency: int
) -> Flow:
    """A folded matrix-vector product: `beats` input beats times `groups` output groups a sample.

    A beat taken in cycle a can be used from a + 1 on; one (beat, group) pair is computed a cycle; a
    result is valid `latency` cycles after the step that completes it.
    """
    if input_stationary:
        return _input_stationary(valid, samples, beats, groups, latency)
    # A vector's first pass begins when all passes of the one before are through.
    inner = np.arange(beats, dtype=np.int64)
    ramp = (np.arange(samples, dtype=np.int64)[:, None] * (beats * groups) + inner).reshape(-1)
    first_pass = np.maximum(np.maximum.accumulate(valid + 1 - ramp), 0) + ramp
    ends = first_pass.reshape(samples, beats)[:, -1:]
    used = first_pass if groups == 1 else (ends + 1 + (groups - 2) * beats + inner).reshape(-1)
    reserved = (ends + beats * np.arange(groups, dtype=np.int64)).reshape(-1)
    depth = max(beats, occupancy(valid, used))
    return Flow((valid,), reserved + latency, depth, beats, reserved, first_pass - 1, used)


def _input_stationary(valid: Ints, samples: int, beats: int, groups: int, latency: int) -> Flow:
    start = serial(valid + 1, groups)
    used = start + groups - 1
    last = start.reshape(samples, beats)[:, -1:]
    reserved = (last + np.arange(groups, dtype=np.int64)).reshape(-1)
    depth = max(1, occupancy(valid, used))
    return Flow((valid,), reserved + latency, depth, 1, reserved, start - 1, used)
