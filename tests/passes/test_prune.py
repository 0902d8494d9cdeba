"""prune and share_weights: what goes, what stays, and what is refused."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from chop.errors import ConfigError
from chop.ir.graph import MaseGraph
from chop.models import lenet5, resnet8
from chop.nn.clusters import cluster
from chop.nn.masks import mask_of
from chop.ops.annotate import record, run_in_integers
from chop.passes.channels import select_channels
from chop.passes.graph.transforms import prune_transform_pass, share_weights_transform_pass
from chop.passes.pruning import prunable_layers
from chop.passes.registry import resolve
from tests.passes.networks import AUTOMATIC, annotated, batch


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


class _Functions(nn.Module):
    """[N, 5] -> [N, 3]: functions with constants in the place of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(batch(6, 5))
        self.second = nn.Parameter(batch(3, 6, seed=9))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(functional.relu(functional.linear(x, self.first)), self.second)


def _perceptron(*sizes: int) -> MaseGraph:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(sizes))
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return annotated(nn.Sequential(*layers[:-1]).eval(), batch(30, sizes[0]))


def _image(model: nn.Module, *shape: int) -> MaseGraph:
    return annotated(model.eval(), batch(3, *shape))


def _weights(graph: MaseGraph) -> dict[str, torch.Tensor]:
    return {n.name: layer.get_parameter("weight").detach() for n, layer in prunable_layers(graph)}


def _prune(graph: MaseGraph, **arguments: Any) -> MaseGraph:
    return prune_transform_pass(graph, arguments)


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("sparsity", [0.0, 0.31, 0.9])
def test_exactly_the_smallest_weights_go(scope: str, sparsity: float) -> None:
    graph = _perceptron(7, 9, 5)
    before = _weights(graph)
    pruned = _prune(graph, weight={"sparsity": sparsity, "scope": scope})
    after = _weights(pruned)
    groups = [list(before)] if scope == "global" else [[name] for name in before]
    for names in groups:
        old = torch.cat([before[n].reshape(-1) for n in names])
        new = torch.cat([after[n].reshape(-1) for n in names])
        gone = new == 0
        assert int(gone.sum()) == round(sparsity * len(old))
        assert torch.equal(new[~gone], old[~gone])
        if gone.any():
            assert old[gone].abs().max() <= old[~gone].abs().min()
    assert torch.equal(_weights(graph)["linear_0"], before["linear_0"])
    rows = pruned.info["prune"]
    assert [row["kept"] for row in rows] == [int((w != 0).sum()) for w in after.values()]


def test_a_threshold_takes_all_that_is_smaller() -> None:
    before = _weights(_perceptron(7, 9, 5))
    after = _weights(_prune(_perceptron(7, 9, 5), weight={"threshold": 0.2}))
    for name, old in before.items():
        assert torch.equal(after[name], torch.where(old.abs() < 0.2, 0.0, old))


def test_random_choices_follow_from_the_seed() -> None:
    def chosen(seed: int) -> torch.Tensor:
        weight = {"sparsity": 0.5, "method": "random"}
        return _weights(_prune(_perceptron(7, 9, 5), weight=weight, seed=seed))["linear_0"] == 0

    assert torch.equal(chosen(1), chosen(1))
    assert not torch.equal(chosen(1), chosen(2))
    assert int(chosen(1).sum()) == round(0.5 * 63)


@pytest.mark.parametrize(("kept", "group", "inputs"), [(2, 4, 12), (1, 4, 10), (3, 5, 5)])
def test_of_every_few_weights_the_largest_stay(kept: int, group: int, inputs: int) -> None:
    graph = _perceptron(inputs, 6, 4)
    before = _weights(graph)["linear_0"]
    after = _weights(_prune(graph, weight={"granularity": f"{kept}:{group}"}))["linear_0"]
    for row, old in zip(after.tolist(), before.tolist(), strict=True):
        for start in range(0, inputs, group):
            part, whole = row[start : start + group], old[start : start + group]
            stays = sorted(whole, key=abs)[-kept:]
            assert part == [w if w in stays else 0.0 for w in whole]


def test_layers_are_chosen_as_in_quantize() -> None:
    graph = _perceptron(8, 8, 8, 8)
    weight = {"sparsity": 0.5}
    by_name = _prune(
        graph, weight=weight, by="name", linear_2={"config": {"weight": {"sparsity": 0.25}}}
    )
    assert [row["sparsity"] for row in by_name.info["prune"]] == [0.5, 0.25, 0.5]
    by_type = _prune(graph, linear={"config": {"weight": weight}})
    assert [row["sparsity"] for row in by_type.info["prune"]] == [0.5, 0.5, 0.5]
    entry = {"config": {"weight": weight}}
    by_regex = prune_transform_pass(graph, {"by": "regex_name", "linear_[04]": entry})
    assert [row["sparsity"] for row in by_regex.info["prune"]] == [0.5, 0.0, 0.5]


def test_functions_with_constants_are_pruned_too() -> None:
    graph = annotated(_Functions().eval(), batch(4, 5))
    pruned = _prune(graph, weight={"sparsity": 0.5})
    assert [row["kept"] for row in pruned.info["prune"]] == [15, 9]
    first, second = _weights(pruned).values()
    wanted = functional.linear(functional.relu(functional.linear(batch(4, 5), first)), second)
    assert torch.equal(pruned.model(batch(4, 5)), wanted)


@pytest.mark.parametrize("method", ["l1-norm", "l2-norm"])
def test_filters_go_with_all_that_reads_them(method: str) -> None:
    graph = _image(lenet5(batch_norm=True), 1, 28, 28)
    weight = {"sparsity": 0.5, "granularity": "filter", "method": method}
    pruned = _prune(graph, weight=weight)
    power = 1 if method == "l1-norm" else 2
    kept = {}
    for name, old in list(_weights(graph).items())[:-1]:
        norms = old.flatten(1).norm(p=power, dim=1)
        kept[name] = norms.argsort(stable=True)[round(0.5 * len(norms)) :].sort().values.tolist()
    assert pruned.info["prune_channels"] == kept
    wanted = select_channels(graph, kept)
    for name, value in wanted.model.state_dict().items():
        assert torch.equal(pruned.model.state_dict()[name], value)
    x = batch(3, 1, 28, 28)
    assert torch.equal(pruned.model(x), wanted.model(x))
    assert [row["kept"] for row in pruned.info["prune"]] == [75, 600, 12000, 2520, 420]


def test_channels_go_with_the_filters_that_make_them() -> None:
    graph = _image(lenet5(), 1, 28, 28)
    weight = {"sparsity": 0.5, "granularity": "channel"}
    pruned = prune_transform_pass(graph, {"by": "name", "fc1": {"config": {"weight": weight}}})
    # 400 inputs in 16 channels of 25.
    columns = _weights(graph)["fc1"].abs().view(120, 16, 25).mean(dim=(0, 2))
    kept = columns.argsort()[8:].sort().values.tolist()
    assert pruned.info["prune_channels"] == {"conv2": kept}
    assert pruned.model(batch(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize("scope", ["local", "global"])
def test_residual_partners_lose_the_same_channels(scope: str) -> None:
    graph = _image(resnet8(widths=(4, 8, 8)), 3, 32, 32)
    weight = {"sparsity": 0.5, "granularity": "filter", "scope": scope}
    pruned = _prune(graph, weight=weight)
    assert pruned.model(batch(2, 3, 32, 32)).shape == (2, 10)
    kept = pruned.info["prune_channels"]
    assert kept
    # In the global ranking a layer may keep all.
    assert kept.get("stem_conv") == kept.get("block1_conv2")
    assert kept.get("block2_conv2") == kept.get("block2_shortcut")
    if scope == "local":
        assert {name: len(own) for name, own in kept.items() if "block1" in name} == {
            "block1_first_conv": 2,
            "block1_conv2": 2,
        }


def test_every_layer_keeps_a_channel() -> None:
    graph = _image(lenet5(), 1, 28, 28)
    pruned = _prune(graph, weight={"threshold": 100.0, "granularity": "filter"})
    assert {len(kept) for kept in pruned.info["prune_channels"].values()} == {1}
    assert pruned.model(batch(2, 1, 28, 28)).shape == (2, 10)


def test_masks_shrink_with_their_layers() -> None:
    graph = _prune(_image(lenet5(), 1, 28, 28), weight={"sparsity": 0.5})
    smaller = _prune(graph, weight={"sparsity": 0.5, "granularity": "filter"})
    for _, layer in prunable_layers(smaller):
        kept = mask_of(layer, "weight")
        assert kept is not None
        assert torch.equal(kept, layer.get_parameter("weight") != 0)


@pytest.mark.parametrize("scope", ["local", "global"])
def test_the_smallest_activations_become_zero(scope: str) -> None:
    graph = _perceptron(8, 16, 16, 4)
    pruned = _prune(graph, activation={"sparsity": 0.7, "scope": scope})
    # Thresholds are those of the network before: what was cut in front of a layer is not in them.
    values = list(record(graph, {graph.placeholders[0]: batch(30, 8)}).values())
    inputs = [np.abs(values[i]).reshape(-1) for i in (0, 2, 4)]
    for row, own in zip(pruned.info["prune"], inputs, strict=True):
        ranked = np.sort(own if scope == "local" else np.concatenate(inputs))
        assert row["activation_threshold"] == ranked[round(0.7 * len(ranked)) - 1]
    again = _prune(pruned)
    shares = [row["activation_sparsity"] for row in again.info["prune"]]
    first = 0.7 if scope == "local" else np.mean(inputs[0] <= row["activation_threshold"])
    assert shares[0] == pytest.approx(first)
    assert all(row["kept"] == row["weights"] for row in pruned.info["prune"])
    quantised = resolve("quantize")(pruned, {"default": {"config": AUTOMATIC}})
    integers = run_in_integers(quantised, {graph.placeholders[0]: batch(30, 8).double().numpy()})
    shrunk = integers["linear_2_shrink"]
    assert np.mean(shrunk == 0) > 0.6


def test_activations_are_counted_without_being_changed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    graph = _perceptron(8, 16, 4)
    pruned = _prune(graph, show=True)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    share = f"{100 * pruned.info['prune'][1]['activation_sparsity']:.1f}"
    assert ["linear_2", "elementwise", "64", "64", "0.0", "%", share, "%"] in rows
    x = batch(30, 8)
    hidden = functional.relu(graph.model.get_submodule("0")(x))
    first, second = pruned.info["prune"]
    assert first["activation_sparsity"] == 0.0
    assert second["activation_sparsity"] == pytest.approx(float((hidden == 0).float().mean()))
    assert torch.equal(pruned.model(x), graph.model(x))


_WHO = "pass 'prune': "


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"weight": {"granularity": "elementwis"}},
            "weight: unknown granularity 'elementwis'; did you mean 'elementwise'?",
        ),
        (
            {"weight": {"granularity": "4:2"}},
            "weight: granularity n:m must keep 1 <= n < m weights, got '4:2'",
        ),
        (
            {"weight": {"granularity": "2:4", "sparsity": 0.5}},
            "weight: granularity '2:4' says how many go; remove sparsity and threshold",
        ),
        (
            {"weight": {"sparsity": 0.5, "threshold": 0.1}},
            "weight: has sparsity and threshold; use one of the two",
        ),
        (
            {"weight": {"method": "random", "threshold": 0.1}},
            "weight: a threshold needs a norm; use method l1-norm or sparsity",
        ),
        ({"weight": {"sparsity": 1.0}}, "weight: 'sparsity' must be less than 1, got 1.0"),
        ({"weight": {"sparsty": 0.5}}, "weight: unknown key 'sparsty'; did you mean 'sparsity'?"),
        (
            {"weight": {"method": "l3-norm"}},
            "weight: 'method' must be 'random', 'l1-norm' or 'l2-norm', got 'l3-norm'",
        ),
        (
            {"activation": {"sparsity": 0.1, "method": "random"}},
            "activation: method 'random' has no hardware: what becomes zero must follow from the "
            "data; use l1-norm",
        ),
        (
            {"activation": {"granularity": "channel"}},
            "activation: granularity must be 'elementwise', got 'channel'; whole channels go with "
            "weight.granularity = 'channel'",
        ),
        (
            {"by": "name", "linear_9": {"config": {}}},
            "no node 'linear_9'; did you mean 'linear_2'?",
        ),
        (
            {
                "by": "name",
                "linear_2": {"config": {"weight": {"sparsity": 0.5, "granularity": "filter"}}},
            },
            "node 'linear_2': none of its channels can go: node 'output' hands it on as a result "
            "of the network; leave it out",
        ),
    ],
)
def test_wrong_arguments_are_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        prune_transform_pass(_perceptron(7, 9, 5), arguments)
    assert str(caught.value).removeprefix(_WHO) == message


def test_clusters_are_those_of_least_squared_error_nearby() -> None:
    rng = np.random.default_rng(5)
    values = np.concatenate([rng.normal(m, 0.05, 40) for m in (-2.0, -0.5, 0.4, 3.0)])
    found = cluster(values, 4, "density")
    centres = np.unique(found)
    assert len(centres) == 4
    for centre in centres:
        members = values[found == centre]
        assert centre == pytest.approx(members.mean())
    nearest = centres[np.abs(values[:, None] - centres).argmin(axis=1)]
    assert np.array_equal(found, nearest)


@pytest.mark.parametrize("start", ["linear", "density", "random"])
def test_few_values_are_left_as_they_are(start: Any) -> None:
    values = np.array([0.5, -1.0, 0.5, 2.0])
    assert cluster(values, 3, start).tolist() == values.tolist()
    assert len(np.unique(cluster(np.arange(50.0), 7, start))) <= 7
    assert np.array_equal(
        cluster(np.arange(50.0), 7, start, seed=1), cluster(np.arange(50.0), 7, start, seed=1)
    )


def test_shared_weights_are_few_and_zeros_stay() -> None:
    graph = _prune(_perceptron(16, 32, 8), weight={"sparsity": 0.5})
    config = {"bits": 3, "start": "density"}
    shared = share_weights_transform_pass(
        graph,
        {"by": "name", "default": {"config": config}, "linear_2": {"config": {"share": False}}},
    )
    before, after = _weights(graph), _weights(shared)
    assert torch.equal(before["linear_2"], after["linear_2"])
    kept = before["linear_0"] != 0
    assert torch.equal(after["linear_0"] != 0, kept)
    # 2^3 codes, one of which is zero.
    assert len(torch.unique(after["linear_0"])) == 8
    (row,) = shared.info["share_weights"]
    error = (after["linear_0"] - before["linear_0"])[kept].double().square().mean().sqrt()
    assert row["root_mean_square_error"] == pytest.approx(float(error), rel=1e-5)
    dense = share_weights_transform_pass(_perceptron(16, 32, 8), {"default": {"config": config}})
    assert len(torch.unique(_weights(dense)["linear_0"])) == 8
