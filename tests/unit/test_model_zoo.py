"""The ready-made networks: shapes, sizes as their documentation states them, and their rules."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass, field

import pytest
import torch
from torch import fx, nn

import chop.models
from chop.config.schema import ModelConfig
from chop.errors import ConfigError
from chop.models.create import create_model
from chop.models.registry import MODELS

Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Model:
    """A model with the sizes that arithmetic by hand gives; `statistics` are running ones."""

    name: str
    shape: Shape
    result: Shape
    parameters: int
    macs: int
    arguments: dict[str, object] = field(default_factory=dict)
    statistics: int = 0

    @property
    def config(self) -> ModelConfig:
        return ModelConfig(name=self.name, arguments=self.arguments)


_DEFAULTS = (
    _Model("autoencoder", (640,), (640,), 267_928, 264_192, statistics=2_064),
    _Model("cnn", (1, 8, 8), (10,), 1_898, 23_680),
    _Model("conv_autoencoder", (1, 28, 28), (1, 28, 28), 2_529, 352_800, statistics=48),
    _Model("ds_cnn", (1, 49, 10), (12,), 23_756, 2_656_768, statistics=1_152),
    _Model("lenet5", (1, 28, 28), (10,), 61_706, 416_520),
    _Model("lenet5_caffe", (1, 28, 28), (10,), 431_080, 2_293_000),
    _Model("lenet_300_100", (784,), (10,), 266_610, 266_200),
    _Model("mobilenet_v1", (3, 32, 32), (10,), 218_378, 834_688, statistics=5_472),
    _Model("resnet8", (3, 32, 32), (10,), 78_186, 12_501_632, statistics=480),
    _Model("se_net", (1, 8, 8), (10,), 1_656, 23_360, statistics=48),
    _Model("tcn", (4, 64), (10,), 6_202, 360_608, statistics=256),
    _Model("unet_mini", (1, 16, 16), (2, 16, 16), 32_690, 2_086_912, statistics=320),
    _Model("vgg_small", (3, 32, 32), (10,), 307_946, 38_653_952, statistics=896),
)
_WAKE_WORDS: dict[str, object] = {"image_size": 96, "classes": 2}
_TRANSPOSE: dict[str, object] = {"upsample": "transpose"}
_VARIANTS = (
    _Model("cnn", (2, 9, 6), (3,), 347, 4_143, {
        "shape": [2, 9, 6], "channels": [4], "hidden": [5], "classes": 3, "batch_norm": True,
    }, 8),
    _Model("lenet5", (1, 28, 28), (10,), 61_750, 416_520, {"pool": "avg", "batch_norm": True}, 44),
    _Model("mobilenet_v1", (3, 96, 96), (2,), 216_322, 7_489_664, _WAKE_WORDS, 5_472),
    _Model("conv_autoencoder", (1, 8, 12), (1, 8, 12), 1_849, 12_480, _TRANSPOSE, 48),
    _Model("unet_mini", (1, 8, 8), (2, 8, 8), 29_490, 390_656, _TRANSPOSE, 320),
    _Model("resnet8", (1, 8, 8), (10,), 2_674, 40_016, {
        "widths": [4, 8, 8], "image_size": 8, "in_channels": 1,
    }, 88),
    _Model("vgg_small", (3, 8, 8), (10,), 3_522, 85_728, {
        "channels": [8, 12], "image_size": 8,
    }, 80),
    _Model("se_net", (1, 8, 8), (10,), 1_656, 23_360, {"gate": "hardsigmoid"}, 48),
    _Model("tcn", (1, 20), (10,), 262, 3_240, {
        "in_channels": 1, "channels": 4, "dilations": [1, 2],
    }, 32),
)  # fmt: skip
_ALL = (*_DEFAULTS, *_VARIANTS)


def _ids(model: _Model) -> str:
    return "-".join([model.name, *(f"{k}={v}" for k, v in model.arguments.items())])


def _macs(model: nn.Module, x: torch.Tensor) -> int:
    """Counts the multiplications of a sample in what torch computes, not in what chop knows."""
    found = 0

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], result: torch.Tensor) -> None:
        nonlocal found
        assert isinstance(layer.weight, torch.Tensor)
        if isinstance(layer, nn.ConvTranspose2d):
            found += layer.weight.numel() * inputs[0][0, 0].numel()
        elif isinstance(layer, nn.Linear):
            found += layer.weight.numel()
        else:
            found += layer.weight.numel() * result[0, 0].numel()

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)
    for layer in model.modules():
        if isinstance(layer, kinds):
            layer.register_forward_hook(count)
    model(x)
    return found


@pytest.mark.parametrize("model", _ALL, ids=_ids)
def test_sizes(model: _Model) -> None:
    network = create_model(model.config, 0).eval()
    x = torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(0))
    result = network(x)
    assert result.shape == (2, *model.result)
    assert torch.isfinite(result).all()
    assert sum(p.numel() for p in network.parameters()) == model.parameters
    statistics = sum(b.numel() for b in network.buffers() if b.is_floating_point())
    assert statistics == model.statistics
    assert _macs(network, x[:1]) == model.macs


@pytest.mark.parametrize("model", _DEFAULTS, ids=_ids)
def test_documentation_states_the_sizes(model: _Model) -> None:
    module, attribute = MODELS[model.name].split(":")
    documented = inspect.getdoc(getattr(importlib.import_module(module), attribute))
    assert documented is not None
    told = " ".join(documented.split())
    assert f"{model.parameters:,} parameters" in told
    assert f"{model.macs:,} multiply-accumulates" in told


def test_every_model_is_here() -> None:
    assert {model.name for model in _DEFAULTS} == set(MODELS) - {
        "JSC_Three_Linear_Layers", "JSC_Tiny", "mlp",
    }  # fmt: skip
    for name in MODELS:
        assert callable(getattr(chop.models, name))
    assert sorted(MODELS) == list(MODELS)


def test_mlperf_tiny_counts_the_same() -> None:
    """The sizes that MLPerf Tiny publishes for its four models, running statistics included."""
    counts = {
        model.name: model.parameters + model.statistics
        for model in _ALL
        if not model.arguments or model.arguments == _WAKE_WORDS
    }
    assert counts["autoencoder"] == 269_992
    assert counts["ds_cnn"] == 24_908
    assert counts["mobilenet_v1"] == 221_794
    assert counts["resnet8"] == 78_666


@pytest.mark.parametrize("model", _ALL, ids=_ids)
def test_weights_come_from_the_seed_and_tracing_changes_nothing(model: _Model) -> None:
    first, again, other = (create_model(model.config, seed).eval() for seed in (3, 3, 4))
    x = torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(1))
    result = first(x)
    assert torch.equal(result, again(x))
    assert not torch.equal(result, other(x))
    assert torch.equal(result, fx.symbolic_trace(first)(x))


@pytest.mark.parametrize("seed", range(3))
def test_a_tcn_sees_61_steps_of_the_past_and_none_of_the_future(seed: int) -> None:
    blocks = create_model(ModelConfig(name="tcn"), seed).eval().get_submodule("blocks")
    # Where a ReLU is shut, a change does not come through: all of them are open here.
    for parameter in blocks.parameters():
        parameter.data.abs_()
    x = torch.rand(1, 4, 80, generator=torch.Generator().manual_seed(seed))
    changed = x.clone()
    changed[0, :, 10] += 1.0
    differs = (blocks(x) != blocks(changed)).any(dim=1)[0]
    assert differs.nonzero().flatten().tolist() == list(range(10, 10 + 61))


def test_squeeze_excite_multiplies_channels_by_one_factor() -> None:
    network = create_model(ModelConfig(name="se_net"), 0).eval()
    block = network.get_submodule("se1")
    x = torch.rand(1, 8, 5, 4, generator=torch.Generator().manual_seed(0)) + 1
    factors = block(x) / x
    assert torch.allclose(factors, factors[:, :, :1, :1].expand_as(factors))
    assert ((factors > 0) & (factors < 1)).all()
    assert len(factors[0, :, 0, 0].unique()) == 8


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("lenet5", {"classes": 0}, "classes must be an integer above 0, got 0"),
        ("lenet5", {"pool": "mox"}, "unknown pool 'mox'; did you mean 'max'?"),
        ("lenet_300_100", {"classes": True}, "classes must be an integer above 0, got True"),
        ("cnn", {"channels": []}, "channels must be a list of 1 or more integers above 0, got []"),
        (
            "cnn",
            {"shape": [1, 8, 3]},
            "shape must be [C, H, W] with H and W at least 4 for 2 pools, got [1, 8, 3]",
        ),
        (
            "cnn",
            {"shape": [1, 8, 8, 8]},
            "shape must be [C, H, W] with H and W at least 4 for 2 pools, got [1, 8, 8, 8]",
        ),
        ("vgg_small", {"image_size": 20}, "image_size must be a multiple of 8 for 3 pools, got 20"),
        ("resnet8", {"image_size": 30}, "image_size must be a multiple of 4, got 30"),
        ("resnet8", {"widths": [4, 8, 8, 8]}, "widths must be three, got [4, 8, 8, 8]"),
        ("mobilenet_v1", {"image_size": 48}, "image_size must be 32, 64 or 96, got 48"),
        ("mobilenet_v1", {"width": 0.0}, "width must be in (0, 1], got 0.0"),
        (
            "unet_mini",
            {"upsample": "bilinear"},
            "unknown upsample 'bilinear'; use nearest, transpose",
        ),
        (
            "conv_autoencoder",
            {"channels": [8, 8, 8]},
            "channels must be two, got [8, 8, 8]",
        ),
        ("se_net", {"reduction": 9}, "reduction must be at most 8, the fewest channels, got 9"),
        ("tcn", {"dilations": 1}, "dilations must be a list of 1 or more integers above 0, got 1"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_one_line(
    name: str, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        create_model(ModelConfig(name=name, arguments=arguments), 0)
    assert str(caught.value) == f"model '{name}': {message}"
