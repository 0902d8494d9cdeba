"""Fake quantisation of torch tensors, as the formats share it: few passes, none over booleans.

A comparison into booleans, and a product with them, cost five to ten passes of arithmetic each on
this machine's vector units; so what passes a gradient is 1 and 0 in the dtype of the tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from chop.formats.rounding import Floats, Rounding

if TYPE_CHECKING:
    import torch

__all__ = ["in_float64", "inside", "power_reach", "round_in_place", "round_to_integers"]
__all__ += ["saturate_in_place", "scale_tensor"]


def round_to_integers(scaled: torch.Tensor, rounding: Rounding) -> torch.Tensor:
    """Returns a new tensor: every element rounded to an integer in the given mode."""
    return round_in_place(scaled.clone(), rounding)


def round_in_place(scaled: torch.Tensor, rounding: Rounding) -> torch.Tensor:
    """Rounds every element to an integer in the given mode, and returns the tensor."""
    if rounding is Rounding.HALF_EVEN:
        return scaled.round_()
    if rounding is Rounding.FLOOR:
        return scaled.floor_()
    # floor(x + 0.5) is wrong for the float just under one half; this is exact:
    # floor(x + 1/2) = ceil(floor(2x) / 2).
    return scaled.mul_(2.0).floor_().mul_(0.5).ceil_()


def saturate_in_place(
    scaled: torch.Tensor, low: float, high: float
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Returns the elements clipped to [low, high], and which lay inside (None: all).

    The tensor given is used up.
    """
    import torch

    if not scaled.numel():
        return scaled, None
    least, most = torch.aminmax(scaled)
    if bool((least >= low) & (most <= high)):
        return scaled, None
    clipped = scaled.clamp(low, high)
    return clipped, scaled.eq_(clipped)


def inside(x: torch.Tensor, largest: float) -> torch.Tensor | None:
    """Returns which elements lie in [-largest, largest]; None: all."""
    return saturate_in_place(x.clone(), -largest, largest)[1]


def power_reach(dtype: torch.dtype) -> int:
    """Returns the k up to which both 2^k and 2^-k are normal numbers of the dtype."""
    import torch

    return -int(np.log2(torch.finfo(dtype).smallest_normal))


def in_float64(x: torch.Tensor, function: Callable[[Floats], Floats]) -> torch.Tensor:
    """Returns the function of the elements, computed by NumPy in float64, as a tensor like x."""
    import torch

    values = function(x.detach().to("cpu", torch.float64).numpy())
    return torch.from_numpy(np.ascontiguousarray(values).reshape(x.shape)).to(x)


def scale_tensor(scales: tuple[float, ...], x: torch.Tensor) -> torch.Tensor:
    """Returns the scales as a tensor that broadcasts along axis 0 of x, or the one scale."""
    return _scale_tensor(scales, x.dtype, x.device, x.dim())


@lru_cache(maxsize=256)
def _scale_tensor(
    scales: tuple[float, ...], dtype: torch.dtype, device: torch.device, rank: int
) -> torch.Tensor:
    import torch

    with torch.inference_mode(False):
        tensor = torch.tensor(scales, dtype=dtype, device=device)
    return tensor.reshape(-1, *([1] * (rank - 1))) if len(scales) > 1 else tensor[0]
