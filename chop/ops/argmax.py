"""argmax: the index of the largest element along an axis, the first of equal ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from chop.errors import UnsupportedOpError
from chop.formats.rounding import Ints
from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.meta import Cost, Folding
from chop.ir.tensor_type import TensorType, stream_permutation
from chop.ops.base import Binding, Build, Call, Case, Op, Site
from chop.ops.elementwise import flag
from chop.ops.timing import Flow

__all__ = ["Argmax"]


@dataclass(frozen=True, slots=True)
class ArgmaxAttributes:
    """The axis of a sample, and the shape of the result."""

    axis: int
    shape: tuple[int, ...]


class Argmax(Op[ArgmaxAttributes]):
    name = "argmax"
    summary = "the index of the largest element along an axis, the first of equal ones"
    targets = (torch.argmax, "argmax")
    module = "chop_argmax"
    cycles = "elements / lanes; latency 2 behind the last element of a row"
    limits = "along the channels of an image, else along the last axis"
    gives_indices = True

    def read(self, call: Call) -> ArgmaxAttributes:
        rank = len(call.input_shapes[0]) + 1
        dim = call.argument(1, "dim")
        if dim is None:
            raise call.refuse("argmax without an axis counts through the batch", "give it dim=1")
        if dim % rank == 0:
            raise call.refuse("argmax over the batch", "give it another dim")
        return ArgmaxAttributes(dim % rank - 1, call.output_shape)

    def infer(self, site: Site[ArgmaxAttributes]) -> TensorType:
        (x,), axis = site.inputs, site.attributes.axis
        grouped = np.moveaxis(np.arange(x.elements).reshape(x.shape), axis, -1).reshape(-1)
        if not np.array_equal(grouped, stream_permutation(x.elements, x.layout)):
            raise UnsupportedOpError(
                f"node '{site.name}': argmax along axis {axis + 1} of {x.shape}, whose elements "
                "do not follow one another on the stream; take it along the channels of an image, "
                "else along the last axis"
            )
        return TensorType.bounded(site.attributes.shape, 0, x.shape[axis] - 1, 0)

    def infer_scale(self, site: Site[ArgmaxAttributes]) -> Scale | None:
        scale = site.inputs[0].scale
        if scale is not None and scale.per_channel:
            raise UnsupportedOpError(
                f"node '{site.name}': argmax of a tensor with a scale per channel; give it a "
                "data_in format"
            )
        return None

    def define(self, site: Site[ArgmaxAttributes], inputs: Sequence[Value]) -> Value:
        (x,), axis = inputs, site.attributes.axis
        rank, size = len(x.shape), x.shape[axis]
        others = [k for k in range(rank) if k != axis]
        rows = x.permute((*others, axis)).reshape((math.prod(x.shape) // size, size))
        # The largest index counts from the end, so that of equal elements the first has it.
        places = rows * 0 + np.arange(size, 0, -1, dtype=np.int64)
        found = (rows - rows.block_maximum(size)).where_nonnegative(places, places * 0)
        index = found.block_maximum(size).take(1, (0,)) * -1 + size
        return index.clip(0, size - 1).reshape(site.attributes.shape)

    def foldings(self, site: Site[ArgmaxAttributes]) -> tuple[Folding, ...]:
        (x,) = site.inputs
        size = x.shape[site.attributes.axis]
        return tuple(
            Folding(lanes, 1, x.elements // lanes, 0)
            for lanes in range(1, size + 1)
            if size % lanes == 0
        )

    def bind(self, site: Site[ArgmaxAttributes], build: Build) -> Binding:
        (x,) = site.inputs
        return Binding(
            self.module,
            {
                "Lanes": build.folding.in_lanes,
                "Size": x.shape[site.attributes.axis],
                "InWidth": x.fixed.width,
                "InSigned": flag(x.fixed.signed),
                "OutWidth": site.output.fixed.width,
            },
        )

    def flow(
        self, site: Site[ArgmaxAttributes], build: Build, valid: Sequence[Ints], samples: int
    ) -> Flow:
        beats = site.inputs[0].shape[site.attributes.axis] // build.folding.in_lanes
        # The largest of a beat, then of all.
        return Flow((valid[0],), valid[0][beats - 1 :: beats] + 2)

    def cost(self, site: Site[ArgmaxAttributes], build: Build) -> Cost:
        width, index = site.inputs[0].fixed.width, site.output.fixed.width
        nodes = build.folding.in_lanes
        return Cost(nodes * (2 * width + index) + 3 * index, 2 * width + 4 * index + 4)

    def cases(self) -> tuple[Case, ...]:
        return (
            Case("class", _Class(), ((5,),)),
            Case("rows", _Rows(), ((3, 6),)),
            Case("pixels", _Pixels(), ((4, 2, 3),)),
        )


class _Class(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(5, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.argmax(self.inner(x), dim=1)


class _Rows(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.relu().argmax(-1, keepdim=True)


class _Pixels(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.argmax(dim=1)
