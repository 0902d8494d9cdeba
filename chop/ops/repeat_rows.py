"""repeat_rows: every row of a frame several times; the first stage of a transposed convolution.

No operator of torch: `conv_transpose` puts it in front of its windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from chop.formats.rounding import Ints
from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.meta import Cost, Folding
from chop.ir.tensor_type import TensorType, channels_last
from chop.ops.accumulate import ram_luts
from chop.ops.base import Binding, Build, Call, Case, Op, Site
from chop.ops.events import EventGraph, Offer
from chop.ops.passage import Kind, Passage, literal
from chop.ops.timing import Flow, occupancy, serial

__all__ = ["REPEAT_ROWS", "RepeatRowsAttributes"]

# Later than any cycle.
_NEVER = np.int64(1) << 60


@dataclass(frozen=True, slots=True)
class RepeatRowsAttributes:
    """Frames of [channels, height, width], of which every row comes `times` times."""

    channels: int
    height: int
    width: int
    times: int


class RepeatRows(Op[RepeatRowsAttributes]):
    """Keeps a row, and part of the next one, and waits for its reader."""

    name = "repeat_rows"
    summary = "every row of a frame [C, H, W] several times"
    targets = ()
    module = "chop_reorder"
    is_buffer = True

    def read(self, call: Call) -> RepeatRowsAttributes:
        raise call.refuse("no operator of torch", "use an upsampling")

    def infer(self, site: Site[RepeatRowsAttributes]) -> TensorType:
        a = site.attributes
        shape = (a.channels, a.height * a.times, a.width)
        return replace(site.inputs[0], shape=shape, layout=channels_last(shape))

    def infer_scale(self, site: Site[RepeatRowsAttributes]) -> Scale | None:
        return site.inputs[0].scale

    def define(self, site: Site[RepeatRowsAttributes], inputs: Sequence[Value]) -> Value:
        a = site.attributes
        rows = np.repeat(np.arange(a.height), a.times).tolist()
        return inputs[0].reshape((a.channels, a.height, a.width)).take(1, tuple(rows))

    def foldings(self, site: Site[RepeatRowsAttributes]) -> tuple[Folding, ...]:
        a = site.attributes
        elements = a.channels * a.height * a.width * a.times
        lanes = [n for n in range(1, a.channels + 1) if a.channels % n == 0]
        return tuple(Folding(n, n, elements // n, 0) for n in lanes)

    def bind(self, site: Site[RepeatRowsAttributes], build: Build) -> Binding:
        made = _passage(site.attributes, build.folding.in_lanes)
        return Binding(
            self.module,
            {
                "ElementWidth": site.inputs[0].stream_width,
                "InLanes": made.in_lanes,
                "OutLanes": made.out_lanes,
                "LaneMap": literal(made.lane_map, 32),
                "Beats": made.beats,
                "Depth": max(build.in_depth, made.beats),
                **made.loops(),
            },
        )

    def flow(
        self,
        site: Site[RepeatRowsAttributes],
        build: Build,
        valid: Sequence[Ints],
        samples: int,
    ) -> Flow:
        return _flow(_passage(site.attributes, build.folding.in_lanes), valid[0], None)

    def stalled_flow(
        self,
        site: Site[RepeatRowsAttributes],
        build: Build,
        valid: Sequence[Ints],
        samples: int,
        left: Ints,
    ) -> Flow:
        return _flow(_passage(site.attributes, build.folding.in_lanes), valid[0], left)

    def events(
        self,
        site: Site[RepeatRowsAttributes],
        build: Build,
        graph: EventGraph,
        inputs: Sequence[Offer],
    ) -> Offer:
        made = _passage(site.attributes, build.folding.in_lanes)
        return made.events(graph, inputs[0], build.in_depth)

    def cost(self, site: Site[RepeatRowsAttributes], build: Build) -> Cost:
        """Counts 4-input LUTs: the memory, its addresses and the counters."""
        made = _passage(site.attributes, build.folding.in_lanes)
        depth = max(build.in_depth, made.beats)
        bits, index = made.in_lanes * site.inputs[0].stream_width, depth.bit_length()
        return Cost(ram_luts(depth, bits) + 14 * index, bits + 5 * index)

    def cases(self) -> tuple[Case, ...]:
        return ()


REPEAT_ROWS = RepeatRows()


def _passage(a: RepeatRowsAttributes, lanes: int) -> Passage:
    """Returns how chop_reorder repeats: a row is a block, which is read `times` times."""
    row = a.width * a.channels // lanes
    places = np.tile(np.arange(row, dtype=np.int64), a.times)
    beats = a.height * len(places)
    lane_map = tuple(range(lanes))
    loops = ((row, a.times), (1, 0))
    return Passage(Kind.REORDER, lanes, lanes, row, beats, places, lane_map, *loops)


def _flow(made: Passage, valid: Ints, left: Ints | None) -> Flow:
    """Returns the movement of beats; `left`: when those of the result leave, None: at once."""
    blocks = len(valid) // made.beats
    starts = np.arange(blocks, dtype=np.int64)[:, None] * made.beats
    needed = (starts + made.places).reshape(-1)
    earliest = valid[needed] + 1
    if left is not None:
        # A step needs the output register; the beat before has left it.
        earliest[1:] = np.maximum(earliest[1:], left[:-1])
    steps = serial(earliest)
    freed = np.repeat(steps.reshape(blocks, -1)[:, -1] + 1, made.beats)
    deadlines = np.full(len(valid), _NEVER)
    np.minimum.at(deadlines, needed, steps - 1)
    # Beat k is needed by its deadline, and the ones after it a cycle each later.
    numbers = np.arange(len(valid), dtype=np.int64)
    latest = np.minimum.accumulate((deadlines - numbers)[::-1])[::-1] + numbers
    depth, patient = (max(made.beats, occupancy(times, freed)) for times in (valid, latest))
    return Flow((valid,), steps + 1, depth, patient)
