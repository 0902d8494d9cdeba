"""Calls that change a tensor in place: who reads it afterwards reads the result."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from torch import fx, nn

from chop.errors import CaptureError

__all__ = ["drop_unread", "is_in_place", "later_readers", "read_results"]

# And what says the same where the operand is not read again.
_OPERATORS: dict[object, Callable[..., Any]] = {
    getattr(operator, f"i{name}"): getattr(operator, name)
    for name in ("add", "sub", "mul", "truediv", "pow", "floordiv", "mod", "matmul")
}
# What may give its input's memory, or the input itself.
_VIEWS = {
    *("view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "ravel", "squeeze"),
    *("unsqueeze", "transpose", "permute", "t", "swapaxes", "swapdims", "movedim", "moveaxis"),
    *("expand", "expand_as", "broadcast_to", "narrow", "select", "getitem", "__getitem__"),
    *("getattr", "part", "split", "split_with_sizes", "chunk", "unbind", "tensor_split", "detach"),
    *("contiguous", "float", "double", "to", "cpu", "type", "type_as", "diagonal", "unfold"),
    *("as_strided", "dropout", "dropout1d", "dropout2d", "alpha_dropout", "feature_alpha_dropout"),
    *("Identity", "Dropout", "Dropout1d", "Dropout2d", "AlphaDropout", "Flatten", "Unflatten"),
    *("hsplit", "vsplit", "dsplit", "adjoint", "real", "requires_grad_"),
}


def is_in_place(node: fx.Node, module: nn.Module | None) -> bool:
    """Returns whether a call changes its first argument; `module` is the one that it calls."""
    if module is not None:
        return bool(getattr(module, "inplace", False))
    if node.op not in ("call_function", "call_method"):
        return False
    name = _name(node)
    method = name.endswith("_") and not name.endswith("__")
    return method or node.target in _OPERATORS or bool(node.kwargs.get("inplace", False))


def later_readers(node: fx.Node, root: nn.Module) -> list[fx.Node]:
    """Returns the nodes that read, under another name, what a node has changed in place."""
    order = {other: number for number, other in enumerate(node.graph.nodes)}
    memory = _memory(node, root)
    return [
        user
        for other in node.graph.nodes
        if order[other] < order[node] and _memory(other, root) is memory
        for user in other.users
        if order[user] > order[node]
    ]


def read_results(graph: fx.Graph, root: nn.Module) -> None:
    """Makes those who read a tensor after a change in place read the result of the change.

    Where the tensor has several names (views), they stay as they are: `later_readers` has them.
    Raises CaptureError for a change of the model's own tensors.
    """
    for node in list(graph.nodes):
        if not is_in_place(node, _module(node, root)) or not node.all_input_nodes:
            continue
        if _memory(node, root).op == "get_attr":
            raise CaptureError(
                f"node '{node.name}': '{_name(node)}' changes '{_memory(node, root).target}', "
                "which the model keeps from call to call; use the form that returns a new tensor"
            )
        changed, readers = node.all_input_nodes[0], later_readers(node, root)
        if all(changed in reader.all_input_nodes for reader in readers):
            views = [r for r in readers if len(set(r.all_input_nodes) & _aliases(node, root)) > 1]
            for reader in readers if not views else ():
                reader.replace_input_with(changed, node)
        if node.target in _OPERATORS and not later_readers(node, root):
            node.target = _OPERATORS[node.target]


def drop_unread(graph: fx.Graph, root: nn.Module) -> None:
    """Erases the nodes that nothing reads, but for changes of what is read elsewhere."""
    for node in reversed(list(graph.nodes)):
        if node.users or node.op in ("placeholder", "output"):
            continue
        if not (is_in_place(node, _module(node, root)) and later_readers(node, root)):
            graph.erase_node(node)


def _aliases(node: fx.Node, root: nn.Module) -> set[fx.Node]:
    """Returns the nodes before one that share its memory."""
    found = set()
    for other in node.graph.nodes:
        if other is node:
            break
        if _memory(other, root) is _memory(node, root):
            found.add(other)
    return found


def _memory(node: fx.Node, root: nn.Module) -> fx.Node:
    """Returns the node whose memory a node's value may be."""
    while node.all_input_nodes and _may_share(node, root):
        node = node.all_input_nodes[0]
    return node


def _may_share(node: fx.Node, root: nn.Module) -> bool:
    module = _module(node, root)
    name = type(module).__name__ if module is not None else _name(node)
    return name in _VIEWS or is_in_place(node, module)


def _module(node: fx.Node, root: nn.Module) -> nn.Module | None:
    return root.get_submodule(str(node.target)) if node.op == "call_module" else None


def _name(node: fx.Node) -> str:
    if node.op not in ("call_function", "call_method"):
        return ""
    target = node.target
    return target if isinstance(target, str) else getattr(target, "__name__", "")
