"""Ready-made models and models from files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from chop.config.schema import ModelConfig
from chop.errors import ConfigError
from chop.models import JSC_Three_Linear_Layers, JSC_Tiny, mlp
from chop.models.create import create_model
from chop.models.registry import MODELS


def _kinds(model: nn.Module) -> list[str]:
    return [type(m).__name__ for m in model.modules() if not list(m.children())]


def test_jet_classifiers_have_the_layers_of_their_papers() -> None:
    assert _kinds(JSC_Tiny()) == ["BatchNorm1d", "Linear"]
    relu = "ReLU"
    assert _kinds(JSC_Three_Linear_Layers()) == [
        "BatchNorm1d", relu, "Linear", relu, "Linear", relu, "Linear", relu,
    ]  # fmt: skip
    for model in (JSC_Tiny(), JSC_Three_Linear_Layers()):
        assert model(torch.zeros(3, 16)).shape == (3, 5)


def test_mlp_names_its_layers() -> None:
    model = mlp([13, 7, 5], activation="leaky_relu", batch_norm=True, bias=False)
    assert [name for name, _ in model.named_children()] == ["fc1", "bn1", "act1", "fc2"]
    fc1, act1 = model.get_submodule("fc1"), model.get_submodule("act1")
    assert isinstance(fc1, nn.Linear)
    assert fc1.bias is None
    assert isinstance(act1, nn.LeakyReLU)
    assert act1.negative_slope == 0.125
    assert model(torch.zeros(2, 13)).shape == (2, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": [4]}, "model 'mlp': sizes must be a list of two or more, got [4]"),
        ({"sizes": [4, 0]}, "model 'mlp': every size must be an integer above 0, got [4, 0]"),
        (
            {"sizes": [4, 2], "activation": "relu66"},
            "model 'mlp': unknown activation 'relu66'; did you mean 'relu6'?",
        ),
        (
            {"sizes": [4, 2], "batchnorm": True},
            "model 'mlp': unknown argument 'batchnorm'; did you mean 'batch_norm'?",
        ),
        ({}, "model 'mlp': argument 'sizes' is missing; add model.arguments.sizes"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        create_model(ModelConfig(name="mlp", arguments=arguments), seed=0)
    assert str(caught.value) == message


def test_weights_come_from_the_seed_alone() -> None:
    config = ModelConfig(name="mlp", arguments={"sizes": [4, 2]})
    state = torch.get_rng_state()
    weights = [create_model(config, seed).state_dict()["fc1.weight"] for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), state)


MODEL_FILE = """
from torch import nn

def make_model(width=3):
    return nn.Linear(width, 2)

def make_number():
    return 7
"""


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(MODEL_FILE)
    return path


def test_a_model_from_a_file(model_file: Path) -> None:
    model = create_model(ModelConfig(path=f"{model_file}:make_model", arguments={"width": 5}), 0)
    assert isinstance(model, nn.Linear)
    assert model.in_features == 5


def test_a_wrong_file_is_one_line(model_file: Path) -> None:
    def message(source: str) -> str:
        with pytest.raises(ConfigError) as caught:
            create_model(ModelConfig(path=source), 0)
        return str(caught.value)

    gone = f"{model_file.parent}/gone.py:make_model"
    assert message(gone) == (
        f"model '{gone}': no file '{model_file.parent}/gone.py'; write path/to/file.py:function"
    )
    near = f"{model_file}:make_modle"
    assert message(near) == (
        f"model '{near}': no function 'make_modle'; did you mean 'make_model'?"
    )
    number = f"{model_file}:make_number"
    assert message(number) == f"model '{number}': must return a torch.nn.Module, got int"


def test_an_unknown_name_is_one_line() -> None:
    with pytest.raises(ConfigError) as caught:
        create_model(ModelConfig(name="JSC_Tiney"), 0)
    assert str(caught.value) == (
        "unknown model 'JSC_Tiney'; did you mean 'JSC_Tiny'?; or name path/to/file.py:function"
    )
    assert sorted(MODELS) == list(MODELS)
