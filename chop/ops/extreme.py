"""extreme: y = max(a, b) or min(a, b) of two tensors, one of which may be broadcast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from chop.errors import FormatError
from chop.formats.rounding import Ints
from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.meta import Cost, Folding
from chop.ir.tensor_type import Layout, TensorType
from chop.ops.base import Binding, Build, Call, Case, Op, Site
from chop.ops.elementwise import elementwise_parameters, flag
from chop.ops.events import EventGraph, Offer
from chop.ops.operands import (
    check_shapes,
    operand_foldings,
    operand_layouts,
    operand_parameters,
    operands_cost,
    operands_events,
    operands_flow,
    result_layout,
    spreads_of,
)
from chop.ops.timing import Flow

__all__ = ["Extreme"]

_MINIMA = (torch.minimum, torch.min, torch.fmin, "minimum", "min", "fmin")


@dataclass(frozen=True, slots=True)
class ExtremeAttributes:
    """Whether the smaller of the two is taken."""

    minimum: bool


class Extreme(Op[ExtremeAttributes]):
    name = "extreme"
    summary = "y = max(a, b) or min(a, b) of two tensors, one of which may be broadcast"
    targets = (
        *(torch.maximum, torch.max, torch.fmax, "maximum", "max", "fmax"),
        *_MINIMA,
    )
    arity = 2
    module = "chop_extreme"
    cycles = "elements / lanes; latency 1 behind the later operand"
    limits = "operands of one rank; quantize casts two scales to one"
    absorbs_cast = True
    is_elementwise = True

    def read(self, call: Call) -> ExtremeAttributes:
        check_shapes(call)
        return ExtremeAttributes(call.node.target in _MINIMA)

    def commutes_with_casts(self, attributes: ExtremeAttributes) -> bool:
        return True

    def stream_layouts(self, site: Site[ExtremeAttributes]) -> tuple[Layout, ...]:
        return operand_layouts(site)

    def infer(self, site: Site[ExtremeAttributes]) -> TensorType:
        spreads_of(site)
        low, high = self.program(site).bounds
        frac_width = _frac_width(site)
        return TensorType.bounded(site.exact.shape, low, high, frac_width, result_layout(site))

    def infer_scale(self, site: Site[ExtremeAttributes]) -> Scale | None:
        a, b = (t.scale for t in site.inputs)
        if a != b:
            raise FormatError(
                f"tensors of the scales {a or 'x1'} and {b or 'x1'} cannot be compared; cast both "
                "to one format first (data_in)"
            )
        return a

    def define(self, site: Site[ExtremeAttributes], inputs: Sequence[Value]) -> Value:
        a, b = (x.shift_left(shift) for x, shift in zip(inputs, _shifts(site), strict=True))
        return a.minimum(b) if site.attributes.minimum else a.maximum(b)

    def foldings(self, site: Site[ExtremeAttributes]) -> tuple[Folding, ...]:
        return operand_foldings(site)

    def bind(self, site: Site[ExtremeAttributes], build: Build) -> Binding:
        result = elementwise_parameters(site, build)
        kept = ("OutWidth", "OutSigned", "ShiftRight", "ShiftLeft", "Rounding")
        a_shift, b_shift = _shifts(site)
        return Binding(
            self.module,
            {
                **operand_parameters(site, build),
                "AShiftLeft": a_shift,
                "BShiftLeft": b_shift,
                "Minimum": flag(site.attributes.minimum),
                **{name: result[name] for name in kept},
            },
            ("a_", "b_"),
        )

    def flow(
        self, site: Site[ExtremeAttributes], build: Build, valid: Sequence[Ints], samples: int
    ) -> Flow:
        return operands_flow(site, build, valid, samples, 1)

    def events(
        self,
        site: Site[ExtremeAttributes],
        build: Build,
        graph: EventGraph,
        inputs: Sequence[Offer],
    ) -> Offer:
        return operands_events(site, build, graph, inputs, 1)

    def cost(self, site: Site[ExtremeAttributes], build: Build) -> Cost:
        lanes, width = build.folding.out_lanes, site.exact.fixed.width
        own = Cost(luts=2 * lanes * width)
        return super().cost(site, build) + own + operands_cost(site, build)

    def cases(self) -> tuple[Case, ...]:
        return (
            Case("maximum", _Extremes(), ((6,), (6,))),
            Case("broadcast", _Larger(), ((1, 2, 2), (4, 2, 2))),
        )


class _Extremes(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.maximum(a, b), torch.min(a.relu(), b)


class _Larger(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a.maximum(b)


def _frac_width(site: Site[ExtremeAttributes]) -> int:
    return max(t.fixed.frac_width for t in site.inputs)


def _shifts(site: Site[ExtremeAttributes]) -> tuple[int, int]:
    a, b = (_frac_width(site) - t.fixed.frac_width for t in site.inputs)
    return a, b
