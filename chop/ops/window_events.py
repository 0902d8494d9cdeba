"""When the windows of a frame can be taken, and their pixels: arcs of the event graph."""

from __future__ import annotations

import numpy as np

from chop.ops.events import EventGraph, Offer
from chop.ops.windows import WindowOrder, WindowShape, least_depth, windows_begin, windows_wait

__all__ = ["window_events"]


def window_events(
    graph: EventGraph,
    offer: Offer,
    shape: WindowShape,
    lanes: int,
    order: WindowOrder,
    in_depth: int,
) -> Offer | None:
    """Returns the result of `chop_window`; None where its events are not in a fixed order.

    In parallel, whether a row's first loads are made with the row before depends on the data. And
    with padding beyond the kernel, V moves back.
    """
    begins = windows_begin(shape).reshape(-1) * shape.beats(lanes)
    if order is WindowOrder.PARALLEL or (np.diff(begins) < 0).any():
        return None
    depth = max(in_depth, least_depth(shape, lanes, order))
    per_window = shape.kernel[0] * shape.kernel[1] * shape.beats(lanes)
    windows, period = len(begins), offer.count
    taken, made = graph.take(offer), graph.add(windows * per_window)
    steps, needed = windows_wait(shape, shape.beats(lanes), order)
    graph.after(made, steps, taken, needed, 1)
    # A beat has its place in the cycle after the last step of the window before the one whose V
    # lets it in.
    samples = np.arange(-(depth // period) - 2, 2, dtype=np.int64)
    free = np.maximum.accumulate((samples[:, None] * period + begins).reshape(-1))
    wanted = np.arange(period, dtype=np.int64) - depth + 1
    window = np.searchsorted(free, wanted) + samples[0] * windows
    graph.after(taken, None, made, window * per_window - 1, 1)
    return graph.offered(made, np.arange(windows * per_window, dtype=np.int64), 1, 1)
