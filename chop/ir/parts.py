"""One part of a tensor that is split: what a call that returns several tensors becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

__all__ = ["SPLITTERS", "one_node_for_each_part", "part"]

# Functions and methods that cut a tensor into several, by name.
SPLITTERS: Mapping[str, Callable[..., Any]] = {
    "split": torch.split,
    "chunk": torch.chunk,
    "tensor_split": torch.tensor_split,
    "unbind": torch.unbind,
    "Tensor.split": torch.Tensor.split,
    "Tensor.chunk": torch.Tensor.chunk,
    "Tensor.tensor_split": torch.Tensor.tensor_split,
    "Tensor.unbind": torch.Tensor.unbind,
    "Tensor.split_with_sizes": torch.Tensor.split_with_sizes,
}


def part(
    x: torch.Tensor, splitter: str, index: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> torch.Tensor:
    """Returns one of the tensors into which a splitter, a name of SPLITTERS, cuts x."""
    found: torch.Tensor = SPLITTERS[splitter](x, *args, **kwargs)[index]
    return found


def one_node_for_each_part(graph: fx.Graph) -> None:
    """Makes x.split(2, 1)[0] one node; uses of several parts at once stay as they are."""
    for node in list(graph.nodes):
        name = _splitter(node)
        if name is None:
            continue
        for user in list(node.users):
            index = user.args[1] if _is_getitem(user) and user.args[0] is node else None
            if not isinstance(index, int):
                continue
            if not user.users:
                graph.erase_node(user)
                continue
            args, kwargs = node.args, dict(node.kwargs)
            x = args[0] if args else kwargs.pop("tensor", kwargs.pop("input", None))
            with graph.inserting_before(user):
                made = graph.call_function(part, (x, name, index, tuple(args[1:]), kwargs))
            made.stack_trace = node.stack_trace
            user.replace_all_uses_with(made)
            # The reader of a part keeps its name.
            text = user.name
            graph.erase_node(user)
            made._rename(text)
        if not node.users:
            graph.erase_node(node)


def _splitter(node: fx.Node) -> str | None:
    if node.op == "call_method" and f"Tensor.{node.target}" in SPLITTERS:
        return f"Tensor.{node.target}"
    if node.op != "call_function":
        return None
    names = (name for name, f in SPLITTERS.items() if f is node.target and "." not in name)
    return next(names, None)


def _is_getitem(node: fx.Node) -> bool:
    return node.op == "call_function" and getattr(node.target, "__name__", "") == "getitem"
