"""Capture of a model as a static torch.fx graph, or a refusal that says where and why."""

from __future__ import annotations

import re
import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import takewhile
from traceback import StackSummary
from types import TracebackType
from typing import Any

import torch
from torch import fx, nn

from chop.errors import CaptureError
from chop.ir.in_place import drop_unread, read_results
from chop.ir.parts import one_node_for_each_part
from chop.ir.shapes import ShapeProxy, Shapes
from chop.ir.spellings import plain_layers, rewrite_spellings

__all__ = ["capture", "short_trace", "source_line"]

# Names whose result has a shape, or leaves the tensor world, depending on the data.
_DATA_DEPENDENT = {
    "item": "takes a Python number out of a tensor",
    "tolist": "takes Python numbers out of a tensor",
    "numpy": "leaves PyTorch",
    "nonzero": "has a shape that depends on the data",
    "argwhere": "has a shape that depends on the data",
    "masked_select": "has a shape that depends on the data",
    "unique": "has a shape that depends on the data",
    "unique_consecutive": "has a shape that depends on the data",
    "bincount": "has a shape that depends on the data",
    "repeat_interleave": "has a shape that can depend on the data",
}
_COMPARISONS = {"lt", "le", "gt", "ge", "eq", "ne", "bool", "isnan", "isinf", "isfinite"}
_COMPARISONS |= {f"logical_{name}" for name in ("not", "and", "or", "xor")}
_COMBINATIONS = {"and_", "or_", "xor", "invert", "bitwise_and", "bitwise_or", "bitwise_not"}
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in [^\n]*\n\s*(?P<text>[^\n]*)')


class _Tracer(fx.Tracer):
    """Stops at the modules of torch.nn and chop.nn, and remembers each node's source line.

    With `examples`, traced tensors know their sizes.
    """

    def __init__(self, root: nn.Module, examples: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.shapes = Shapes(root, examples)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        if not node.stack_trace:
            # torch's own record_stack_traces imports its compilers, which takes a second.
            frames = takewhile(
                lambda at: at[0].f_code is not capture.__code__,
                traceback.walk_stack(sys._getframe()),
            )
            foreign = [at for at in frames if _is_foreign(at[0].f_code.co_filename)]
            node.stack_trace = "".join(StackSummary.extract(reversed(foreign)).format()).strip()
        return node

    def create_proxy(self, *args: Any, **kwargs: Any) -> fx.Proxy:
        made: fx.Proxy = super().create_proxy(*args, **kwargs)
        self.shapes.learn(made)
        return made

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return ShapeProxy(node, self)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self.shapes.computing:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        if self.shapes.computing:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def is_leaf_module(self, module: nn.Module, module_qualified_name: str) -> bool:
        return type(module).__module__.startswith("chop.nn") or super().is_leaf_module(
            module, module_qualified_name
        )


def capture(model: nn.Module, examples: Sequence[torch.Tensor] = ()) -> fx.GraphModule:
    """Returns the model as a GraphModule that shares its parameters.

    `examples`, one batch per input, make the sizes of all tensors known to the forward pass: then
    it may branch on them. Layers with weights that are computed (weight_norm) become plain ones.

    Raises CaptureError with the construct, the source line and the reason when the forward pass
    branches on data or makes shapes that depend on data.
    """
    if isinstance(model, fx.GraphModule):
        return model
    root = model
    if _Tracer(model, ()).is_leaf_module(model, ""):
        # A bare layer is one node too, not the lines of its forward pass.
        root = nn.Sequential(OrderedDict([(type(model).__name__.lower(), model)]))
    tracer = _Tracer(root, examples)
    try:
        graph = tracer.trace(root)
    except Exception as error:
        # Anything may come out of a foreign forward pass; the cause stays chained.
        raise CaptureError(_refusal(model, error)) from error
    _name_children(graph, tracer.root)
    one_node_for_each_part(graph)
    rewrite_spellings(graph, tracer.root)
    read_results(graph, tracer.root)
    drop_unread(graph, tracer.root)
    module = fx.GraphModule(tracer.root, graph, type(model).__name__)
    plain_layers(module)
    for node in graph.nodes:
        _refuse_data_dependence(model, node)
    return module


def _name_children(graph: fx.Graph, root: nn.Module) -> None:
    """Calls the children of a Sequential linear_0, relu_1, ... where torch.fx says _0, _1, ..."""
    for node in graph.nodes:
        if node.op == "call_module" and re.fullmatch(r"_\d+(_\d+)*", node.name):
            kind = type(root.get_submodule(str(node.target))).__name__.lower()
            node._rename(f"{kind}{node.name}")


def source_line(node: fx.Node) -> str:
    """Returns "file.py:12" of the call that made the node, or "" when it is not known."""
    found = [m for m in _FRAME.finditer(node.stack_trace or "") if _is_foreign(m["file"])]
    return f"{_short(found[-1]['file'])}:{found[-1]['line']}" if found else ""


def short_trace(node: fx.Node) -> str | None:
    """Returns the node's stack trace cut down to its source line, without the path of the file."""
    file, _, line = source_line(node).rpartition(":")
    return f'File "{file}", line {line}, in forward\n  ' if file else None


def _is_foreign(file: str) -> bool:
    parts = file.replace("\\", "/")
    return "/torch/" not in parts and "/chop/ir/" not in parts and not file.startswith("<")


def _short(file: str) -> str:
    return file.rsplit("/", 1)[-1]


def _refusal(model: nn.Module, error: Exception) -> str:
    where, text = _raising_line(error.__traceback__)
    message = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    construct, reason = _construct(text, message)
    place = f" at {where}: '{text}'" if where else ""
    return f"model '{type(model).__name__}': {construct}{place}; {reason}"


def _construct(text: str, message: str) -> tuple[str, str]:
    remedy = "use torch.clamp, relu or other tensor functions instead"
    if "cannot be iterated" in message or "not iterable" in message:
        return (
            "iteration over a tensor",
            "the number of turns would depend on the data; use tensor functions or a fixed range()",
        )
    if "control flow" in message:
        word = text.split(None, 1)[0].rstrip(":") if text else ""
        what = f"'{word}'" if word in ("if", "elif", "while", "assert") else "a truth test"
        return f"{what} on a tensor", f"the branch taken would depend on the data; {remedy}"
    if "item assignment" in message:
        return (
            "an assignment to a part of a tensor",
            "it changes the tensor in place; join the parts with torch.cat, or multiply by a mask",
        )
    if message.startswith("'len' is not supported"):
        return "len() of a tensor", "it is not known at capture; use x.shape[i] or a fixed number"
    if re.match(r"(zeros|ones|full|empty|rand|randn|eye|arange)\(\)", message):
        return (
            "a constant of the size of an input",
            "make it of one sample, as torch.zeros(1, n): it is repeated over the batch",
        )
    if "Proxy" in message:
        return (
            "a Python number taken from a tensor",
            "its value would depend on the data; keep it a tensor or use a constant",
        )
    return "the forward pass failed", message


def _raising_line(trace: TracebackType | None) -> tuple[str, str]:
    frames = [f for f in traceback.extract_tb(trace) if _is_foreign(f.filename)]
    if not frames:
        return "", ""
    last = frames[-1]
    return f"{_short(last.filename)}:{last.lineno}", (last.line or "").strip()


def _refuse_data_dependence(model: nn.Module, node: fx.Node) -> None:
    name = _name(node)
    reason = _DATA_DEPENDENT.get(name) if node.op in ("call_function", "call_method") else None
    if name == "where" and len(node.args) + len(node.kwargs) == 1:
        reason = "has a shape that depends on the data"
    if name == "getitem" and _is_mask(node.args[1]):
        name, reason = "x[mask]", "has a shape that depends on the data"
    if name == "repeat_interleave" and isinstance(_repeats(node), int):
        reason = None
    if reason is None:
        return
    where = source_line(node)
    place = f" at {where}" if where else ""
    raise CaptureError(
        f"model '{type(model).__name__}': '{name}'{place} {reason}; "
        "use torch.clamp, relu or other functions of fixed shape"
    )


def _repeats(node: fx.Node) -> object:
    return node.args[1] if len(node.args) > 1 else node.kwargs.get("repeats")


def _is_mask(index: object) -> bool:
    """Whether an index, or a part of it, is a tensor of truth values."""
    if isinstance(index, tuple | list):
        return any(_is_mask(part) for part in index)
    if not isinstance(index, fx.Node) or index.op not in ("call_function", "call_method"):
        return False
    if _name(index) in _COMBINATIONS:
        return any(_is_mask(part) for part in index.args)
    return _name(index) in _COMPARISONS


def _name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
