"""Every shipped configuration down the whole road: the RTL equals the reference, to the cycle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chop.cli.main import main

CONFIGS = Path(__file__).parents[2] / "configs"
# What makes each a matter of seconds.
_DIGITS_QAT = ("train.epochs=2", "qat.epochs=1", "simulate.samples=30")
_MNIST_QAT = ("train.epochs=1", "qat.epochs=1", "simulate.samples=8")
QUICK = {
    "compress_lenet5": ("train.epochs=1", "simulate.samples=2"),
    "compress_lenet_300_100": ("train.epochs=1", "simulate.samples=2"),
    "digits_cnn": ("train.epochs=2", "simulate.samples=10"),
    "digits_2bit": _DIGITS_QAT,
    "digits_4bit": _DIGITS_QAT,
    "digits_ternary": _DIGITS_QAT,
    "mnist_2bit": _MNIST_QAT,
    "mnist_4bit": _MNIST_QAT,
    "mnist_ternary": _MNIST_QAT,
    "digits_mixed_precision": ("train.epochs=2", "simulate.samples=30"),
    "digits_mlp": ("train.epochs=2", "simulate.samples=30"),
    "jsc_three_linear_layers": ("train.epochs=1", "simulate.samples=30"),
    "jsc_tiny": ("train.epochs=1", "simulate.samples=30"),
    "lenet5": ("train.epochs=1", "simulate.samples=2"),
    "mlp_16_32_16_8": ("simulate.samples=30",),
    "mnist_mlp": ("train.epochs=1", "simulate.samples=8"),
    "nas_digits_cnn": ("train.epochs=1", "simulate.samples=10"),
    "nas_jsc": ("train.epochs=1", "simulate.samples=30"),
    "resnet8": (
        *("train.epochs=1", "simulate.samples=2"),
        *("model.arguments.widths=[4, 8, 16]", "hardware.target_initiation_interval=9216"),
    ),
    "search_digits": ("train.epochs=2", "simulate.samples=30"),
    "search_letter": ("train.epochs=1", "simulate.samples=8"),
    "search_mnist": ("train.epochs=1", "simulate.samples=8"),
    "vgg_small": (
        *("train.epochs=1", "simulate.samples=2"),
        *("model.arguments.channels=[8, 16, 16]", "hardware.target_initiation_interval=9216"),
    ),
}


@pytest.fixture
def transform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Runs `chop transform` in an empty folder, on data made here where it would be downloaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHOP_DATA_DIR", str(tmp_path))
    shapes = {"jsc": (16,), "letter": (16,), "mnist": (28, 28), "cifar10_subset": (32, 32, 3)}
    for name, shape in shapes.items():
        rng = np.random.default_rng(0)
        classes = {"jsc": 5, "letter": 26}.get(name, 10)
        labels = rng.integers(0, classes, 600)
        values = rng.normal(size=(classes, *shape))[labels] + rng.normal(size=(600, *shape))
        pixels = np.clip(values * 40 + 128, 0, 255).astype(np.uint8)
        np.savez(
            tmp_path / f"{name}.npz",
            allow_pickle=False,
            x_train=pixels[:500],
            y_train=labels[:500],
            x_test=pixels[500:],
            y_test=labels[500:],
        )

    def run(name: str, *overrides: str) -> Any:
        options = [option for override in overrides for option in ("--set", override)]
        arguments = ["transform", "--config", str(CONFIGS / f"{name}.toml"), "--json", *options]
        assert main(arguments) == 0
        return json.loads(capsys.readouterr().out)

    return run


def _check(report: Any) -> None:
    free, stalled = report["simulations"]
    assert (free["mismatches"], stalled["mismatches"]) == (0, 0)
    assert (free["deadlock"], stalled["deadlock"]) == (False, False)
    assert free["initiation_interval"] == report["predicted_initiation_interval"]
    assert free["initiation_interval"] == report["ideal_initiation_interval"]
    assert free["latency_cycles"] == report["predicted_latency_cycles"]


def test_digits_mlp_keeps_its_accuracy_on_all_test_images(transform: Callable[..., Any]) -> None:
    report = transform("digits_mlp")
    _check(report)
    accuracy = report["accuracy"]
    assert accuracy["samples"] == 450
    assert accuracy["float_accuracy"] >= 0.965
    assert abs(accuracy["integer_accuracy"] - accuracy["float_accuracy"]) <= 0.005
    assert [run["elements"] for run in report["simulations"]] == [4500, 4500]


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.toml")))
def test_every_shipped_configuration(transform: Callable[..., Any], name: str) -> None:
    _check(transform(name, *QUICK[name]))
