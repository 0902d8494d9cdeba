"""identity: y = x; dropout is one outside training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.tensor_type import TensorType
from chop.ops.base import Call, Case, Op, Site

__all__ = ["Identity"]


@dataclass(frozen=True, slots=True)
class IdentityAttributes:
    """Nothing: the function has no options that matter outside training."""


class Identity(Op[IdentityAttributes]):
    name = "identity"
    summary = "y = x: identity, dropout (in evaluation), contiguous, clone, detach"
    targets = (
        nn.Identity,
        nn.Dropout,
        nn.Dropout1d,
        nn.Dropout2d,
        nn.AlphaDropout,
        functional.dropout,
        functional.alpha_dropout,
        torch.clone,
        torch.detach,
        "contiguous",
        "clone",
        "detach",
        *("float", "to", "cpu"),
    )
    module = None
    limits = "dropout(training=True) is random and refused"
    is_layout = True
    is_elementwise = True
    is_positively_homogeneous = True

    def read(self, call: Call) -> IdentityAttributes:
        if call.spelling == "dropout" and call.argument(2, "training", True) is True:
            raise call.refuse(
                "dropout with training=True is random",
                "pass training=self.training or use nn.Dropout",
            )
        others = (*call.args[1:], *call.kwargs.values())
        if call.spelling == "to" and any(
            isinstance(other, torch.dtype) and not other.is_floating_point for other in others
        ):
            raise call.refuse("a tensor of whole numbers", "leave the tensor in float")
        return IdentityAttributes()

    def infer(self, site: Site[IdentityAttributes]) -> TensorType:
        return site.inputs[0]

    def infer_scale(self, site: Site[IdentityAttributes]) -> Scale | None:
        return site.inputs[0].scale

    def define(self, site: Site[IdentityAttributes], inputs: Sequence[Value]) -> Value:
        return inputs[0]

    def cases(self) -> tuple[Case, ...]:
        return (
            Case("identity", nn.Sequential(nn.Identity()), ((4,),)),
            Case("dropout", nn.Sequential(nn.Dropout(0.5), nn.ReLU()), ((4,),)),
            Case("function", _Function(), ((4,),)),
        )


class _Function(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(x, 0.5, training=False).contiguous()
