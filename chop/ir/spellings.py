"""Spellings that stand for others: rewritten right after the capture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from chop.errors import CaptureError

__all__ = ["plain_layers", "rewrite_spellings"]

# x.expand_as(y) is x.expand(y.size()), and so on.
_AS: Mapping[str, str] = {"expand_as": "expand", "view_as": "view", "reshape_as": "reshape"}
_LARGEST = (torch.max, "max"), (torch.min, "min")
_POOLS: Mapping[object, Callable[..., Any]] = {
    nn.MaxPool1d: functional.max_pool1d,
    nn.MaxPool2d: functional.max_pool2d,
    functional.max_pool1d_with_indices: functional.max_pool1d,
    functional.max_pool2d_with_indices: functional.max_pool2d,
    functional.max_pool1d: functional.max_pool1d,
    functional.max_pool2d: functional.max_pool2d,
}


def rewrite_spellings(graph: fx.Graph, root: nn.Module) -> None:
    """Rewrites what other calls say as well: x.max(1).values, expand_as, .data, pooled values."""
    for node in list(graph.nodes):
        if node.op == "call_method" and node.target in _AS:
            _as_size(graph, node)
        elif node.op == "call_function" and node.target is getattr and node.args[1] == "data":
            _replace(graph, node, "call_method", "detach", node.args[:1])
        elif _is_reduction(node):
            _reduction(graph, node)
        else:
            _pooled(graph, node, root)


def plain_layers(module: fx.GraphModule) -> None:
    """Replaces layers whose weights are computed (weight_norm and the like) by plain ones.

    Raises CaptureError for a layer with other hooks: they would be left out in silence.
    """
    for node in module.graph.nodes:
        if node.op != "call_module":
            continue
        layer = module.get_submodule(node.target)
        hooks = [*layer._forward_pre_hooks.values(), *layer._forward_hooks.values()]
        weights = [hook for hook in hooks if _computes_weights(hook)]
        if len(weights) < len(hooks):
            raise CaptureError(
                f"node '{node.name}': the layer '{node.target}' has forward hooks, which no "
                "hardware runs; remove them before the capture"
            )
        if weights or parametrize.is_parametrized(layer):
            owner, _, name = node.target.rpartition(".")
            setattr(module.get_submodule(owner), name, _plain(layer, weights))


def _computes_weights(hook: Any) -> bool:
    return type(hook).__module__ in ("torch.nn.utils.weight_norm", "torch.nn.utils.spectral_norm")


def _plain(layer: nn.Module, hooks: list[Any]) -> nn.Module:
    """Returns a copy of the layer whose weights are parameters: the present ones."""
    # The class of a parametrised layer is its own, made for its properties: not to be changed.
    computed = parametrize.is_parametrized(layer)
    kind = type(layer).__mro__[1] if computed else type(layer)
    made: nn.Module = object.__new__(kind)
    made.__dict__.update(layer.__dict__)
    made._parameters = dict(layer._parameters)
    made._buffers = dict(layer._buffers)
    made._modules = dict(layer._modules)
    made._forward_pre_hooks = type(layer._forward_pre_hooks)()
    # That of weight_norm reads old checkpoints, and no file can hold it.
    made._load_state_dict_pre_hooks = type(layer._load_state_dict_pre_hooks)()
    mode, layer.training = layer.training, False
    try:
        with torch.no_grad():
            for name in made._modules.pop("parametrizations") if computed else ():  # type: ignore[union-attr]
                _set_weight(made, name, getattr(layer, name))
            for hook in hooks:
                _set_weight(made, hook.name, hook.compute_weight(layer, *_mode(hook)))
    finally:
        layer.training = mode
    return made


def _set_weight(layer: nn.Module, name: str, weight: torch.Tensor) -> None:
    for table in (layer._parameters, layer._buffers):
        for part in [key for key in table if key.startswith(f"{name}_")]:
            del table[part]
    layer.__dict__.pop(name, None)
    layer.register_parameter(name, nn.Parameter(weight.detach().clone()))


def _mode(hook: Any) -> tuple[Any, ...]:
    """Returns the arguments of compute_weight behind the layer."""
    return (False,) if type(hook).__module__.endswith("spectral_norm") else ()


def _replace(
    graph: fx.Graph,
    node: fx.Node,
    kind: str,
    target: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
) -> None:
    with graph.inserting_before(node):
        made = graph.create_node(kind, target, args, dict(kwargs or {}))
    made.stack_trace = node.stack_trace
    node.replace_all_uses_with(made)
    name = node.name
    graph.erase_node(node)
    made._rename(name)


def _as_size(graph: fx.Graph, node: fx.Node) -> None:
    x, other = (*node.args, *node.kwargs.values())
    with graph.inserting_before(node):
        size = graph.call_method("size", (other,))
    size.stack_trace = node.stack_trace
    _replace(graph, node, "call_method", _AS[str(node.target)], (x, size))


def _is_reduction(node: fx.Node) -> bool:
    """Whether it is the largest or smallest element along an axis, with its index."""
    if node.op not in ("call_method", "call_function"):
        return False
    if not any(node.target in names for names in _LARGEST):
        return False
    axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    return isinstance(axis, int)


def _reduction(graph: fx.Graph, node: fx.Node) -> None:
    kwargs = dict(node.kwargs)
    x, *rest = node.args or (kwargs.pop("input"),)
    largest = node.target in _LARGEST[0]
    names = (
        ("amax" if largest else "amin"),
        ("argmax" if largest else "argmin"),
    )
    for user in list(node.users):
        part = _part(user, ("values", "indices"))
        if part is not None and not user.users:
            graph.erase_node(user)
        elif part is not None:
            _replace(graph, user, "call_method", names[part], (x, *rest), kwargs)
    if not node.users:
        graph.erase_node(node)


def _pooled(graph: fx.Graph, node: fx.Node, root: nn.Module) -> None:
    """The first part of a pool that returns its indices, too, is the pool."""
    if node.op == "call_module":
        layer = root.get_submodule(str(node.target))
        if not isinstance(layer, nn.MaxPool1d | nn.MaxPool2d):
            return
        pool = _POOLS[type(layer)]
        sizes = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode)
        args, kwargs = (*node.args, *sizes), dict(node.kwargs)
    elif node.op == "call_function" and node.target in _POOLS:
        pool = _POOLS[node.target]
        args = node.args[:6]
        kwargs = {name: v for name, v in node.kwargs.items() if name != "return_indices"}
    else:
        return
    if not _gives_indices(node, root):
        return
    for user in list(node.users):
        part = _part(user, ())
        if part is not None and not user.users:
            graph.erase_node(user)
        elif part == 0:
            _replace(graph, user, "call_function", pool, args, kwargs)
    if not node.users:
        graph.erase_node(node)


def _gives_indices(node: fx.Node, root: nn.Module) -> bool:
    if node.op == "call_module":
        return bool(getattr(root.get_submodule(str(node.target)), "return_indices", False))
    named = getattr(node.target, "__name__", "").endswith("with_indices")
    return named or bool(node.kwargs.get("return_indices", len(node.args) > 6 and node.args[6]))


def _part(user: fx.Node, names: tuple[str, ...]) -> int | None:
    """Returns which part of a tuple a node takes, by its number or by its name."""
    if user.op != "call_function" or len(user.args) < 2:
        return None
    key = user.args[1]
    if user.target is getattr and key in names:
        return names.index(str(key))
    if getattr(user.target, "__name__", "") == "getitem" and isinstance(key, int):
        return key % 2
    return None
