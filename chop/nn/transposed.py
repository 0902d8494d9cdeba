"""Transposed convolutions with their outputs on the first axis of the weight."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

__all__ = ["TransposedConv"]


class TransposedConv(nn.Module):
    """conv_transpose1d or conv_transpose2d, without groups or dilation.

    The weight is [out, in, *kernel], so that formats per channel are per output; PyTorch's own has
    the two axes the other way round.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        output_padding: tuple[int, ...],
    ) -> None:
        """Takes the weight of PyTorch, [in, out, *kernel], and copies it."""
        super().__init__()
        turned = weight.detach().transpose(0, 1).clone(memory_format=torch.contiguous_format)
        self.weight = nn.Parameter(turned, weight.requires_grad)
        self.bias: nn.Parameter | None = None
        if bias is not None:
            self.bias = nn.Parameter(bias.detach().clone(), bias.requires_grad)
        self.stride = stride
        self.padding = padding
        self.output_padding = output_padding

    @property
    def kernel_size(self) -> tuple[int, ...]:
        return tuple(self.weight.shape[2:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        is_line = self.weight.dim() == 3
        transposed = functional.conv_transpose1d if is_line else functional.conv_transpose2d
        weight = self.weight.transpose(0, 1)
        result: torch.Tensor = transposed(
            x, weight, self.bias, self.stride, self.padding, self.output_padding
        )
        return result

    def extra_repr(self) -> str:
        outputs, inputs = self.weight.shape[:2]
        return (
            f"{inputs}, {outputs}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, output_padding={self.output_padding}"
        )
