"""Convolutional networks from a Python file to simulated RTL."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import chop
from chop.config.schema import ModelConfig
from chop.flows.compile import Accelerator
from chop.models.create import create_model

# A name that the first stage of conv1 would have is taken by a layer.
LENET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 5, padding=2)
        self.norm = nn.BatchNorm2d(4)
        self.conv1_window = nn.Conv2d(4, 8, (3, 2), stride=2)
        self.fc = nn.Linear(8 * 5 * 6, 10)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv1(x)))
        x = torch.relu(self.conv1_window(x))
        return self.fc(torch.flatten(x, 1))


def make_model():
    net = Net()
    for tensor in (net.norm.running_mean, net.norm.running_var):
        nn.init.uniform_(tensor, 0.5, 1.5)
    return net
"""

TCN = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, inner, dilation):
        super().__init__()
        self.pad = 2 * dilation
        self.first = nn.Conv1d(inner, inner, 3, dilation=dilation, padding=self.pad)
        self.second = nn.Conv1d(inner, inner, 1)

    def forward(self, x):
        y = torch.relu(self.first(x))
        return x + self.second(y)[:, :, : x.shape[2]]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(3, 4, 3, padding=1)
        self.blocks = nn.Sequential(Block(4, 1), Block(4, 2))
        self.last = nn.Conv1d(4, 2, 12)

    def forward(self, x):
        return self.last(self.blocks(torch.relu(self.first(x)))).flatten(1)


def make_model():
    return Net()
"""


def _compiled(
    folder: Path, source: str, shape: tuple[int, ...], interval: int
) -> tuple[nn.Module, torch.Tensor, Accelerator]:
    path = folder / "net.py"
    path.write_text(source)
    model = create_model(ModelConfig(path=f"{path}:make_model"), seed=0).eval()
    inputs = torch.randn(24, *shape, generator=torch.Generator().manual_seed(1))
    config = {"hardware": {"target_initiation_interval": interval}}
    return model, inputs, chop.compile(model, inputs, config, out_dir=folder / "design")


@pytest.fixture(scope="module")
def lenet(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[nn.Module, torch.Tensor, Accelerator]:
    return _compiled(tmp_path_factory.mktemp("lenet"), LENET, (1, 12, 13), 1000)


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_a_small_lenet_runs_as_its_reference_at_its_ideal_rate(
    lenet: tuple[nn.Module, torch.Tensor, Accelerator], stall: float
) -> None:
    model, inputs, accelerator = lenet
    run = accelerator.simulate(inputs, stall_probability=stall, seed=7, check_streams=True)
    assert (run.mismatches, run.deadlock, run.first_mismatch, run.samples) == (0, False, None, 24)
    predicted = accelerator.predict(inputs)
    assert torch.equal(run.outputs[0], predicted[0])
    with torch.no_grad():
        real = model(inputs)
    assert (predicted[0] - real).abs().max() < 0.1 * real.abs().max()
    assert run.predicted_initiation_interval == run.ideal_initiation_interval
    if stall == 0:
        assert run.initiation_interval == run.predicted_initiation_interval
        assert run.latency_cycles == run.predicted_latency_cycles


def test_the_stages_of_a_convolution_have_names_of_their_own(
    lenet: tuple[nn.Module, torch.Tensor, Accelerator],
) -> None:
    layers = {layer.node: layer.operator for layer in lenet[2].manifest.layers}
    assert layers["conv1_window_"] == layers["conv1_window_window"] == "window"
    assert layers["conv1"] == layers["conv1_window"] == "linear"
    assert "norm" not in layers
    # What the reference has no value for is not checked by itself.
    assert "conv1_window_" not in {stream.name for stream in lenet[2].manifest.streams}


def test_a_temporal_convolutional_network(tmp_path: Path) -> None:
    model, inputs, accelerator = _compiled(tmp_path, TCN, (3, 12), 150)
    run = accelerator.simulate(inputs, check_streams=True)
    assert (run.mismatches, run.deadlock, run.first_mismatch) == (0, False, None)
    assert run.initiation_interval == run.predicted_initiation_interval
    assert run.latency_cycles == run.predicted_latency_cycles
    assert run.predicted_initiation_interval == run.ideal_initiation_interval
    with torch.no_grad():
        real = model(inputs)
    assert (accelerator.predict(inputs)[0] - real).abs().max() < 0.1 * real.abs().max()


def test_padding_costs_no_cycles(tmp_path: Path) -> None:
    """A 3x3 convolution of 8x8 pixels, unrolled: 64 cycles a frame; 102 with streamed zeros."""
    torch.manual_seed(0)
    inputs = torch.randn(20, 2, 8, 8)
    config = {"hardware": {"lanes": {"conv2d": [18, 3]}}}
    model = nn.Conv2d(2, 3, 3, padding=1)
    accelerator = chop.compile(model, inputs, config, out_dir=tmp_path / "design")
    run = accelerator.simulate(inputs)
    assert (run.mismatches, run.deadlock) == (0, False)
    assert run.initiation_interval == run.predicted_initiation_interval == 64
    (multipliers,) = {layer.multipliers for layer in accelerator.manifest.layers} - {0}
    assert multipliers == 54
