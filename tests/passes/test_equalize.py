"""equalize: the same function, and weights that lose less."""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from chop.errors import PassOrderError
from chop.formats.calibrate import choose_fixed
from chop.ir.graph import MaseGraph
from chop.passes.graph.analysis import verify_metadata_analysis_pass
from chop.passes.graph.transforms import equalize_transform_pass, quantize_transform_pass
from tests.passes.networks import AUTOMATIC, Branches, annotated, batch, quantised, seeded

_ACTIVATIONS = (nn.ReLU, nn.Identity, lambda: nn.LeakyReLU(0.25))


def badly_scaled(seed: int, sizes: tuple[int, ...], spread: float = 3.0) -> nn.Sequential:
    """A perceptron whose hidden channels differ by factors 2^(spread * normal)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(pairwise(sizes)):
            layer = nn.Linear(inputs, outputs, bias=i % 2 == 0)
            factors = torch.exp2(spread * torch.randn(outputs, 1))
            if i < len(sizes) - 2:
                layer.weight.data *= factors
            parts += [layer, _ACTIVATIONS[(seed + i) % 3]()]
    return nn.Sequential(*parts[:-1]).double().eval()


def graph_of(model: nn.Module, features: int) -> MaseGraph:
    return annotated(copy.deepcopy(model), batch(5, features).double())


def magnitude(model: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    """The same network with every term positive: what rounding errors are measured against."""
    for layer in model:
        if isinstance(layer, nn.Linear):
            bias = None if layer.bias is None else layer.bias.abs()
            x = functional.linear(x.abs(), layer.weight.abs(), bias)
    return x


@given(
    seed=st.integers(0, 2**16),
    sizes=st.lists(st.integers(1, 9), min_size=3, max_size=5).map(tuple),
    power_of_two=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_the_function_stays(seed: int, sizes: tuple[int, ...], power_of_two: bool) -> None:
    model = badly_scaled(seed, sizes)
    graph = graph_of(model, sizes[0])
    result = equalize_transform_pass(graph, {"power_of_two": power_of_two})
    verify_metadata_analysis_pass(result)
    x = batch(30, sizes[0], seed=seed).double()
    before, after = model(x), result.model(x)
    if power_of_two:
        assert torch.equal(after, before)
    # A sum of n products is off by n half units in the last place of its magnitude, once in each of
    # the two networks, and every weight was multiplied, by a rounded factor, at most twice.
    places = 2 * sum(n + 6 for n in sizes)
    bound = places * np.finfo(np.float64).eps * magnitude(model, x)
    assert bool(((after - before).abs() <= bound).all())
    assert torch.equal(graph.model(x), before)


def test_the_ranges_of_a_pair_are_equal() -> None:
    model = badly_scaled(4, (6, 8, 5))
    graph = equalize_transform_pass(graph_of(model, 6))
    first, second = (graph.model.get_submodule(name).weight for name in ("0", "2"))
    assert isinstance(first, torch.Tensor)
    assert isinstance(second, torch.Tensor)
    r1, r2 = first.abs().amax(1), second.abs().amax(0)
    torch.testing.assert_close(r1, r2, rtol=1e-3, atol=0)
    old = model[0].weight.abs().amax(1) * model[2].weight.abs().amax(0)  # type: ignore[operator]
    torch.testing.assert_close(r1 * r2, old, rtol=1e-12, atol=0)
    (row, last) = graph.info["equalize"]
    assert row["precision_after"] > row["precision_before"]
    assert (row["channels"], row["reader"], row["skipped"]) == (8, last["node"], "")
    assert last["skipped"] == "its result leaves the graph"


@pytest.mark.parametrize("seed", range(3))
def test_a_badly_scaled_network_loses_less(seed: int) -> None:
    """Per-tensor 8-bit weights: the error relative to every channel's own size, and the result."""
    model = badly_scaled(seed, (12, 16, 16, 8))
    graph = graph_of(model, 12)
    x = batch(400, 12, seed=seed).double()

    def losses(graph: MaseGraph) -> tuple[float, float]:
        lost = []
        for module in graph.model.modules():
            if isinstance(module, nn.Linear):
                weight = module.weight.detach().numpy()
                format = choose_fixed(weight, 8, True).format
                error = format.from_integers(format.to_integers(weight)) - weight
                lost.append(np.mean(np.abs(error).max(1) / np.abs(weight).max(1)))
        arguments = {"default": {"config": AUTOMATIC}, "calibration": x}
        difference = (quantize_transform_pass(graph, arguments).model(x) - model(x)).detach()
        return float(np.mean(lost)), float(difference.square().mean())

    before, after = losses(graph), losses(equalize_transform_pass(graph))
    assert after[0] < before[0] / 2, f"seed {seed}"
    assert after[1] < before[1] / 2, f"seed {seed}"


def test_a_second_pass_changes_nothing() -> None:
    once = equalize_transform_pass(graph_of(badly_scaled(1, (6, 8, 7, 5)), 6))
    twice = equalize_transform_pass(once)
    state = twice.model.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in once.model.state_dict().items())
    assert {row["largest_scale"] for row in twice.info["equalize"]} <= {1.0, *_near_one(twice)}


def _near_one(graph: MaseGraph) -> set[float]:
    return {r["largest_scale"] for r in graph.info["equalize"] if r["largest_scale"] < 1.001}


def test_channels_without_weights_stay() -> None:
    model = badly_scaled(2, (4, 5, 3))
    with torch.no_grad():
        model[0].weight[1] = 0  # type: ignore[operator]
        model[2].weight[:, 3] = 0  # type: ignore[operator]
    graph = equalize_transform_pass(graph_of(model, 4))
    first = graph.model.get_submodule("0").weight
    assert isinstance(first, torch.Tensor)
    assert torch.equal(first[[1, 3]], model[0].weight[[1, 3]])  # type: ignore[index]
    assert all(bool(p.isfinite().all()) for p in graph.model.parameters())


def test_a_layer_without_bias_gets_none() -> None:
    model = nn.Sequential(nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 3, bias=False))
    graph = equalize_transform_pass(annotated(model.eval(), batch(5, 4)))
    assert sorted(graph.model.state_dict()) == ["0.weight", "2.weight"]


class Fork(nn.Module):
    """A layer that is read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.a(x))
        scores: torch.Tensor = self.c(y + functional.relu(self.b(y)))
        return scores


def skipped(model: nn.Module, *inputs: torch.Tensor) -> dict[str, str]:
    graph = annotated(model.eval(), *inputs)
    result = equalize_transform_pass(graph)
    assert torch.equal(
        torch.cat([x.flatten() for x in _outputs(result.model, inputs)]),
        torch.cat([x.flatten() for x in _outputs(model, inputs)]),
    )
    return {row["node"]: row["skipped"] for row in result.info["equalize"]}


def _outputs(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    result = model(*inputs)
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (nn.ReLU6(), "operator 'clamp' of node '{}' is not positively homogeneous"),
        (nn.BatchNorm1d(4), "operator 'batch_norm' of node '{}' is not positively homogeneous"),
        (nn.Flatten(), "operator 'reshape' of node '{}' is not positively homogeneous"),
    ],
)
def test_what_is_not_homogeneous_is_skipped(between: nn.Module, reason: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), between, nn.Linear(4, 3))
    found = skipped(model, batch(5, 4))
    middle = next(n.name for n in annotated(model, batch(5, 4)).fx_graph.nodes if n.target == "1")
    assert list(found.values()) == [reason.format(middle), "its result leaves the graph"]


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv1d(2, 4, 1), nn.ReLU(), nn.Linear(4, 3)),
        nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Conv1d(2, 4, 1)),
    ],
)
def test_layers_along_different_axes_are_skipped(model: nn.Module) -> None:
    """Also where as many channels leave one as the other reads along its own axis."""
    found = list(skipped(model, batch(5, 2, 4)).values())
    assert found[0].endswith("are not the outputs of this layer")


def test_forks_and_shared_layers_are_skipped() -> None:
    assert skipped(Fork(), batch(5, 4)) == {
        "a": "node 'relu' is read at 2 places",
        "b": "operator 'tensor_add' of node 'add' is not positively homogeneous",
        "c": "its result leaves the graph",
    }
    found = skipped(seeded(Branches), batch(5, 4, 4), batch(5, 2, 3))
    assert found["b"] == "the layer of node 'b' is used at another place too"


def test_a_quantised_graph_is_refused() -> None:
    graph = quantised(annotated(nn.Sequential(nn.Linear(4, 3)).eval(), batch(5, 4)))
    name = next(n.name for n in graph.fx_graph.nodes if n.target == "0")
    with pytest.raises(PassOrderError) as caught:
        equalize_transform_pass(graph)
    assert (
        str(caught.value)
        == f"pass 'equalize': node '{name}' is quantised already; run equalize before"
    )
