"""In which order a stream carries its elements where that is free: as its first reader wants."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn

from chop.ir.meta import meta_of
from chop.ir.tensor_type import Layout, TensorType, channels_last
from chop.ops.base import StreamOrder
from chop.ops.registry import candidates

__all__ = ["wanted_layout"]

Shape = tuple[int, ...]


def wanted_layout(
    node: fx.Node,
    values: Mapping[fx.Node, Any],
    module_at: Callable[[fx.Node], nn.Module | None],
    otherwise: Layout,
) -> Layout:
    """Returns the layout of a node's stream that serves the first reader that wants one.

    Operators that take any order hand on what is read to their own readers, as long as they keep
    the elements; those that join, cut or repeat tensors want of them what is wanted of the result;
    those of two operands of one shape want the order of the one that is there already.
    `values` are those of the nodes in a batch.
    """
    # Nodes, and the shape in which the first of those operators on the way reads the stream.
    waiting: list[tuple[fx.Node, Shape | None]] = [(node, None)]
    seen = {node}
    while waiting:
        source, read = waiting.pop(0)
        for user in source.users:
            value = values.get(user, values[source])
            if user in seen or not isinstance(value, torch.Tensor):
                continue
            seen.add(user)
            # Operators of any arity: which nodes carry data is not known ahead.
            ops = candidates(user, module_at(user))
            shape = tuple(values[source].shape[1:])
            orders = [order for op in ops if (order := op.reads(shape)) is not StreamOrder.ANY]
            if orders and orders[0] is StreamOrder.ROWS:
                return None
            if orders and len(read or shape) in (2, 3):
                return channels_last(read or shape)
            keeps = _same(value, values[source])
            if not orders and read is None and keeps:
                other = _beside(user, source, node, value)
                if other is not None:
                    return other.layout
            if any(op.hands_on_order for op in ops):
                waiting.append((user, read or shape))
            elif ops and keeps and not any(op.moves_elements or op.gives_any_order for op in ops):
                waiting.append((user, read))
    return otherwise


def _beside(
    user: fx.Node, source: fx.Node, node: fx.Node, value: torch.Tensor
) -> TensorType | None:
    """Returns the other operand of a join element by element, where its order is settled."""
    for other in user.all_input_nodes:
        common = meta_of(other).common
        # Nodes behind this one may change theirs.
        if other is source or common is None or not (common.carries_data and other < node):
            continue
        if common.output.exact and common.output.shape == tuple(value.shape[1:]):
            return common.output
    return None


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether a sample has as many elements in both."""
    return math.prod(a.shape[1:]) == math.prod(b.shape[1:])
