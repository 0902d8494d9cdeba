"""reduce: mean, sum, largest or smallest element over axes of a sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from chop.errors import UnsupportedOpError
from chop.formats.fixed import Fixed
from chop.formats.rounding import Ints, Rounding
from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.meta import Cost, Folding
from chop.ir.tensor_type import TensorType
from chop.nn.fake_quantize import Cast
from chop.ops.base import Binding, Build, Call, Case, Op, Site
from chop.ops.channels import Axes, Ties
from chop.ops.events import EventGraph, Offer
from chop.ops.reduction import (
    Kind,
    Nest,
    last_beats,
    nest_of,
    parts_of_divisor,
    reduce_cost,
    reduce_events,
    reduce_flow,
    reduce_foldings,
    reduce_latency,
    reduce_parameters,
    reduced,
    result_type,
)
from chop.ops.timing import Flow

__all__ = ["Reduce"]

_KINDS = {"mean": Kind.SUM, "sum": Kind.SUM, "amax": Kind.MAXIMUM, "amin": Kind.MINIMUM}


@dataclass(frozen=True, slots=True)
class ReduceAttributes:
    """`axes` of a sample; the result is divided by `divisor`, exactly; its shape."""

    kind: Kind
    axes: tuple[int, ...]
    divisor: int
    shape: tuple[int, ...]


class Reduce(Op[ReduceAttributes]):
    name = "reduce"
    summary = "mean, sum, largest (amax) or smallest (amin) element over axes"
    targets = tuple(t for name in _KINDS for t in (getattr(torch, name), name))
    cycles = "elements / lanes; the last element of a result to the result: 2, more for many lanes"
    limits = (
        "not over the batch; at most two groups of reduced axes that are neighbours on the stream; "
        "a mean of a number of elements that is no power of two has a scale: a cast rounds it"
    )
    module = "chop_reduce"
    absorbs_cast = True
    divides = True

    def read(self, call: Call) -> ReduceAttributes:
        name, rank = call.spelling, len(call.input_shapes[0]) + 1
        dims = call.argument(1, "dim", call.kwargs.get("axis"))
        dims = () if dims is None else dims if isinstance(dims, Sequence) else (dims,)
        if not dims:
            raise call.refuse(
                f"{name} over all axes, the batch among them", f"give it dim, as {name}(dim=1)"
            )
        axes = tuple(sorted(int(dim) % rank - 1 for dim in dims))
        if axes[0] < 0:
            raise call.refuse(f"{name} over the batch", "give it another dim")
        if call.kwargs.get("dtype") is not None:
            raise call.refuse(f"{name} with a dtype", "leave the dtype to the number formats")
        shape = call.input_shapes[0]
        count = math.prod(shape[axis] for axis in axes)
        divisor = count if name == "mean" else 1
        return ReduceAttributes(_KINDS[name], axes, divisor, call.output_shape)

    def tie_channels(
        self,
        attributes: ReduceAttributes,
        inputs: Sequence[Axes],
        shape: tuple[int, ...],
        ties: Ties,
    ) -> Axes:
        (x,), axes = inputs, attributes.axes
        for axis in axes:
            ties.fix(x[axis], "reduces all of them to one")
        if len(shape) == len(x):
            return tuple(np.zeros(1, np.int64) if k in axes else x[k] for k in range(len(x)))
        return tuple(labels for k, labels in enumerate(x) if k not in axes)

    def infer(self, site: Site[ReduceAttributes]) -> TensorType:
        (x,), a = site.inputs, site.attributes
        nest, layout = nest_of(x.shape, x.layout, _marks(site))
        if nest is None:
            raise UnsupportedOpError(
                f"node '{site.name}': reduces axes {[axis + 1 for axis in a.axes]} of {x.shape}, "
                "which lie too far apart on the stream; reduce them one after the other, those "
                "that are neighbours together"
            )
        count = math.prod(x.shape[axis] for axis in a.axes) if a.kind is Kind.SUM else 1
        return result_type(site, x.low * count, x.high * count, a.divisor, layout)

    def infer_scale(self, site: Site[ReduceAttributes]) -> Scale | None:
        (x,), a = site.inputs, site.attributes
        _, scale = parts_of_divisor(a.divisor)
        if x.scale is None:
            return scale
        if not x.scale.per_channel:
            return x.scale.times(scale)
        channel = len(x.shape) - 1 - x.scale.trailing
        if channel in a.axes:
            raise UnsupportedOpError(
                f"node '{site.name}': reduces the axis along which its input has scales; give the "
                "tensor before it one scale (data_in)"
            )
        dropped = 0 if len(a.shape) == len(x.shape) else sum(axis > channel for axis in a.axes)
        return x.scale.behind(x.scale.trailing - dropped).times(scale)

    def define(self, site: Site[ReduceAttributes], inputs: Sequence[Value]) -> Value:
        (x,), a = inputs, site.attributes
        kept = [axis for axis in range(len(x.shape)) if axis not in a.axes]
        shape = (*(x.shape[axis] for axis in kept), math.prod(x.shape[axis] for axis in a.axes))
        return reduced(x.permute((*kept, *a.axes)).reshape(shape), a.kind).reshape(a.shape)

    def foldings(self, site: Site[ReduceAttributes]) -> tuple[Folding, ...]:
        return reduce_foldings(_nest(site))

    def bind(self, site: Site[ReduceAttributes], build: Build) -> Binding:
        kind, nest = site.attributes.kind, _nest(site)
        return Binding(self.module, reduce_parameters(site, kind, nest, build.folding))

    def flow(
        self, site: Site[ReduceAttributes], build: Build, valid: Sequence[Ints], samples: int
    ) -> Flow:
        return reduce_flow(_nest(site), build.folding, valid[0], samples)

    def events(
        self,
        site: Site[ReduceAttributes],
        build: Build,
        graph: EventGraph,
        inputs: Sequence[Offer],
    ) -> Offer:
        nest, folding = _nest(site), build.folding
        latency = reduce_latency(folding.in_lanes // folding.out_lanes)
        return reduce_events(graph, inputs[0], latency, last_beats(nest, folding, 1))

    def cost(self, site: Site[ReduceAttributes], build: Build) -> Cost:
        return reduce_cost(site, site.attributes.kind, _nest(site), build.folding)

    def cases(self) -> tuple[Case, ...]:
        return (
            Case("global_mean", _Reduced("mean", (2, 3)), ((4, 2, 4),)),
            Case("mean_of_six", _Rounded("mean", (2, 3)), ((2, 2, 3),)),
            Case("row_sums", _Reduced("sum", -1), ((3, 6),)),
            Case("column_sums", _Reduced("sum", 1, keepdim=True), ((3, 4),)),
            Case("channel_mean", _Rounded("mean", 1, keepdim=True), ((6, 2, 2),)),
            Case("width_max", _Reduced("amax", 3), ((4, 3, 2),)),
            Case("height_min", _Reduced("amin", 2, keepdim=True), ((2, 3, 4),)),
            Case("apart", _Reduced("sum", (1, 2)), ((3, 2, 4),)),
            Case("rows_apart", _Reduced("amax", (1, 3)), ((3, 2, 4),)),
            Case("all", _Reduced("sum", 1), ((8,),)),
            Case("pixels", _Sequence(), ((2, 2, 3),)),
        )


def _marks(site: Site[ReduceAttributes]) -> list[bool]:
    axes = site.attributes.axes
    return [axis in axes for axis in range(len(site.inputs[0].shape))]


def _nest(site: Site[ReduceAttributes]) -> Nest:
    (x,) = site.inputs
    nest, _ = nest_of(x.shape, x.layout, _marks(site))
    assert nest is not None  # infer refuses it
    return nest


class _Reduced(nn.Module):
    def __init__(self, name: str, dim: int | tuple[int, ...], keepdim: bool = False) -> None:
        super().__init__()
        self.name, self.dim, self.keepdim = name, dim, keepdim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = getattr(torch, self.name)(x, self.dim, keepdim=self.keepdim)
        return result


class _Rounded(_Reduced):
    """The thirds of a mean are rounded by a cast."""

    def __init__(self, name: str, dim: int | tuple[int, ...], keepdim: bool = False) -> None:
        super().__init__(name, dim, keepdim)
        self.cast = Cast(Fixed(9, 5), Rounding.HALF_UP)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.cast(super().forward(x))
        return result


class _Sequence(nn.Module):
    """Axes of a layout that are one axis of the shape; then a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layer(x.flatten(2).mean(2))
        return result
