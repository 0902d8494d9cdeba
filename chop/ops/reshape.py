"""reshape: the same elements in another shape; flatten, view and squeeze are reshapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from chop.errors import UnsupportedOpError
from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.tensor_type import TensorType
from chop.ops.base import Call, Case, Op, Site
from chop.ops.channels import Axes, Ties, reshaped

__all__ = ["Reshape"]


@dataclass(frozen=True, slots=True)
class ReshapeAttributes:
    """The shape of the result, without the batch."""

    shape: tuple[int, ...]


class Reshape(Op[ReshapeAttributes]):
    name = "reshape"
    summary = "another shape, same elements: flatten, unflatten, view, reshape, squeeze, unsqueeze"
    targets = (
        nn.Flatten,
        nn.Unflatten,
        torch.flatten,
        torch.unflatten,
        torch.reshape,
        torch.squeeze,
        torch.unsqueeze,
        "flatten",
        "unflatten",
        "view",
        "reshape",
        "squeeze",
        "unsqueeze",
    )
    module = None
    limits = "view of another dtype is refused"
    is_layout = True

    def read(self, call: Call) -> ReshapeAttributes:
        if call.spelling == "view" and call.args[1:] and isinstance(call.args[1], torch.dtype):
            raise call.refuse("view of another dtype has no exact meaning", "use a cast")
        return ReshapeAttributes(call.output_shape)

    def tie_channels(
        self,
        attributes: ReshapeAttributes,
        inputs: Sequence[Axes],
        shape: tuple[int, ...],
        ties: Ties,
    ) -> Axes:
        return reshaped(inputs[0], shape, ties)

    def infer(self, site: Site[ReshapeAttributes]) -> TensorType:
        return replace(site.inputs[0], shape=site.attributes.shape)

    def infer_scale(self, site: Site[ReshapeAttributes]) -> Scale | None:
        (x,) = site.inputs
        if x.scale is not None and x.scale.per_channel:
            raise UnsupportedOpError(
                f"node '{site.name}': reshapes a tensor with a scale per channel; "
                "give the layer before it a data_out format, or one scale for all of its weights"
            )
        return x.scale

    def define(self, site: Site[ReshapeAttributes], inputs: Sequence[Value]) -> Value:
        return inputs[0].reshape(site.attributes.shape)

    def cases(self) -> tuple[Case, ...]:
        return (
            Case("flatten", nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), ((3, 2, 2),)),
            Case("view", _Spelled("view"), ((2, 6),)),
            Case("reshape", _Spelled("reshape"), ((12,),)),
            Case("squeeze", _Spelled("squeeze"), ((4,),)),
        )


class _Spelled(nn.Module):
    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.spelling = spelling

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.spelling == "view":
            return x.view(x.size(0), -1)
        if self.spelling == "reshape":
            return torch.flatten(x.reshape(x.shape[0], 3, 4), 1)
        return torch.squeeze(x.unsqueeze(1), 1).relu()
