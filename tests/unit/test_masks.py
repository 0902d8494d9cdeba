"""Masks: what was pruned stays zero, whatever is done to the layer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from chop.config.schema import TrainConfig
from chop.datasets import load_dataset
from chop.errors import ConfigError
from chop.flows.progress import SilentProgress
from chop.flows.train import train_model
from chop.formats.registry import FORMATS, format_class, required_options
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.ir.serialize import load_graph, save_graph
from chop.nn.masks import drop_mask, hold_zeros, mask_of, masked_parameters, set_mask
from chop.passes.graph.transforms import float_to_fake_transform_pass, prune_transform_pass
from chop.passes.registry import resolve
from tests.passes.networks import AUTOMATIC, annotated, batch

_WIDTHS = {"width": 6, "exponent_width": 3}
# Their levels are symmetric without a zero.
_NO_ZERO = ("binary", "binary_residual")
_NAMES = sorted(name for name in FORMATS if name not in ("NA", "fp32"))
_ALGORITHMS = ("ste", "lsq", "tqt", "sawb", "inq", "rpr", "ana")


def _network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 3))


def _pruned(sparsity: float = 0.6) -> MaseGraph:
    graph = annotated(_network().eval(), batch(40, 4))
    return prune_transform_pass(graph, {"weight": {"sparsity": sparsity}})


def _check(model: nn.Module, masks: int = 2) -> None:
    """Every removed weight is +0.0, to the bit, and there are as many masks."""
    found = list(masked_parameters(model))
    assert len(found) == masks
    for module, name in found:
        kept = mask_of(module, name)
        assert kept is not None
        gone = module.get_parameter(name).detach()[~kept]
        assert len(gone) > 0
        assert not gone.numpy().tobytes().strip(b"\0")


def _check_integers(graph: MaseGraph) -> None:
    """The integers of removed weights are zero, and others are not."""
    found = 0
    for node in graph.fx_graph.nodes:
        parameters = common_of(node).parameters
        if "weight" in parameters:
            kept = mask_of(graph.model.get_submodule(f"{node.target}.layer"), "weight")
            assert kept is not None
            assert not parameters["weight"].values[~kept.numpy()].any()
            assert parameters["weight"].values[kept.numpy()].any()
            found += 1
    assert found == 2


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, 0.01),
        lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.5),
    ],
)
def test_any_training_loop_keeps_zeros(
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
) -> None:
    layer = _network()[0]
    steps = optimizer(list(layer.parameters()))
    layer(batch(8, 4)).square().sum().backward()
    # With momentum from before there was a mask.
    steps.step()
    assert isinstance(layer, nn.Linear)
    kept = torch.rand(12, 4, generator=torch.Generator().manual_seed(1)) < 0.5
    set_mask(layer, "weight", kept)
    masked = layer.weight.detach() * kept
    for _ in range(5):
        result = layer(batch(8, 4))
        assert torch.equal(result, nn.functional.linear(batch(8, 4), masked, layer.bias))
        result.square().sum().backward()
        steps.step()
        masked = torch.where(kept, layer.weight.detach(), 0.0)
    assert (layer.weight[~kept] != 0).any()
    hold_zeros(layer)
    _check(layer, 1)


def test_a_layer_that_is_called_twice_has_the_right_gradient() -> None:
    layer = nn.Linear(3, 3, bias=False)
    set_mask(layer, "weight", torch.eye(3) == 0)
    x = batch(4, 3)
    layer(layer(x)).sum().backward()
    weight = layer.weight.detach().clone().requires_grad_()
    (wanted,) = torch.autograd.grad((x @ weight.T @ weight.T).sum(), weight)
    assert layer.weight.grad is not None
    assert torch.allclose(layer.weight.grad, wanted)


def test_copies_states_and_files_have_the_mask(tmp_path: Path) -> None:
    graph = _pruned()
    _check(copy.deepcopy(graph.model))
    _check(graph.copy().model)
    save_graph(graph, tmp_path / "g.pt")
    loaded = load_graph(tmp_path / "g.pt")
    _check(loaded.model)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.add_(1)
    loaded.model(batch(2, 4))
    _check(loaded.model)
    other = _pruned(0.3)
    other.model.load_state_dict(graph.model.state_dict())
    assert torch.equal(other.model(batch(2, 4)), graph.model(batch(2, 4)))
    _check(other.model)


def test_a_mask_can_be_dropped_and_must_fit() -> None:
    layer = nn.Linear(3, 2)
    message = r"^a mask of 'weight' must be boolean \[2, 3\], got torch.bool \[3, 2\]$"
    with pytest.raises(ValueError, match=message):
        set_mask(layer, "weight", torch.ones(3, 2, dtype=torch.bool))
    set_mask(layer, "weight", torch.zeros(2, 3, dtype=torch.bool))
    drop_mask(layer, "weight")
    assert not layer._forward_pre_hooks
    assert list(layer.state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize("name", _NAMES)
def test_a_pruned_weight_is_zero_in_every_format_that_has_one(name: str) -> None:
    config = {**AUTOMATIC, "weight_format": name}
    del config["weight_width"]
    for option in required_options(name):
        config[f"weight_{option}"] = _WIDTHS[option]
    arguments = {"default": {"config": config}}
    if name in _NO_ZERO:
        with pytest.raises(ConfigError, match=r"is pruned, and the format .* has no zero"):
            resolve("quantize")(_pruned(), arguments)
        return
    graph = resolve("quantize")(_pruned(), arguments)
    _check(graph.model)
    # Integers of more than 62 bits.
    if "weight" not in format_class(name).hardware or name == "bf16":
        return
    _check_integers(graph)


@pytest.mark.parametrize("algorithm", _ALGORITHMS)
def test_zeros_survive_quantised_training(algorithm: str, tmp_path: Path) -> None:
    weight = {"format": "scaled_integer", "width": 4, "algorithm": algorithm}
    rule = {"select": {"type": "linear"}, "weight": weight, "data_in": {"width": 8}}
    graph = float_to_fake_transform_pass(_pruned(), {"rules": [rule]})
    before = [p.detach().clone() for p in graph.model.parameters()]
    train_model(
        graph.model,
        load_dataset("iris"),
        TrainConfig(epochs=3, learning_rate=0.02, weight_decay=1e-3),
        batch_size=32,
        seed=0,
        directory=tmp_path,
        resume=False,
        progress=SilentProgress(),
    )
    _check(graph.model)
    after = list(graph.model.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    graph = resolve("refresh_metadata")(graph)
    _check_integers(graph)
    integers = resolve("fake_to_true")(graph)
    gone = int((~graph.model.get_submodule("0.layer").get_buffer("weight_mask")).sum())
    weights = [v for v in integers.model.state_dict().values() if v.shape == (12, 4)]
    assert len(weights) == 1
    assert int((weights[0] == 0).sum()) >= gone


@pytest.mark.parametrize("name", ["learn_rounding", "correct_bias"])
def test_zeros_survive_passes_that_change_weights(name: str) -> None:
    graph = resolve("quantize")(
        _pruned(), {"default": {"config": {**AUTOMATIC, "weight_width": 3}}}
    )
    changed = resolve(name)(graph)
    _check(changed.model)


def test_zeros_survive_equalisation_and_folding() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(4, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 3)
        ).eval()
    graph = prune_transform_pass(annotated(model, batch(40, 4)), {"weight": {"sparsity": 0.5}})
    for name in ("fold_batch_norm", "equalize"):
        graph = resolve(name)(graph)
        _check(graph.model)
