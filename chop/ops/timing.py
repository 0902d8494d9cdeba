"""When beats move: the exact timing of the hardware's building blocks, in closed form.

Times are cycles, as int64 arrays over the beats of several samples. All functions assume that the
consumer takes a beat as soon as it is valid: the schedule sizes every queue so that this holds in a
periodic run, and then the finished hardware keeps the same interval (a design is a timed event
graph: if a periodic schedule meets all its constraints, running freely is at least as fast) and the
same time for the first sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from chop.formats.rounding import Ints

__all__ = ["Flow", "elastic", "folded", "join", "occupancy", "repeated", "serial", "widen"]

# Before any cycle.
_EVER = -(np.int64(1) << 60)


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """The movement of beats through one instance.

    `taken[i]` are the cycles in which the beats of input i are taken; `valid` those from which the
    result's beats are valid. `in_depth` is the input buffer that this needs, `patient_depth` the
    one that suffices where the sender can wait at no loss (a port of the top, one beat a cycle).
    `reserved`, if any, are the cycles in which the output queue's slots are claimed (its depth
    follows once it is known when the beats leave).

    Of the beats in an input buffer, if any, `needed` are the last cycles in which they may be taken
    without a change, `places` those from which they have a place in a buffer of `patient_depth`. Of
    a unit that may be made to wait, `steps` counts what it does: from when a beat leaves to the
    next one, as many cycles as between their steps pass at least.

    `wait(taken, offered, narrow)` is the flow where the input's beats are taken in the cycles
    `taken` and the result's are offered in `offered` (none earlier than here), each for `narrow`
    cycles. `delay` is set where so many cycles, and nothing else, lie between the beats taken (one
    of each input) and the result's.
    """

    taken: tuple[Ints, ...]
    valid: Ints
    in_depth: int = 1
    patient_depth: int = 1
    reserved: Ints | None = None
    needed: Ints | None = None
    places: Ints | None = None
    steps: Ints | None = None
    wait: Callable[[Ints, Ints, int], Flow] | None = None
    delay: int | None = None


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
    return Flow((valid,), valid + latency, delay=latency)


def join(valid: Sequence[Ints], latency: int) -> Flow:
    """An elastic pipeline that takes one beat of every input at once."""
    taken = np.maximum.reduce(list(valid))
    return Flow(tuple(taken for _ in valid), taken + latency, delay=latency)


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
    order = _Order(beats, groups, input_stationary, latency)
    inner = np.arange(beats, dtype=np.int64)
    if input_stationary:
        start = serial(valid + 1, groups)
        used, needed = start + groups - 1, start - 1
        last = start.reshape(samples, beats)[:, -1:]
        ends = last + np.arange(groups, dtype=np.int64)
    else:
        # A vector's first pass begins when all passes of the one before are through.
        ramp = (np.arange(samples, dtype=np.int64)[:, None] * (beats * groups) + inner).reshape(-1)
        first_pass = np.maximum(np.maximum.accumulate(valid + 1 - ramp), 0) + ramp
        end = first_pass.reshape(samples, beats)[:, -1:]
        used = first_pass if groups == 1 else (end + 1 + (groups - 2) * beats + inner).reshape(-1)
        needed, ends = first_pass - 1, end + beats * np.arange(groups, dtype=np.int64)
    reserved = ends.reshape(-1)
    depth = max(order.least_depth, occupancy(valid, used))
    return Flow(
        (valid,), reserved + latency, depth, order.least_depth, reserved, needed,
        order.places(used), order.steps(samples), order.wait,
    )  # fmt: skip


def repeated(valid: Ints, steps: int, latency: int) -> Flow:
    """A unit that works on every beat for that many cycles, and gives a beat for it.

    A beat taken in cycle a can be used from a + 1 on; its result is valid `latency` cycles after
    its last step.
    """
    return _repeated(valid, serial(valid + 1, steps) + steps - 1, steps, latency)


def _repeated(taken: Ints, ends: Ints, steps: int, latency: int) -> Flow:
    places = np.concatenate([np.full(1, _EVER), ends])[: len(ends)]

    def wait(taken: Ints, offered: Ints, narrow: int) -> Flow:
        return _repeated(taken, offered - latency, steps, latency)

    return Flow(
        (taken,), ends + latency, max(1, occupancy(taken, ends)), 1, ends, ends - steps, places,
        np.arange(1, len(ends) + 1, dtype=np.int64) * steps - 1, wait,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Order:
    """The order of a folded product's steps; a step *completes* a group with its last beat."""

    beats: int
    groups: int
    input_stationary: bool
    latency: int

    @property
    def least_depth(self) -> int:
        return 1 if self.input_stationary else self.beats

    def steps(self, vectors: int) -> Ints:
        """Returns the numbers of the completing steps."""
        groups = np.arange(self.groups, dtype=np.int64)
        if self.input_stationary:
            inner = (self.beats - 1) * self.groups + groups
        else:
            inner = (groups + 1) * self.beats - 1
        starts = np.arange(vectors, dtype=np.int64)[:, None] * (self.beats * self.groups)
        return (starts + inner).reshape(-1)

    def places(self, freed: Ints) -> Ints:
        """Returns from when beats have a place, if that of each is free in `freed`."""
        return np.concatenate([np.full(self.least_depth, _EVER), freed])[: len(freed)]

    def wait(self, taken: Ints, offered: Ints, narrow: int) -> Flow:
        """Completing steps are issued just in time, the others as soon as they can.

        However long a beat is offered: it lies in the output queue.
        """
        ends = (offered - self.latency).reshape(-1, self.groups)
        inner = np.arange(self.beats, dtype=np.int64)
        if self.input_stationary or self.groups == 1:
            ramp = inner * self.groups
            earliest = (taken + 1).reshape(-1, self.beats).copy()
            earliest[1:, 0] = np.maximum(earliest[1:, 0], ends[:-1, -1] + 1)
            start = np.maximum.accumulate(earliest - ramp, axis=1) + ramp
            used = start + self.groups - 1
            used[:, -1] = ends[:, -1]
            needed = ends[:, :1] - ramp[::-1] - 1
        else:
            used = ends[:, -2:-1] + 1 + inner
            used[:, -1] = ends[:, -1]
            needed = ends[:, :1] - inner[::-1] - 1
        freed, reserved = used.reshape(-1), ends.reshape(-1)
        depth = max(self.least_depth, occupancy(taken, freed))
        needed, places = needed.reshape(-1), self.places(freed)
        return Flow((taken,), offered, depth, self.least_depth, reserved, needed, places)
