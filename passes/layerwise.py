"""A quantised network beside the float one that it stands for, layer by layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from chop.errors import PassOrderError
from chop.ir.graph import MaseGraph
from chop.ir.modes import evaluating
from chop.nn.layers import QuantizedLayer
from chop.nn.rewritten import restore_constants
from chop.ops.annotate import module_of, record
from chop.passes.graph.transforms.dequantize import take_back_formats
from chop.passes.quantizing import calibration_inputs

__all__ = ["Stop", "walk_layers"]


@dataclass(frozen=True, slots=True, eq=False)
class Stop:
    """A quantised layer on the walk.

    `x` is its input [N, *shape] in the quantised network, where all layers before are as the walk
    left them; `wanted` is its output in the float network on the same samples. Both are float64.
    `shared`: its parameters belong to another node as well.
    """

    node: fx.Node
    layer: QuantizedLayer
    shared: bool
    x: torch.Tensor
    wanted: torch.Tensor

    @property
    def inner(self) -> nn.Module:
        return self.layer.layer

    def result(self, **constants: torch.Tensor) -> torch.Tensor:
        """Returns the inner layer's output for x with these constants, differentiable in them."""
        result: torch.Tensor = torch.func.functional_call(self.inner, constants, (self.x,))
        return result

    def levels(self) -> dict[str, torch.Tensor]:
        """Returns the parameters in float64, on their levels where they have a format."""
        found = {}
        for name, parameter in self.inner.named_parameters():
            values = parameter.detach()
            if name in self.layer.quantizers:
                values = self.layer.quantizer(name)(values)
            found[name] = values.detach().double()
        return found


Visit = Callable[[Stop], None]


class _Walk(fx.Interpreter):
    """Runs the quantised network; every quantised layer is visited just before it runs."""

    def __init__(self, graph: MaseGraph, wanted: dict[str, Any], visit: Visit) -> None:
        super().__init__(graph.model)
        self.extra_traceback = False
        self._graph = graph
        self._uses = _uses(graph)
        self._wanted = wanted
        self._visit = visit

    def run_node(self, n: fx.Node) -> Any:
        layer = module_of(self._graph, n)
        if isinstance(layer, QuantizedLayer) and layer.formats:
            x = self.env[n.all_input_nodes[0]].double()
            wanted = torch.from_numpy(self._wanted[n.name])
            shared = any(self._uses[id(p)] > 1 for p in layer.layer.parameters())
            self._visit(Stop(n, layer, shared, x, wanted))
        return super().run_node(n)


def _uses(graph: MaseGraph) -> Counter[int]:
    """Counts by how many nodes every parameter is used: two modules may have one in common."""
    modules = [module_of(graph, node) for node in graph.fx_graph.nodes]
    return Counter(id(p) for module in modules if module is not None for p in module.parameters())


def walk_layers(
    graph: MaseGraph, calibration: Any, restored: Iterable[str], who: str, visit: Visit
) -> None:
    """Visits every quantised layer in the order of the graph, in evaluation mode.

    First the parameters named in `restored` get back what an earlier walk changed. The float
    network is the one that `quantize` would start from again. Raises PassOrderError where nothing
    is quantised.
    """
    layers = [m for m in graph.model.modules() if isinstance(m, QuantizedLayer) and m.formats]
    if not layers:
        raise PassOrderError(
            f"{who}: the graph has no quantised layer; run quantize or float_to_fake first"
        )
    names = tuple(restored)
    for layer in layers:
        restore_constants(layer, names)
    inputs = calibration_inputs(who, graph, calibration)
    plain = graph.copy()
    take_back_formats(plain)
    wanted: dict[str, Any] = dict(record(plain, inputs))
    with evaluating(graph.model):
        # In-place operations must not reach the caller's data.
        _Walk(graph, wanted, visit).run(*(inputs[name].clone() for name in graph.placeholders))
