"""The price of fake quantisation: a training step of 8-bit weights and activations against float.

A step is forward and backward, on one thread, in processor time: on an idle machine that is time on
the clock, on a busy one it leaves the others out. The repetitions of the contenders are
interleaved. Brevitas stands beside where it is installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from chop.cli.render import print_table
from chop.formats.base import Options
from chop.formats.fixed import Fixed
from chop.formats.scaled import Scaled
from chop.nn.fake_quantize import Cast
from chop.nn.layers import QuantizedLayer
from chop.nn.quantizers.registry import create_quantizer

HEADER = ("training step", "contender", "ms", "of float", "bound")
_REPETITIONS = 40
_BIAS = Fixed(16, 12)


@dataclass(frozen=True, slots=True)
class Case:
    """A float network, the shape of a batch, and how much slower a step of ours may be."""

    name: str
    layers: tuple[nn.Module, ...]
    batch: tuple[int, ...]
    bound: float


def cases() -> tuple[Case, ...]:
    """Returns the two networks, with the same initial weights at every call."""
    torch.manual_seed(0)
    linear, conv = nn.Linear, nn.Conv2d
    perceptron = (linear(784, 256), nn.ReLU(), linear(256, 256), nn.ReLU(), linear(256, 10))
    convolutions = (
        conv(3, 32, 3, padding=1), nn.ReLU(), conv(32, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), conv(32, 64, 3, padding=1), nn.ReLU(), conv(64, 64, 3, padding=1),
        nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), linear(1024, 10),
    )  # fmt: skip
    return (
        Case("784-256-256-10, batch 128", perceptron, (128, 784), 2.0),
        Case("4-conv CNN, batch 32", convolutions, (32, 3, 32, 32), 1.5),
    )


def quantised(case: Case, algorithm: str) -> nn.Sequential:
    """Returns the network with 8-bit weights and inputs of layers, and 16-bit biases."""
    x = torch.randn(case.batch)
    modules: list[nn.Module] = []
    for layer in case.layers:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            name = "linear" if isinstance(layer, nn.Linear) else "conv2d"
            modules.append(Cast(_quantizer(algorithm, x, "data", bool((x < 0).any()))))
            weight = _quantizer(algorithm, layer.weight, "weight", True)
            modules.append(QuantizedLayer(name, layer, {"weight": weight, "bias": _BIAS}))
        else:
            modules.append(layer)
        with torch.no_grad():
            x = layer(x)
    return nn.Sequential(*modules)


def _quantizer(algorithm: str, values: torch.Tensor, role: Any, signed: bool) -> Any:
    array = values.detach().double().numpy()
    kind = Scaled if algorithm == "lsq" else Fixed
    format = kind.fit(array, Options(width=8, signed=signed, calibration="max"))
    return create_quantizer(algorithm, array, format, role, {})


def brevitas(case: Case) -> nn.Sequential | None:
    """Returns the network in Brevitas' layers, 8 bits each; None where it is not installed."""
    if importlib.util.find_spec("brevitas") is None:
        return None
    layers = importlib.import_module("brevitas.nn")
    modules: list[nn.Module] = [layers.QuantIdentity(bit_width=8)]
    for layer in case.layers:
        if isinstance(layer, nn.Linear):
            sizes = (layer.in_features, layer.out_features)
            modules.append(layers.QuantLinear(*sizes, bias=True, weight_bit_width=8))
        elif isinstance(layer, nn.Conv2d):
            sizes = (layer.in_channels, layer.out_channels)
            modules.append(layers.QuantConv2d(*sizes, 3, padding=1, weight_bit_width=8))
        else:
            modules.append(layers.QuantReLU(bit_width=8) if isinstance(layer, nn.ReLU) else layer)
    return nn.Sequential(*modules)


def milliseconds(
    contenders: Mapping[str, nn.Module], batch: Sequence[int], repetitions: int
) -> dict[str, float]:
    """Returns the median processor time of a step of each contender, on one thread."""
    x = torch.randn(*batch)
    y = torch.randint(0, 10, (batch[0],))
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for repetition in range(repetitions + 3):
            for name, model in contenders.items():
                model.zero_grad(set_to_none=True)
                start = time.process_time()
                torch.autograd.backward(cross_entropy(model(x), y))
                if repetition >= 3:
                    seconds[name].append(time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    return {name: statistics.median(times) * 1000 for name, times in seconds.items()}


def rows(repetitions: int = _REPETITIONS) -> list[tuple[str, ...]]:
    """Returns the table's rows: a line per network and contender, in the columns of HEADER."""
    table: list[tuple[str, ...]] = []
    for case in cases():
        # One after the other: the layers of a contender are the float network's own.
        contenders: dict[str, nn.Module] = {
            "float": nn.Sequential(*case.layers).train(),
            "chop, ste": quantised(case, "ste").train(),
            "chop, lsq": quantised(case, "lsq").train(),
        }
        peer = brevitas(case)
        if peer is not None:
            contenders["Brevitas"] = peer.train()
        times = milliseconds(contenders, case.batch, repetitions)
        for name, time_ms in times.items():
            bound = f"{case.bound:.1f}" if name == "chop, ste" else "-"
            ratio = f"{time_ms / times['float']:.2f}"
            table.append((case.name, name, f"{time_ms:.2f}", ratio, bound))
        if peer is None:
            table.append((case.name, "Brevitas", "not installed", "-", "-"))
    return table


def main() -> int:
    """Prints the table; returns 1 when a step of ours is slower than its bound."""
    table = rows()
    print_table("training step, forward and backward, one thread", HEADER, table, HEADER[2:])
    slow = [row for row in table if row[4] != "-" and float(row[3]) > float(row[4])]
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
