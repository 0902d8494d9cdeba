"""tensor_add: y = a + b or a - b of two tensors, one of which may be broadcast."""

from __future__ import annotations

import operator
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
from chop.nn.result import Sum
from chop.ops.base import Binding, Build, Call, Case, Op, Site
from chop.ops.elementwise import flag
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

__all__ = ["TensorAdd"]

_SUBTRACTIONS = (operator.sub, operator.isub, torch.sub, torch.subtract, "sub", "sub_")


@dataclass(frozen=True, slots=True)
class TensorAddAttributes:
    """Whether the second tensor is subtracted."""

    subtract: bool


class TensorAdd(Op[TensorAddAttributes]):
    name = "tensor_add"
    summary = "y = a + b or a - b of two tensors, one of which may be broadcast"
    targets = (operator.add, operator.iadd, torch.add, "add", "add_", *_SUBTRACTIONS)
    arity = 2
    module = "chop_add"
    cycles = "elements / lanes; latency 1 behind the later operand"
    limits = "operands of one rank; alpha is 1; for two scales see scaled_add"
    absorbs_cast = True
    is_elementwise = True

    def read(self, call: Call) -> TensorAddAttributes:
        if call.argument(2, "alpha", 1) != 1:
            raise call.refuse("alpha other than 1", "multiply the operand by it first")
        check_shapes(call)
        return TensorAddAttributes(call.node.target in _SUBTRACTIONS)

    def result_layer(self, call: Call, inputs: Sequence[TensorType]) -> Sum | None:
        a, b = inputs
        if not (a.exact and b.exact) or a.scale == b.scale:
            return None
        return Sum(self.read(call).subtract)

    def stream_layouts(self, site: Site[TensorAddAttributes]) -> tuple[Layout, ...]:
        return operand_layouts(site)

    def infer(self, site: Site[TensorAddAttributes]) -> TensorType:
        spreads_of(site)
        a, b = site.inputs
        frac_width = max(a.fixed.frac_width, b.fixed.frac_width)
        (a_low, a_high), (b_low, b_high) = (
            (t.low << (shift := frac_width - t.fixed.frac_width), t.high << shift) for t in (a, b)
        )
        if site.attributes.subtract:
            b_low, b_high = -b_high, -b_low
        low, high = a_low + b_low, a_high + b_high
        return TensorType.bounded(site.exact.shape, low, high, frac_width, result_layout(site))

    def infer_scale(self, site: Site[TensorAddAttributes]) -> Scale | None:
        a, b = site.inputs
        if a.scale != b.scale:
            raise FormatError(
                f"a sum of the scales {a.scale or 'x1'} and {b.scale or 'x1'} has no scale of its "
                "own; give it a data_out format"
            )
        return a.scale

    def define(self, site: Site[TensorAddAttributes], inputs: Sequence[Value]) -> Value:
        frac_width = site.exact.fixed.frac_width
        a, b = (
            x.shift_left(frac_width - t.fixed.frac_width)
            for x, t in zip(inputs, site.inputs, strict=True)
        )
        return a - b if site.attributes.subtract else a + b

    def foldings(self, site: Site[TensorAddAttributes]) -> tuple[Folding, ...]:
        return operand_foldings(site)

    def bind(self, site: Site[TensorAddAttributes], build: Build) -> Binding:
        a, b = (t.fixed for t in site.inputs)
        y = site.output.fixed
        # A result finer than both operands only takes them further left.
        frac_width = max(a.frac_width, b.frac_width, y.frac_width)
        return Binding(
            self.module,
            {
                **operand_parameters(site, build),
                "AShiftLeft": frac_width - a.frac_width,
                "BShiftLeft": frac_width - b.frac_width,
                "BNegate": flag(site.attributes.subtract),
                "OutWidth": y.width,
                "OutSigned": flag(y.signed),
                "ShiftRight": frac_width - y.frac_width,
                "Rounding": site.rounding.code,
            },
            inputs=("a_", "b_"),
        )

    def flow(
        self,
        site: Site[TensorAddAttributes],
        build: Build,
        valid: Sequence[Ints],
        samples: int,
    ) -> Flow:
        return operands_flow(site, build, valid, samples, 1)

    def events(
        self,
        site: Site[TensorAddAttributes],
        build: Build,
        graph: EventGraph,
        inputs: Sequence[Offer],
    ) -> Offer:
        return operands_events(site, build, graph, inputs, 1)

    def cost(self, site: Site[TensorAddAttributes], build: Build) -> Cost:
        lanes, width = build.folding.out_lanes, site.exact.fixed.width
        own = Cost(luts=lanes * width)
        return super().cost(site, build) + own + operands_cost(site, build)

    def cases(self) -> tuple[Case, ...]:
        return (
            Case("inputs", _Sum(), ((6,), (6,))),
            Case("residual", _Residual(), ((6,),)),
            Case("twice", _Twice(), ((4,),)),
            Case("broadcast", _Bias(), ((4, 2, 2), (4, 1, 1))),
        )


class _Sum(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return a + b, torch.sub(a, b.relu())


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner: torch.Tensor = self.inner(x.relu())
        return x + inner


class _Bias(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return a + b, b - a


class _Twice(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x
