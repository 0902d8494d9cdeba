"""Bad input down the whole road: one line, status 2, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from chop.cli.main import main

CONFIG = str(Path(__file__).parents[2] / "configs" / "digits_mlp.toml")

MODELS = """
import torch
from torch import nn


class Running(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        return torch.cumsum(self.fc(x), 1)


class Branch(Running):
    def forward(self, x):
        if x.sum() > 0:
            return self.fc(x)
        return -self.fc(x)
"""


@pytest.fixture(autouse=True)
def _in_a_folder_with_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    Path("models.py").write_text(MODELS)


def _error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Returns the one line of error, having checked all else."""
    assert main(["transform", "--config", CONFIG, *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["models.py"]
    return captured.err.removeprefix("error: ").removesuffix("\n")


def test_unknown_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert _error(capsys, "--set", "train.epoch=1") == (
        f"config '{CONFIG}': unknown key 'train.epoch'; did you mean 'epochs'?"
    )
    assert _error(capsys, "--set", "passes.quantize.default.config.weight_wdth=4") == (
        "pass 'quantize': 'default'.config: unknown key 'weight_wdth'; did you mean 'weight_width'?"
    )
    assert _error(capsys, "--set", "hardware.max_multiplier=4") == (
        "pass 'add_hardware_metadata': unknown key 'max_multiplier'; "
        "did you mean 'max_multipliers'?"
    )


def test_unknown_operator(capsys: pytest.CaptureFixture[str]) -> None:
    assert _error(capsys, "--model", "models.py:Running") == (
        "node 'cumsum' (models.py:12): 'cumsum' is not a chop operator; use a "
        "linear layer whose weights are a triangle of ones"
    )


def test_wrong_shape(capsys: pytest.CaptureFixture[str]) -> None:
    assert _error(capsys, "--set", "model.arguments.sizes=[32, 10]") == (
        "job 'digits_mlp': the model does not take samples of dataset 'digits', shape [64]: "
        "mat1 and mat2 shapes cannot be multiplied (2x64 and 32x10); change model.arguments"
    )


def test_lanes_that_do_not_divide(capsys: pytest.CaptureFixture[str]) -> None:
    assert _error(capsys, "--set", "hardware.lanes.fc1=[3, 4]") == (
        "node 'fc1': in_lanes must divide 64, got 3; use 1, 2, 4, 8, 16, 32 or 64"
    )


def test_missing_dataset(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHOP_DATA_DIR", "data")
    # A port that nobody listens on: no network, whatever the machine has.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert _error(capsys, "--set", "dataset.name=jsc") == (
        "dataset 'jsc': no 'data/jsc.npz', and OpenML 42468 cannot be fetched "
        "([Errno 111] Connection refused); "
        "set CHOP_DATA_DIR to a folder that has jsc.npz, or connect to the network"
    )


def test_missing_tool(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert _error(capsys) == "tool 'g++' not found: apt-get install g++"


def test_forward_that_branches_on_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert _error(capsys, "--model", "models.py:Branch") == (
        "model 'Branch': 'if' on a tensor at models.py:17: 'if x.sum() > 0:'; the branch taken "
        "would depend on the data; use torch.clamp, relu or other tensor functions instead"
    )


def test_unknown_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert _error(capsys, "--set", "dataset.name=digit") == (
        "unknown dataset 'digit'; did you mean 'digits'?"
    )
    assert _error(capsys, "--model", "mpl") == (
        "unknown model 'mpl'; did you mean 'mlp'?; or name path/to/file.py:function"
    )
    assert _error(capsys, "--set", "synthesize.target=xc8") == (
        "unknown target 'xc8'; did you mean 'xc7'?"
    )
