"""The operators that move the elements of one tensor: one class, of which each is an instance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import torch
from torch import nn

from chop.errors import UnsupportedOpError
from chop.formats.rounding import Ints
from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.meta import Cost, Folding
from chop.ir.tensor_type import FREE_LAYOUT, Layout, TensorType
from chop.ops.accumulate import block_rams
from chop.ops.base import Binding, Build, Call, Case, Op, Site, Stage
from chop.ops.channels import Axes, Ties
from chop.ops.elementwise import flag
from chop.ops.events import EventGraph, Offer
from chop.ops.moving import Move
from chop.ops.passage import (
    Kind,
    Passage,
    chosen_layout,
    divided,
    literal,
    order_read,
    passage,
    passages,
)
from chop.ops.timing import Flow

__all__ = ["MoveOp", "Spelled"]

_MODULES = {Kind.SLICE: "chop_slice", Kind.PAD: "chop_pad", Kind.REORDER: "chop_reorder"}
# Above this, a memory is no longer made of LUTs.
_LUT_RAM_BITS = 2048


class MoveOp(Op[Move]):
    """An operator that moves elements; `to_move` reads a call.

    `keeps_axes`: the result's axes are the input's, in their order.

    The hardware depends on what comes of it in stream order: nothing where only the layout changes,
    else chop_slice, chop_pad or chop_reorder.
    """

    moves_elements = True
    cycles = (
        "nothing where the stream stays as it is; else elements / lanes of the longer side; "
        "latency 1 where beats are left out or put in, 2 behind the last beat needed where they "
        "change places"
    )
    limits = (
        "not over the batch, along one axis after the other; one constant, a multiple of 2^-16; "
        "one scale for the whole tensor"
    )

    def __init__(
        self,
        name: str,
        summary: str,
        targets: tuple[object, ...],
        modules: tuple[str, ...],
        to_move: Callable[[Call], Move],
        cases: tuple[Case, ...],
        keeps_axes: bool = True,
    ) -> None:
        self.name = name
        self.summary = summary
        self.targets = targets
        self.modules = modules
        self.hands_on_order = keeps_axes
        self._to_move = to_move
        self._cases = cases

    def read(self, call: Call) -> Move:
        return self._to_move(call)

    def tie_channels(
        self, attributes: Move, inputs: Sequence[Axes], shape: tuple[int, ...], ties: Ties
    ) -> Axes:
        return attributes.labels(inputs[0], ties)

    def infer(self, site: Site[Move]) -> TensorType:
        (x,), shape = site.inputs, site.exact.shape
        layout = chosen_layout(site.attributes, x.shape, x.layout, shape, site.exact.layout)
        if isinstance(layout, str) and site.exact.layout != FREE_LAYOUT:
            # Not as the reader wants it, who brings it into its order then.
            layout = chosen_layout(site.attributes, x.shape, x.layout, shape, FREE_LAYOUT)
        if isinstance(layout, str):
            parts = divided(site.attributes, x.shape, x.layout, shape, site.exact.layout)
            if parts:
                return replace(self._after(site, parts), shape=shape)
            raise UnsupportedOpError(
                f"node '{site.name}': operator '{self.name}' {layout}; "
                "use slices, permutations and whole factors"
            )
        if site.attributes.constant is None:
            return replace(x, shape=shape, layout=layout)
        frac_width, fill = _constant(site)
        shift = frac_width - x.fixed.frac_width
        low, high = min(x.low << shift, fill), max(x.high << shift, fill)
        if shift == 0 and _is_level(fill, x):
            return replace(x, shape=shape, layout=layout, low=low, high=high)
        return TensorType.bounded(shape, low, high, frac_width, layout)

    def commutes_with_casts(self, attributes: Move) -> bool:
        return not attributes.constant

    def infer_scale(self, site: Site[Move]) -> Scale | None:
        (x,) = site.inputs
        if x.scale is not None and x.scale.per_channel:
            raise UnsupportedOpError(
                f"node '{site.name}': moves elements of a tensor with a scale per channel; "
                "give the layer before it a data_out format, or one scale for all of its weights"
            )
        return x.scale

    def define(self, site: Site[Move], inputs: Sequence[Value]) -> Value:
        if site.attributes.constant is None:
            return site.attributes.write(inputs[0])
        frac_width, fill = _constant(site)
        x = inputs[0].shift_left(frac_width - site.inputs[0].fixed.frac_width)
        return site.attributes.write(x, fill)

    def stages(self, site: Site[Move]) -> tuple[Stage[Move], ...]:
        (x,), y = site.inputs, site.exact
        layout = order_read(site.attributes, x.shape, x.layout, y.shape, y.layout)
        if layout == FREE_LAYOUT:
            return self._divided_stages(site)
        if layout == x.layout:
            return (Stage(self, site),)
        # In two steps: the order that the result has, then the move itself.
        middle = replace(x, layout=layout)
        first: Site[Move] = Site(
            f"{site.name}_reorder", Move(()), (x,), {}, site.rounding, middle, middle
        )
        return Stage(self, first), Stage(self, replace(site, inputs=(middle,)))

    def _divided_stages(self, site: Site[Move]) -> tuple[Stage[Move], ...]:
        """Returns the units of a move that takes several, one behind the other."""
        (x,), y = site.inputs, site.exact
        parts = divided(site.attributes, x.shape, x.layout, y.shape, y.layout)
        stages: list[Stage[Move]] = []
        for number, (move, _, _) in enumerate(parts):
            last = number == len(parts) - 1
            after = y if last else self._after(site, parts[: number + 1])
            name = site.name if last else f"{site.name}_step{number}"
            own: Site[Move] = Site(name, move, (x,), {}, site.rounding, after, after)
            if not self.is_wired(own) or last:
                stages += self.stages(replace(own, output=site.output) if last else own)
            x = after
        return tuple(stages)

    def _after(
        self, site: Site[Move], parts: Sequence[tuple[Move, tuple[int, ...], Layout]]
    ) -> TensorType:
        """Returns the type behind some moves, one behind the other."""
        (x,) = site.inputs
        for move, shape, layout in parts:
            exact = TensorType(shape, layout=layout)
            own: Site[Move] = Site(site.name, move, (x,), {}, site.rounding, exact, exact)
            x = replace(self.infer(own), scale=x.scale)
        return x

    def is_wired(self, site: Site[Move]) -> bool:
        (x,), y = site.inputs, site.exact
        made = passage(site.attributes, x.shape, x.layout, y.shape, y.layout, 1, 1)
        return made is not None and made.kind is Kind.WIRES

    def foldings(self, site: Site[Move]) -> tuple[Folding, ...]:
        (x,) = site.inputs
        return passages(site.attributes, x.shape, x.layout, site.exact.shape, site.exact.layout)

    def bind(self, site: Site[Move], build: Build) -> Binding:
        made, (x,) = _built(site, build), site.inputs
        if made.kind is Kind.PAD:
            frac_width, fill = _constant(site)
            parameters: dict[str, int | str] = {
                "Lanes": made.in_lanes,
                "InWidth": x.fixed.width,
                "InSigned": flag(x.fixed.signed),
                "ShiftLeft": frac_width - x.fixed.frac_width,
                "OutWidth": site.exact.fixed.width,
                "PadValue": f"64'h{fill & ((1 << 64) - 1):x}",
                "OutBeats": made.out_beats,
            }
        else:
            parameters = {
                "ElementWidth": x.stream_width,
                "InLanes": made.in_lanes,
                "OutLanes": made.out_lanes,
                "LaneMap": literal(made.lane_map, 32),
            }
        if made.kind is Kind.REORDER:
            parameters |= {"Beats": made.beats, "Depth": max(build.in_depth, made.beats)}
        return Binding(_MODULES[made.kind], {**parameters, **made.loops()})

    def flow(self, site: Site[Move], build: Build, valid: Sequence[Ints], samples: int) -> Flow:
        return _built(site, build).flow(valid[0], samples)

    def events(
        self, site: Site[Move], build: Build, graph: EventGraph, inputs: Sequence[Offer]
    ) -> Offer:
        return _built(site, build).events(graph, inputs[0], build.in_depth)

    def cost(self, site: Site[Move], build: Build) -> Cost:
        made, width = _built(site, build), site.exact.stream_width
        counters = sum(count.bit_length() for count in made.counts)
        if made.kind is Kind.REORDER:
            depth, bits = max(build.in_depth, made.beats), made.in_lanes * width
            index = depth.bit_length()
            block = depth * bits > _LUT_RAM_BITS
            luts = 8 * index + 3 * counters + (0 if block else 6 * -(-depth // 16) * -(-bits // 4))
            brams = block_rams(depth, bits) if block else 0
            return Cost(luts, 4 * index + counters + (0 if block else bits), 0, brams)
        bits = made.out_lanes * width
        gap = max(self_gap.bit_length() for self_gap in (*made.moves(True), int(made.places[0])))
        luts = (bits if made.kind is Kind.PAD else 0) + 3 * counters + 3 * gap
        return Cost(luts, bits + 1 + counters + gap)

    def cases(self) -> tuple[Case, ...]:
        return self._cases


class Spelled(nn.Module):
    """A case of one expression."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def _constant(site: Site[Move]) -> tuple[int, int]:
    """Returns the fraction of the result and the constant's integer in it."""
    (x,), constant = site.inputs, site.attributes.constant
    assert constant is not None
    factor = Fraction(1) if x.scale is None else x.scale.factors[0]
    exact = constant / factor
    if exact.denominator & (exact.denominator - 1):
        raise UnsupportedOpError(
            f"node '{site.name}': the constant {float(constant):g} is no multiple of a step of its "
            f"input, of scale {x.scale}; pad with 0, or cast the input to fixed point first"
        )
    frac_width = max(x.fixed.frac_width, exact.denominator.bit_length() - 1)
    if exact == 0:
        frac_width = x.fixed.frac_width
    return frac_width, int(exact * Fraction(2) ** frac_width)


def _is_level(integer: int, type: TensorType) -> bool:
    format = type.format
    if format is None or not format.low <= integer <= format.high:
        return False
    levels = format.levels()
    return levels is None or integer in levels


def _passage(site: Site[Move], in_lanes: int, out_lanes: int) -> Passage:
    (x,), y = site.inputs, site.exact
    lanes = (in_lanes, out_lanes)
    made = passage(site.attributes, x.shape, x.layout, y.shape, y.layout, *lanes)
    assert made is not None, f"node '{site.name}': lanes {lanes}"
    return made


def _built(site: Site[Move], build: Build) -> Passage:
    return _passage(site, build.folding.in_lanes, build.folding.out_lanes)
