"""The straight-through estimator as one fused autograd function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch.autograd.function import once_differentiable

from chop.formats.base import Format
from chop.formats.fake import power_reach
from chop.formats.fixed import Fixed
from chop.formats.rounding import Rounding
from chop.formats.scaled import Scaled
from chop.nn.grid import Grid, Step, step_of

__all__ = ["on_grid", "straight_through"]


class _OnGrid(torch.autograd.Function):
    """y = the nearest level of a grid; dy/dx = 1 inside its range, 0 outside.

    Keeps x for the backward pass: it is alive anyway, and a mask would have to be made first.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, grid: Grid, step: Step) -> torch.Tensor:
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(x)
            ctx.grid, ctx.step = grid, step
        return grid.quantize(x, step)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return ctx.grid.passed(grads[0], x, ctx.step), None, None


class _Masked(torch.autograd.Function):
    """y = the nearest level; dy/dx = 1 where the format says so, 0 elsewhere."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, format: Format, rounding: Rounding) -> torch.Tensor:
        result, inside = format.quantize(x, rounding)
        ctx.save_for_backward(*(() if inside is None else (inside,)))
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        inside = ctx.saved_tensors
        return grads[0] * inside[0] if inside else grads[0], None, None


def on_grid(x: torch.Tensor, grid: Grid, step: Step) -> torch.Tensor:
    """Returns x on the levels of the grid, with gradient 1 inside its range and 0 outside."""
    return cast(Callable[..., torch.Tensor], _OnGrid.apply)(x, grid, step)


def straight_through(x: torch.Tensor, format: Format, rounding: Rounding) -> torch.Tensor:
    """Returns `format.quantize(x)`, with gradient 1 inside the format's range and 0 outside."""
    if isinstance(format, Fixed | Scaled) and _is_normal(format, x.dtype):
        return on_grid(x, Grid(format.low, format.high, rounding), step_of(format, x))
    return cast(Callable[..., torch.Tensor], _Masked.apply)(x, format, rounding)


def _is_normal(format: Fixed | Scaled, dtype: torch.dtype) -> bool:
    """Whether the dtype holds the steps and their inverses in full; constants may be extreme."""
    reach = power_reach(dtype) - 1
    if isinstance(format, Fixed):
        return abs(format.frac_width) <= reach
    return 2.0**-reach <= min(format.scales) and max(format.scales) <= 2.0**reach
