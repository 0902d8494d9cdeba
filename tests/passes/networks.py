"""The networks, and the states of a graph, that the tests of the passes share."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from chop.ir.graph import MaseGraph
from chop.ir.meta import KEY, NodeMeta
from chop.passes.graph.analysis import (
    add_common_metadata_analysis_pass,
    add_hardware_metadata_analysis_pass,
    add_software_metadata_analysis_pass,
    init_metadata_analysis_pass,
)
from chop.passes.graph.transforms import quantize_transform_pass

EIGHT_BITS = {
    "name": "integer",
    "data_in_width": 8,
    "data_in_frac_width": 4,
    "weight_width": 8,
    "weight_frac_width": 6,
    "bias_width": 8,
    "bias_frac_width": 4,
}
AUTOMATIC = {"name": "integer", "data_in_width": 8, "weight_width": 8, "bias_width": 16}


class Chain(nn.Module):
    """[N, 6] -> [N, 3]: fc1 6-4, relu, fc2 4-3."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 4)
        self.act = nn.ReLU()
        self.fc2 = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.fc2(self.act(self.fc1(x)))
        return scores


class Branches(nn.Module):
    """Two inputs, a layer called twice, a function with a computed constant, three outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(16, 8)
        self.b = nn.Linear(8, 8)
        self.w = nn.Parameter(torch.randn(4, 8))
        self.c = nn.Linear(6, 8)

    def forward(
        self, x: torch.Tensor, z: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        y = functional.relu(self.a(x.reshape(-1, 16)))
        twice = self.b(functional.relu(self.b(y)))
        return functional.linear(twice, self.w * 2.0), self.c(z.flatten(1)), y * 3


def seeded(model: type[nn.Module]) -> nn.Module:
    """Returns the model with fixed weights and, where it has any, fixed running statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        made = model()
        for module in made.modules():
            if isinstance(module, nn.BatchNorm1d):
                randomise(module)
    return made.eval()


def randomise(norm: nn.BatchNorm1d) -> None:
    """Gives a batch norm statistics as after training."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.3, 2.0)
    if norm.affine:
        nn.init.uniform_(norm.weight, 0.4, 1.6)
        nn.init.normal_(norm.bias)


def batch(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def annotated(model: nn.Module, *inputs: torch.Tensor) -> MaseGraph:
    """Returns the graph with common and software metadata."""
    graph = init_metadata_analysis_pass(MaseGraph(model), None)
    examples = dict(zip(graph.placeholders, inputs, strict=True))
    graph = add_common_metadata_analysis_pass(graph, {"dummy_in": examples})
    return add_software_metadata_analysis_pass(graph, None)


def chain() -> MaseGraph:
    return annotated(seeded(Chain), batch(5, 6))


def branches() -> MaseGraph:
    return annotated(seeded(Branches), batch(5, 4, 4), batch(5, 2, 3, seed=4))


def quantised(graph: MaseGraph, config: dict[str, object] | None = None) -> MaseGraph:
    """Returns the graph with one configuration for every layer."""
    return quantize_transform_pass(graph, {"default": {"config": config or EIGHT_BITS}})


def scheduled(graph: MaseGraph) -> MaseGraph:
    """Returns the graph quantised and with hardware metadata."""
    return add_hardware_metadata_analysis_pass(quantised(graph), None)


def metadata(graph: MaseGraph) -> dict[str, NodeMeta]:
    return {node.name: node.meta[KEY] for node in graph.fx_graph.nodes}
