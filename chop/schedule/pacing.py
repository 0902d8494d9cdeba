"""Buffers wait for their reader in place of a queue: when their beats leave, and how few slots do.

A window generator turns one element into many: a queue behind it would hold the same elements again
and again. So it waits while its reader is busy, and keeps what it has not read yet, once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from math import gcd

import numpy as np

from chop.errors import VerifyError
from chop.formats.rounding import Ints
from chop.ops.timing import Flow

__all__ = ["Edge", "Paced", "edge_between", "narrowed", "paced"]

# How often delays inside a buffer are followed until they are all known.
_MOST_ROUNDS = 32

# The flow of a buffer whose beats leave in given cycles.
Stalled = Callable[[Ints], Flow]


@dataclass(frozen=True, slots=True)
class Edge:
    """The converters between a stream of `lanes` and a reader of other lanes.

    `narrow` : 1 first, then 1 : `widen`; both above 1 only where neither lane count divides the
    other.
    """

    narrow: int
    widen: int


@dataclass(frozen=True, slots=True, eq=False)
class Paced:
    """A buffer that waits: when its beats are valid, when they leave, its flow.

    `depth` is that of the reader's input buffer.
    """

    valid: Ints
    left: Ints
    flow: Flow
    depth: int = 1


def edge_between(lanes_out: int, lanes_in: int) -> Edge:
    """Returns the converters from a maker's lanes to a reader's."""
    common = gcd(lanes_out, lanes_in)
    return Edge(lanes_out // common, lanes_in // common)


def narrowed(
    flow: Flow, narrow: int, stalled: Stalled, samples: int, interval: int
) -> Paced | None:
    """Returns a buffer whose beats leave in `narrow` parts, one a cycle.

    None where it could not keep the interval.
    """
    nothing = np.zeros(len(flow.valid) * narrow, np.int64)
    edge, steps = Edge(narrow, 1), _steps_of(flow)
    found = _settled(flow.valid, lambda valid: _taken(valid, steps, edge, nothing, 0)[1], stalled)
    if found is None:
        return None
    *_, before, last = found.left.reshape(samples, -1)
    return found if np.array_equal(last - before, np.full_like(last, interval)) else None


def paced(buffer: Flow, edge: Edge, reader: Flow, stalled: Stalled, who: str) -> Paced:
    """Returns a buffer that waits for its reader, which has the fewest slots that do.

    `buffer` is the flow of `narrowed`; `reader` that of a reader that takes every beat as soon as
    it comes. No beat may come too late for it.
    """
    valid, steps = buffer.valid, _steps_of(buffer)
    needed, freed = reader.needed, reader.freed
    if needed is None or freed is None:
        raise VerifyError(f"schedule: node '{who}': has no input buffer (a bug of chop)")

    def in_time(depth: int) -> bool:
        return bool((_taken(valid, steps, edge, freed, depth)[0] <= needed).all())

    def attempt(depth: int) -> Paced | None:
        found = _settled(valid, lambda now: _taken(now, steps, edge, freed, depth)[1], stalled)
        if found is None or (_taken(found.valid, steps, edge, freed, depth)[0] > needed).any():
            return None
        return Paced(found.valid, found.left, found.flow, depth)

    least, most = reader.patient_depth, reader.in_depth
    depth = least + bisect_left(range(least, most), True, key=in_time)
    found = attempt(depth)
    if found is None:
        # Waiting makes some beats later than it lasts.
        more = range(depth + 1, most)
        found = attempt(depth + 1 + bisect_left(more, True, key=lambda d: attempt(d) is not None))
    if found is None:
        raise VerifyError(f"schedule: node '{who}': no input buffer serves it (a bug of chop)")
    return found


def _settled(valid: Ints, leaving: Callable[[Ints], Ints], stalled: Stalled) -> Paced | None:
    """Follows the delays: beats that wait may hold up later ones inside the buffer."""
    left = leaving(valid)
    for _ in range(_MOST_ROUNDS):
        flow = stalled(left)
        valid = np.maximum(valid, flow.valid)
        now = leaving(valid)
        if np.array_equal(now, left):
            return Paced(valid, left, flow)
        left = now
    return None


def _steps_of(buffer: Flow) -> Ints:
    if buffer.steps is None:
        return np.arange(len(buffer.valid), dtype=np.int64)
    return buffer.steps


def _taken(valid: Ints, steps: Ints, edge: Edge, freed: Ints, depth: int) -> tuple[Ints, Ints]:
    """Returns when a reader takes a buffer's beats behind the edge, and when they leave the buffer.

    `freed` are the cycles in which the beats' slots are free again, of `depth` in all.
    """
    slots = np.concatenate([np.zeros(depth, np.int64), freed])[: len(freed)]
    parts = np.repeat(valid, edge.narrow)
    # A part is a cycle behind the one before; the first of a beat waits for the buffer's steps too.
    beats = np.arange(len(valid), dtype=np.int64)[:, None]
    ramp = steps[:, None] + beats * (edge.narrow - 1) + np.arange(edge.narrow, dtype=np.int64)
    ramp = ramp.reshape(-1)
    if edge.widen == 1:
        taken = parts = _behind(np.maximum(parts, slots), ramp)
    else:
        # The converter takes the parts of the next beat once this one is taken.
        before = np.concatenate([[0], slots[:-1]])
        parts = _behind(np.maximum(parts, np.repeat(before, edge.widen)), ramp)
        taken = np.maximum(parts[edge.widen - 1 :: edge.widen] + 1, slots)
    return taken, parts[edge.narrow - 1 :: edge.narrow]


def _behind(earliest: Ints, ramp: Ints) -> Ints:
    """Returns t with t[k] = max(earliest[k], t[k-1] + ramp[k] - ramp[k-1])."""
    times: Ints = np.maximum.accumulate(earliest - ramp) + ramp
    return times
