"""In which order a stream carries its elements where that is free: as its first reader wants."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn

from chop.ir.tensor_type import Layout, channels_last
from chop.ops.base import StreamOrder
from chop.ops.registry import candidates

__all__ = ["wanted_layout"]


def wanted_layout(
    node: fx.Node,
    values: Mapping[fx.Node, Any],
    module_at: Callable[[fx.Node], nn.Module | None],
    otherwise: Layout,
) -> Layout:
    """Returns the layout of a node's stream that serves the first reader that wants one.

    Operators that take any order hand on what is read to their own readers, as long as they keep
    the elements. `values` are those of the nodes in a batch.
    """
    size = _elements(values[node])
    waiting, seen = [node], {node}
    while waiting:
        source = waiting.pop(0)
        for user in source.users:
            value = values.get(user, values[source])
            if user in seen or not isinstance(value, torch.Tensor):
                continue
            seen.add(user)
            # Operators of any arity: which nodes carry data is not known ahead.
            ops = candidates(user, module_at(user))
            shape = tuple(values[source].shape[1:])
            orders = [order for op in ops if (order := op.reads(shape)) is not StreamOrder.ANY]
            if orders:
                return channels_last(shape) if orders[0] is StreamOrder.CHANNELS else None
            # What moves elements has an order of its own.
            if ops and _elements(value) == size and not any(op.moves_elements for op in ops):
                waiting.append(user)
    return otherwise


def _elements(value: torch.Tensor) -> int:
    return math.prod(value.shape[1:])
