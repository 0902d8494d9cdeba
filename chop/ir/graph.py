"""MaseGraph: a torch.fx graph with typed metadata on its nodes."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import fx, nn

from chop.ir.capture import capture
from chop.ir.meta import KEY

__all__ = ["MaseGraph"]


class MaseGraph:
    """A captured model.

    Attributes:
        model: the torch.fx.GraphModule; calling it computes what the model computes.
        fx_graph: its torch.fx.Graph (placeholder, get_attr, call_function, call_module,
            call_method and output nodes).
        modules: every submodule by its qualified name.
        info: what each pass reported, by the pass's name.
        history: the names of the passes that ran, in order.
        example_inputs: one batch by placeholder name, kept by the common metadata pass.
    """

    def __init__(self, model: nn.Module, examples: Sequence[torch.Tensor] = ()) -> None:
        """Captures `model`; with `examples`, one batch per input, it may branch on sizes.

        Raises CaptureError when its forward pass is not static.
        """
        self.model: fx.GraphModule = capture(model, examples)
        self.info: dict[str, Any] = {}
        self.history: tuple[str, ...] = ()
        self.example_inputs: Mapping[str, torch.Tensor] = MappingProxyType({})

    @property
    def fx_graph(self) -> fx.Graph:
        return self.model.graph

    @property
    def modules(self) -> dict[str, nn.Module]:
        return dict(self.model.named_modules())

    @property
    def placeholders(self) -> tuple[str, ...]:
        """The names of the inputs, in the order of the forward pass's arguments."""
        return tuple(str(n.target) for n in self.fx_graph.nodes if n.op == "placeholder")

    def readers(self, target: str) -> int:
        """Returns how many nodes call a submodule or read a parameter of it."""
        inside = f"{target}."
        return sum(
            (node.op == "call_module" and node.target == target)
            or (node.op == "get_attr" and str(node.target).startswith(inside))
            for node in self.fx_graph.nodes
        )

    def free_name(self, name: str) -> str:
        """Returns a name for a new submodule: this one, or it with the first free number."""
        candidate, number = name, 1
        while hasattr(self.model, candidate):
            number += 1
            candidate = f"{name}_{number}"
        return candidate

    def copy(self) -> MaseGraph:
        """Returns a graph that shares nothing mutable with this one; metadata comes along."""
        other = MaseGraph.__new__(MaseGraph)
        other.model = copy.deepcopy(self.model)
        # The class is the instance's own; deepcopy forgets that it has the model's name.
        type(other.model).__name__ = type(self.model).__name__
        for mine, theirs in zip(self.fx_graph.nodes, other.fx_graph.nodes, strict=True):
            # Deep copies of frozen metadata would cost time and gain nothing.
            if KEY in mine.meta:
                theirs.meta[KEY] = mine.meta[KEY]
            theirs.stack_trace = mine.stack_trace
        other.info = copy.deepcopy(self.info)
        other.history = self.history
        other.example_inputs = self.example_inputs
        return other
