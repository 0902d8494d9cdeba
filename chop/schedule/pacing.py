"""What lies between two units: converters, and buffers that wait for them in place of a queue.

A window generator turns one element into many: a queue behind it would hold the same elements again
and again. So it waits while its reader is busy, and keeps what it has not read yet, once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd

import numpy as np

from chop.formats.rounding import Ints
from chop.ops.timing import Flow, widen

__all__ = ["Edge", "Paced", "edge_between", "narrowed", "pass_edge"]

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
    """A buffer that waits: when its beats are valid, when they leave, its flow."""

    valid: Ints
    left: Ints
    flow: Flow


def edge_between(lanes_out: int, lanes_in: int) -> Edge:
    """Returns the converters from a maker's lanes to a reader's."""
    common = gcd(lanes_out, lanes_in)
    return Edge(lanes_out // common, lanes_in // common)


def narrowed(flow: Flow, narrow: int, stalled: Stalled) -> Paced | None:
    """Returns a buffer whose beats leave in `narrow` parts, one a cycle; None: too long a story.

    Beats that wait may hold up later ones inside the buffer, so the delays are followed until they
    are all known.
    """
    steps = np.arange(len(flow.valid), dtype=np.int64) if flow.steps is None else flow.steps
    # The first part of a beat waits for the buffer's steps too.
    ramp = steps + np.arange(len(steps), dtype=np.int64) * (narrow - 1)
    valid = flow.valid
    left = _behind(valid, ramp) + narrow - 1
    for _ in range(_MOST_ROUNDS):
        flow = stalled(left)
        valid = np.maximum(valid, flow.valid)
        now = _behind(valid, ramp) + narrow - 1
        if np.array_equal(now, left):
            return Paced(valid, left, flow)
        left = now
    return None


def pass_edge(offered: Ints, edge: Edge) -> Ints:
    """Returns when a reader behind an edge sees its beats; beats are offered until taken."""
    times = offered
    if edge.narrow > 1:
        times = (offered[:, None] + np.arange(edge.narrow, dtype=np.int64)).reshape(-1)
    return widen(times, edge.widen) if edge.widen > 1 else times


def _behind(earliest: Ints, ramp: Ints) -> Ints:
    """Returns t with t[k] = max(earliest[k], t[k-1] + ramp[k] - ramp[k-1])."""
    times: Ints = np.maximum.accumulate(earliest - ramp) + ramp
    return times
