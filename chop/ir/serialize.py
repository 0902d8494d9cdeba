"""Saved graphs: structure, parameters and metadata, loadable without the model's source."""

from __future__ import annotations

import importlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from chop.errors import DataError
from chop.ir.capture import short_trace
from chop.ir.graph import MaseGraph
from chop.ir.meta import KEY

__all__ = ["load_graph", "save_graph"]

_MAGIC = "chop graph 1"


@dataclass(frozen=True, slots=True)
class _Reference:
    """Stands for a node in the saved arguments of another."""

    name: str


@dataclass(frozen=True, slots=True)
class _Function:
    """Stands for a function that pickle does not find: torch makes some inside of others."""

    module: str
    name: str


def save_graph(graph: MaseGraph, path: Path) -> None:
    """Writes the graph with parameters, metadata, history and example inputs to a file.

    Only the modules that are called are saved; they belong to torch.nn or chop.nn, so that a
    process without the model's source can load the file.
    """
    nodes = [
        (
            node.op,
            node.name,
            _named(node.target),
            _refer(node.args),
            _refer(node.kwargs),
            short_trace(node),
            node.meta.get(KEY),
        )
        for node in graph.fx_graph.nodes
    ]
    buffer = io.BytesIO()
    content = {
        "magic": _MAGIC,
        "name": graph.model.__class__.__name__,
        "nodes": nodes,
        "members": _members(graph),
        "training": graph.model.training,
        "info": graph.info,
        "history": graph.history,
        "example_inputs": dict(graph.example_inputs),
    }
    torch.save(content, buffer)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(buffer.getvalue())
    temporary.replace(path)


def load_graph(path: Path) -> MaseGraph:
    """Reads a file of `save_graph`. The file is code: load only what you trust.

    Raises DataError when the file is missing or is not a saved graph.
    """
    try:
        content = torch.load(path, weights_only=False)
    except FileNotFoundError as error:
        raise DataError(f"no saved graph at '{path}'; write one with save_graph") from error
    except Exception as error:
        # torch.load raises whatever its unpickler meets in a foreign file.
        raise DataError(f"'{path}' is not a saved graph: {error}".splitlines()[0]) from error
    if not isinstance(content, dict) or content.get("magic") != _MAGIC:
        raise DataError(f"'{path}' is not a saved graph of this version of chop; save it again")
    root = _root(content["members"])
    made = fx.Graph()
    known: dict[str, fx.Node] = {}
    for op, name, target, args, kwargs, trace, meta in content["nodes"]:
        resolved = _resolve(args, known), _resolve(kwargs, known)
        found = target
        if isinstance(target, _Function):
            found = getattr(importlib.import_module(target.module), target.name)
        node = made.create_node(op, found, *resolved, name=name)
        node.stack_trace = trace
        if meta is not None:
            node.meta[KEY] = meta
        known[name] = node
    module = fx.GraphModule(root, made, content["name"])
    layers = [m for m in content["members"].values() if isinstance(m, nn.Module)]
    modes = [(part, part.training) for layer in layers for part in layer.modules()]
    module.train(content["training"])
    for part, training in modes:
        # train() reached every submodule; each had a mode of its own.
        part.training = training
    graph = MaseGraph(module)
    graph.info = content["info"]
    graph.history = tuple(content["history"])
    graph.example_inputs = content["example_inputs"]
    return graph


def _members(graph: MaseGraph) -> dict[str, Any]:
    """Returns every module, parameter and buffer that a node refers to, by qualified name."""
    found: dict[str, Any] = {}
    for node in graph.fx_graph.nodes:
        if node.op == "call_module":
            found[str(node.target)] = graph.model.get_submodule(str(node.target))
        elif node.op == "get_attr":
            owner, _, name = str(node.target).rpartition(".")
            found[str(node.target)] = getattr(graph.model.get_submodule(owner), name)
    return found


def _root(members: dict[str, Any]) -> nn.Module:
    root = nn.Module()
    for target, member in members.items():
        owner: nn.Module = root
        *path, name = target.split(".")
        for part in path:
            if part not in dict(owner.named_children()):
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        if isinstance(member, torch.Tensor) and not isinstance(member, nn.Parameter):
            owner.register_buffer(name, member)
        else:
            setattr(owner, name, member)
    return root


def _named(target: Any) -> Any:
    """Returns the target, or the place where it is found if its own name does not say it."""
    name = getattr(target, "__name__", "")
    module = sys.modules.get(str(getattr(target, "__module__", "")))
    if module is None or name == getattr(target, "__qualname__", name):
        return target
    return _Function(module.__name__, name) if getattr(module, name, None) is target else target


def _refer(argument: Any) -> Any:
    """Returns the argument with nodes as references."""
    map_arg: Any = fx.node.map_arg
    return map_arg(argument, lambda node: _Reference(node.name))


def _resolve(argument: Any, known: dict[str, fx.Node]) -> Any:
    """Returns the argument with references as nodes; containers keep their type."""
    if isinstance(argument, _Reference):
        return known[argument.name]
    if isinstance(argument, tuple | list):
        return type(argument)(_resolve(item, known) for item in argument)
    if isinstance(argument, dict):
        return {key: _resolve(value, known) for key, value in argument.items()}
    if isinstance(argument, slice):
        return slice(*(_resolve(v, known) for v in (argument.start, argument.stop, argument.step)))
    return argument
