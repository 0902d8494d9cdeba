"""relu: y = max(x, 0)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from chop.formats.base import Format
from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.tensor_type import TensorType
from chop.ops.base import Binding, Build, Call, Case, Op, Site
from chop.ops.elementwise import elementwise_parameters

__all__ = ["Relu"]


@dataclass(frozen=True, slots=True)
class ReluAttributes:
    """Nothing: the function has no options."""


class Relu(Op[ReluAttributes]):
    name = "relu"
    summary = "y = max(x, 0)"
    targets = (nn.ReLU, functional.relu, torch.relu, torch.relu_, "relu", "relu_")
    module = "chop_relu"
    absorbs_cast = True
    is_elementwise = True
    is_positively_homogeneous = True

    def read(self, call: Call) -> ReluAttributes:
        return ReluAttributes()

    def infer(self, site: Site[ReluAttributes]) -> TensorType:
        (x,) = site.inputs
        low, high = max(x.low, 0), max(x.high, 0)
        return TensorType.bounded(x.shape, low, high, x.fixed.frac_width, x.layout)

    def infer_scale(self, site: Site[ReluAttributes]) -> Scale | None:
        return site.inputs[0].scale

    def define(self, site: Site[ReluAttributes], inputs: Sequence[Value]) -> Value:
        return inputs[0].maximum(0)

    def commutes_with_casts(self, attributes: ReluAttributes) -> bool:
        return True

    def absorbed_by(self, site: Site[ReluAttributes], format: Format) -> bool:
        # What is below zero goes to the lowest level, as zero does.
        return format.low == 0

    def bind(self, site: Site[ReluAttributes], build: Build) -> Binding:
        return Binding(self.module, elementwise_parameters(site, build))

    def cases(self) -> tuple[Case, ...]:
        return (
            Case("module", nn.ReLU(), ((6,),)),
            Case("function", _Spelled("function"), ((4,),)),
            Case("method", _Spelled("method"), ((4,),)),
        )


class _Spelled(nn.Module):
    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.spelling = spelling

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.relu() if self.spelling == "method" else functional.relu(x)
