"""Inputs for a model that comes without a data set."""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["RANDOM_SAMPLES", "random_inputs"]

RANDOM_SAMPLES = 256


def random_inputs(
    shapes: Sequence[Sequence[int]], samples: int, seed: int
) -> tuple[torch.Tensor, ...]:
    """Returns one tensor [samples, *shape] of standard normal values per shape."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(samples, *shape, generator=generator) for shape in shapes)
