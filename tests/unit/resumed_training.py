"""A training with every algorithm in it, which may be made to die at a step; also a script:

resumed_training.py DIRECTORY STEP   trains, and kills its own process at that step
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from chop.config.schema import TrainConfig
from chop.datasets import load_dataset
from chop.flows.progress import SilentProgress
from chop.flows.train import train_model
from chop.formats.fixed import Fixed
from chop.formats.scaled import Scaled
from chop.nn.fake_quantize import Cast
from chop.nn.layers import QuantizedLayer
from chop.nn.quantizer import Quantizer, Role
from chop.nn.quantizers.registry import create_quantizer

BATCH = 16
CONFIG = {
    "epochs": 4,
    "learning_rate": 0.02,
    "weight_decay": 1e-3,
    "schedule": "cosine",
    "warmup_epochs": 1,
    "gradient_clip": 1.0,
    "validation_fraction": 0.1,
    "checkpoint_every_steps": 3,
}
# 112 samples without a tenth, in batches of 16: 101 in 7 steps.
STEPS = 7


def network() -> nn.Sequential:
    """Returns a classifier of iris in which every training algorithm quantises something."""
    torch.manual_seed(0)

    def data(name: str, signed: bool = False) -> Cast:
        return Cast(_of(name, torch.linspace(-1, 2, 50), "data", signed))

    def layer(name: str, inputs: int, outputs: int) -> QuantizedLayer:
        linear = nn.Linear(inputs, outputs)
        weight = _of(name, linear.weight, "weight", True)
        return QuantizedLayer("linear", linear, {"weight": weight, "bias": Fixed(16, 10)})

    return nn.Sequential(
        data("lsq", signed=True), layer("lsq", 4, 8), nn.BatchNorm1d(8), nn.ReLU(),
        data("pact"), layer("inq", 8, 8), nn.ReLU(), nn.Dropout(0.2),
        data("tqt"), layer("rpr", 8, 8), nn.ReLU(),
        data("ana"), layer("ana", 8, 8), nn.ReLU(),
        data("ste"), layer("sawb", 8, 3),
    )  # fmt: skip


def _of(name: str, values: torch.Tensor, role: Role, signed: bool) -> Quantizer:
    array = values.detach().double().numpy()
    format = Scaled(4, (float(values.detach().abs().max()) / 8,), signed)
    return create_quantizer(name, array, format, role, {})


def train(
    directory: Path, resume: bool = False, die: Callable[[], None] | None = None, at: int = 0
) -> nn.Sequential:
    """Returns the network after its training; `die` is called in the forward pass of step `at`."""
    # A job loads its model in evaluation mode.
    model = network().eval()
    seen = 0

    def count(module: nn.Module, inputs: object) -> None:
        nonlocal seen
        if module.training:
            if die is not None and seen == at:
                die()
            seen += 1

    model.register_forward_pre_hook(count)
    directory.mkdir(exist_ok=True)
    train_model(
        model, load_dataset("iris"), TrainConfig.model_validate(CONFIG), batch_size=BATCH, seed=3,
        directory=directory, resume=resume, progress=SilentProgress(),
    )  # fmt: skip
    return model


if __name__ == "__main__":
    train(
        Path(sys.argv[1]),
        die=lambda: os.kill(os.getpid(), signal.SIGKILL),
        at=int(sys.argv[2]),
    )
