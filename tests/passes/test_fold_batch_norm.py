"""fold_batch_norm against eager PyTorch, in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from chop.ir.graph import MaseGraph
from chop.passes.graph.analysis import verify_metadata_analysis_pass
from chop.passes.graph.transforms import fold_batch_norm_transform_pass
from tests.passes.networks import annotated, batch, quantised, randomise

# Relative to the outputs' size, over sums of 16 products: some 40 units in the last place.
ROUNDING = 1e-14


class Twice(nn.Module):
    """A layer that is called before a batch norm and after it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.bn = nn.BatchNorm1d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.fc(self.bn(torch.relu(self.fc(x))))
        return result


class Fork(nn.Module):
    """A batch norm behind an activation, read by two linear layers and, if asked, by a relu."""

    def __init__(self, relu: bool) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(6)
        self.a, self.b = nn.Linear(6, 4), nn.Linear(6, 3, bias=False)
        self.relu = relu

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = self.bn(torch.relu(x))
        results = self.a(y), self.b(y)
        return (*results, torch.relu(y)) if self.relu else results


class ReadBeside(nn.Module):
    """The linear layer before the batch norm is read by an output too: it has to stay."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn, self.last = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.fc(x)
        return self.last(self.bn(y)), y


def prepared(model: nn.Module, seed: int = 0) -> tuple[nn.Module, MaseGraph]:
    """The model in float64 with statistics as after training, and its graph."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                randomise(module)
    model = model.double().eval()
    return model, annotated(copy.deepcopy(model), batch(5, 6).double())


def kinds(graph: MaseGraph) -> list[str]:
    return [
        type(graph.modules[n.target]).__name__
        for n in graph.fx_graph.nodes
        if n.op == "call_module"
    ]


def check(model: nn.Module, graph: MaseGraph) -> None:
    x = 3 * batch(64, 6, seed=8).double()
    with torch.no_grad():
        expected, found = model(x), graph.model(x)
    if isinstance(expected, torch.Tensor):
        expected, found = (expected,), (found,)
    for wanted, value in zip(expected, found, strict=True):
        assert (value - wanted).abs().max() <= ROUNDING * wanted.abs().max()


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_backwards_into_the_layer_before(affine: bool, bias: bool) -> None:
    model, graph = prepared(
        nn.Sequential(nn.Linear(6, 5, bias=bias), nn.BatchNorm1d(5, affine=affine), nn.ReLU())
    )
    folded = fold_batch_norm_transform_pass(graph)
    (entry,) = folded.info["fold_batch_norm"]
    (linear,) = (n.name for n in graph.fx_graph.nodes if n.target == "0")
    assert entry["folded_into"] == [linear]
    assert kinds(folded) == ["Linear", "ReLU"]
    check(model, folded)
    verify_metadata_analysis_pass(folded)


@pytest.mark.parametrize("bias", [True, False])
def test_forwards_into_the_layer_after(bias: bool) -> None:
    model, graph = prepared(nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 5, bias=bias)))
    folded = fold_batch_norm_transform_pass(graph)
    assert kinds(folded) == ["Linear"]
    check(model, folded)
    # Linear(6, 5) with the bias that the shift needs, counted anew.
    (linear,) = (n for n in folded.fx_graph.nodes if n.op == "call_module")
    assert linear.meta["mase"].software.parameters == 35


def test_forwards_into_every_reader() -> None:
    model, graph = prepared(Fork(relu=False))
    folded = fold_batch_norm_transform_pass(graph)
    assert folded.info["fold_batch_norm"] == [{"node": "bn", "folded_into": ["a", "b"]}]
    assert kinds(folded) == ["Linear", "Linear"]
    check(model, folded)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.ReLU(), nn.BatchNorm1d(6), nn.ReLU()),
        nn.Sequential(nn.BatchNorm1d(6)),
        Fork(relu=True),
    ],
    ids=["between activations", "alone", "one reader cannot"],
)
def test_where_it_cannot_be_folded_it_stays(model: nn.Module) -> None:
    model, graph = prepared(model)
    folded = fold_batch_norm_transform_pass(graph)
    (entry,) = folded.info["fold_batch_norm"]
    assert entry["folded_into"] == []
    assert kinds(folded).count("BatchNorm1d") == 1
    assert folded.model.code == graph.model.code
    x = batch(64, 6, seed=8).double()
    expected, found = model(x), folded.model(x)
    if isinstance(expected, torch.Tensor):
        expected, found = (expected,), (found,)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("size", [4, 6])
@pytest.mark.parametrize("before", [True, False])
def test_channels_along_another_axis_than_the_layers_are_left_alone(
    size: int, before: bool
) -> None:
    """A batch norm of [C, L] has its channels in front, a linear layer behind, also for C = L."""
    layers = (nn.Linear(6, 6), nn.BatchNorm1d(size))
    model = nn.Sequential(*(layers if before else reversed(layers))).double().eval()
    randomise(layers[1])
    x = 3 * batch(64, size, 6).double()
    folded = fold_batch_norm_transform_pass(annotated(copy.deepcopy(model), x[:5]))
    (entry,) = folded.info["fold_batch_norm"]
    assert entry["folded_into"] == []
    with torch.no_grad():
        assert torch.equal(folded.model(x), model(x))


def test_a_layer_that_is_read_beside_is_left_alone() -> None:
    model, graph = prepared(ReadBeside())
    folded = fold_batch_norm_transform_pass(graph)
    assert folded.info["fold_batch_norm"] == [{"node": "bn", "folded_into": ["last"]}]
    check(model, folded)
    assert torch.equal(folded.model.get_parameter("fc.weight"), model.get_parameter("fc.weight"))


def test_a_layer_called_twice_keeps_its_other_call() -> None:
    model, graph = prepared(Twice())
    folded = fold_batch_norm_transform_pass(graph)
    assert folded.info["fold_batch_norm"] == [{"node": "bn", "folded_into": ["fc_1"]}]
    first, second = (n.target for n in folded.fx_graph.nodes if n.name in ("fc", "fc_1"))
    assert first == "fc" != second
    check(model, folded)


def test_two_in_a_row_both_disappear() -> None:
    model, graph = prepared(
        nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.BatchNorm1d(5), nn.Linear(5, 4))
    )
    folded = fold_batch_norm_transform_pass(graph)
    assert kinds(folded) == ["Linear", "Linear"]
    check(model, folded)


def test_the_original_stays_and_a_second_fold_finds_nothing() -> None:
    model, graph = prepared(nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 5)))
    state = copy.deepcopy(graph.model.state_dict())
    code = graph.model.code
    for _ in range(100):
        folded = fold_batch_norm_transform_pass(graph)
    assert graph.model.code == code
    assert all(torch.equal(graph.model.state_dict()[k], v) for k, v in state.items())
    again = fold_batch_norm_transform_pass(folded)
    assert again.info["fold_batch_norm"] == []
    assert again.model.code == folded.model.code
    check(model, again)


def test_a_quantised_neighbour_is_left_alone() -> None:
    """Folding into rounded constants would change what was rounded."""
    _, graph = prepared(nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 5)))
    graph = quantised(graph)
    folded = fold_batch_norm_transform_pass(graph)
    assert folded.model.code == graph.model.code
    assert all(entry["folded_into"] == [] for entry in folded.info["fold_batch_norm"])
