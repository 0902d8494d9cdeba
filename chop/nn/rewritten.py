"""Float constants that a pass has changed behind the quantisers, and the way back from there."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from chop.nn.layers import QuantizedLayer

__all__ = ["restore_constants", "rewrite_constant"]


def rewrite_constant(layer: QuantizedLayer, name: str, values: torch.Tensor) -> None:
    """Gives a parameter of the inner layer new values, and keeps those that it had at first.

    Both are kept in buffers outside the state: copies and saved graphs have them, checkpoints not.
    """
    parameter = layer.layer.get_parameter(name)
    first, last = f"first_{name}", f"last_{name}"
    if not _is_as_written(layer, name):
        layer.register_buffer(first, parameter.detach().clone(), persistent=False)
    with torch.no_grad():
        parameter.copy_(values)
    layer.register_buffer(last, parameter.detach().clone(), persistent=False)


def restore_constants(layer: QuantizedLayer, names: Iterable[str] = ("weight", "bias")) -> None:
    """Gives parameters that were rewritten their first values again.

    One that was trained since then keeps what training made of it.
    """
    for name in names:
        if _is_as_written(layer, name):
            with torch.no_grad():
                layer.layer.get_parameter(name).copy_(layer.get_buffer(f"first_{name}"))
        for buffer in (f"first_{name}", f"last_{name}"):
            layer._buffers.pop(buffer, None)
            layer._non_persistent_buffers_set.discard(buffer)


def _is_as_written(layer: QuantizedLayer, name: str) -> bool:
    last = layer._buffers.get(f"last_{name}")
    return last is not None and torch.equal(layer.layer.get_parameter(name), last)
