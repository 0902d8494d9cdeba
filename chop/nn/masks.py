"""Masks: parameters of which some elements were removed, and stay exactly zero from then on.

The mask of a parameter `weight` is the buffer `weight_mask` of its module: true where the element
is kept. So copies, checkpoints, saved graphs and quantised layers have it. Whatever an optimiser
did, the next forward pass finds zeros again, and `hold_zeros` makes them at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import nn

__all__ = ["drop_mask", "hold_zeros", "mask_of", "masked_parameters", "set_mask"]

_SUFFIX = "_mask"


def set_mask(module: nn.Module, name: str, kept: torch.Tensor) -> None:
    """Removes the elements of a parameter where `kept` (its shape, boolean) is false.

    Takes the place of a mask that was there. Raises ValueError for a mask of another shape.
    """
    parameter = module.get_parameter(name)
    if kept.shape != parameter.shape or kept.dtype != torch.bool:
        raise ValueError(
            f"a mask of '{name}' must be boolean {list(parameter.shape)}, "
            f"got {kept.dtype} {list(kept.shape)}"
        )
    module.register_buffer(f"{name}{_SUFFIX}", kept.detach().clone())
    if _before_forward not in module._forward_pre_hooks.values():
        module.register_forward_pre_hook(_before_forward)
    _hold(module)


def drop_mask(module: nn.Module, name: str) -> None:
    """Lets the removed elements of a parameter be trained again; without a mask does nothing."""
    module._buffers.pop(f"{name}{_SUFFIX}", None)
    if not any(_names(module)):
        kept = [(k, h) for k, h in module._forward_pre_hooks.items() if h is not _before_forward]
        module._forward_pre_hooks.clear()
        module._forward_pre_hooks.update(kept)


def mask_of(module: nn.Module, name: str) -> torch.Tensor | None:
    """Returns the mask of a parameter, true where an element is kept; None without one."""
    return module._buffers.get(f"{name}{_SUFFIX}")


def masked_parameters(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Yields every module inside the model with each of its parameters that has a mask."""
    for module in model.modules():
        for name in _names(module):
            yield module, name


def hold_zeros(model: nn.Module) -> None:
    """Sets the removed elements of all parameters to zero: after an optimiser's step."""
    for module in model.modules():
        _hold(module)


def _names(module: nn.Module) -> Iterator[str]:
    for key in list(module._buffers):
        name = key.removesuffix(_SUFFIX)
        if key.endswith(_SUFFIX) and module._parameters.get(name) is not None:
            yield name


def _before_forward(module: nn.Module, inputs: Any) -> None:
    _hold(module)


def _hold(module: nn.Module) -> None:
    for name in _names(module):
        # Inside a quantised layer the place of a parameter holds its levels.
        values = cast(torch.Tensor, module._parameters[name])
        # Through .data: a layer that is called twice must not spoil the first call's gradient. Not
        # by a product: that would leave -0.0 behind.
        values.data.masked_fill_(~module.get_buffer(f"{name}{_SUFFIX}"), 0.0)
