"""Multi-layer perceptrons of any sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn

from chop.errors import ConfigError, did_you_mean

__all__ = ["mlp"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "hardtanh": nn.Hardtanh,
    "leaky_relu": lambda: nn.LeakyReLU(0.125),
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
}


def mlp(
    sizes: Sequence[int], activation: str = "relu", batch_norm: bool = False, bias: bool = True
) -> nn.Sequential:
    """Returns linear layers fc1, fc2, ... of the given sizes: [N, sizes[0]] -> [N, sizes[-1]].

    Between two of them stand a batch norm (bn1, ...), where asked for, and the activation (act1,
    ...): relu, relu6, hardtanh or leaky_relu (slope 1/8, a shift in hardware). Raises ConfigError
    for fewer than two sizes, a size below 1 or an unknown activation.
    """
    if not isinstance(sizes, Sequence) or len(sizes) < 2:
        raise ConfigError(f"model 'mlp': sizes must be a list of two or more, got {sizes!r}")
    if any(not isinstance(size, int) or size < 1 for size in sizes):
        raise ConfigError(f"model 'mlp': every size must be an integer above 0, got {list(sizes)}")
    if activation not in _ACTIVATIONS:
        near = did_you_mean(activation, _ACTIVATIONS)
        raise ConfigError(f"model 'mlp': unknown activation '{activation}'{near}")
    layers = nn.Sequential()
    for index, (width_in, width_out) in enumerate(pairwise(sizes), start=1):
        layers.add_module(f"fc{index}", nn.Linear(width_in, width_out, bias=bias))
        if index < len(sizes) - 1:
            if batch_norm:
                layers.add_module(f"bn{index}", nn.BatchNorm1d(width_out))
            layers.add_module(f"act{index}", _ACTIVATIONS[activation]())
    return layers
