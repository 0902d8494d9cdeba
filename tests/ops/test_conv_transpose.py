"""Transposed convolutions: phases against PyTorch, the work counted, weights by output."""

from __future__ import annotations

import copy
import random
import re

import numpy as np
import pytest
import torch
from torch import nn

from chop.errors import UnsupportedOpError
from chop.integer.record import Value, record
from chop.integer.run import run
from chop.ir.meta import common_of
from chop.ops.annotate import run_in_integers
from chop.ops.phases import Phases
from chop.ops.registry import operator
from chop.ops.window import window_values
from chop.passes.graph.transforms import quantize_transform_pass
from chop.passes.graph.transforms.dequantize import take_back_formats
from tests.ops.designs import annotated

_LAYERS = 300


def _random_layer(rng: random.Random) -> tuple[nn.ConvTranspose2d, torch.Tensor]:
    """Returns a layer and an input of small integers, in float64."""
    stride = (rng.randint(1, 4), rng.randint(1, 4))
    layer = nn.ConvTranspose2d(
        rng.randint(1, 2),
        rng.randint(1, 2),
        (rng.randint(1, 5), rng.randint(1, 5)),
        stride,
        (rng.randint(0, 3), rng.randint(0, 3)),
        (rng.randint(0, stride[0] - 1), rng.randint(0, stride[1] - 1)),
        bias=False,
    ).double()
    generator = torch.Generator().manual_seed(rng.randrange(1 << 31))
    size = (2, layer.in_channels, rng.randint(1, 4), rng.randint(1, 4))
    weight = torch.randint(-8, 8, layer.weight.shape, generator=generator).double()
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer, torch.randint(-8, 8, size, generator=generator).double()


def _pair(size: object) -> tuple[int, int]:
    assert isinstance(size, tuple)
    vertical, horizontal = size
    return int(vertical), int(horizontal)


def _phases(layer: nn.ConvTranspose2d, x: torch.Tensor, out: torch.Tensor) -> Phases:
    sizes = (layer.kernel_size, layer.stride, layer.padding)
    kernel, stride, padding = (_pair(size) for size in sizes)
    _, channels, height, width = x.shape
    size = (out.shape[2], out.shape[3])
    return Phases(channels, height, width, out.shape[1], size, kernel, stride, padding, False)


def _by_phases(a: Phases, weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Returns the result as the hardware has it: an output at a time, from its window."""
    rows, columns = a.entries()
    padded = np.pad(weight, ((0, 0), (0, 0), (0, 1), (0, 1)))

    def cut(values: list[Value] | tuple[Value, ...]) -> Value:
        repeated = tuple(np.repeat(np.arange(a.height), a.stride[0]).tolist())
        return window_values(values[0].take(1, repeated), a.windows)

    program = record(lambda values: cut(list(values)), [(x.shape[1:], -8, 8)])
    windows = run(program, [x])
    out = np.zeros((len(x), a.out_channels, *a.out), np.int64)
    for row in range(a.out[0]):
        for column in range(a.out[1]):
            window, phase = divmod(column + a.columns.cut, a.stride[1])
            kernel = padded[:, :, rows[row % a.stride[0]]][..., columns[phase]]
            out[:, :, row, column] = np.einsum("nhwc,cohw->no", windows[:, row, window], kernel)
    return out


def test_phases_are_the_transposed_convolution(seed: int) -> None:
    compared = 0
    for number in range(_LAYERS):
        rng = random.Random(f"seed {seed} layer {number}")
        layer, x = _random_layer(rng)
        try:
            expected = layer(x)
        except RuntimeError:
            # The padding leaves nothing.
            continue
        a = _phases(layer, x, expected)
        weight = layer.weight.numpy().astype(np.int64)
        actual = _by_phases(a, weight, x.numpy().astype(np.int64))
        assert np.array_equal(actual, expected.numpy()), f"seed {seed} layer {number}: {layer}"
        compared += 1
    assert compared > _LAYERS // 2


@pytest.mark.parametrize(
    ("sizes", "windows", "taps", "products"),
    [
        # Kernel, stride, padding and output padding; what a row of 8 takes.
        ((2, 2, 0, 0), 8, 1, 16),
        ((4, 2, 1, 0), 9, 2, 32),
        ((3, 2, 1, 1), 8, 2, 24),
        ((3, 1, 0, 0), 10, 3, 30),
    ],
)
def test_work(sizes: tuple[int, int, int, int], windows: int, taps: int, products: int) -> None:
    graph = annotated(nn.ConvTranspose2d(3, 5, *sizes).eval(), [torch.zeros(1, 3, 8, 8)])
    (common,) = (
        common_of(n) for n in graph.fx_graph.nodes if common_of(n).operator == "conv_transpose"
    )
    a = common.attributes
    assert isinstance(a, Phases)
    assert (a.columns.count, a.windows.kernel) == (windows, (taps, taps))
    assert operator("conv_transpose").macs(a, common.output) == 3 * 5 * products**2


@pytest.mark.parametrize("training", [False, True])
def test_weights_have_formats_by_output(training: bool) -> None:
    layer = nn.ConvTranspose2d(3, 4, 3, 2, 1, 1).train(training)
    x = torch.randn(5, 3, 4, 4)
    expected = layer(x)
    graph = annotated(copy.deepcopy(layer), [x])
    config = {
        "name": "integer",
        "data_in_width": 8,
        "weight_format": "scaled_integer",
        "weight_width": 6,
        "weight_per_channel": True,
    }
    graph = quantize_transform_pass(graph, {"by": "type", "default": {"config": config}})
    (node,) = (n for n in graph.fx_graph.nodes if common_of(n).operator == "conv_transpose")
    quantised = graph.model.get_submodule(str(node.target))
    assert quantised.training == training
    type = common_of(node).output
    assert type.scale is not None
    assert (len(type.scale.factors), type.scale.trailing) == (4, 2)
    inputs = x.double().numpy()
    integers = run_in_integers(graph, {graph.placeholders[0]: inputs})[node.name]
    with torch.no_grad():
        fake = copy.deepcopy(graph.model).double().eval()(x.double()).numpy()
    real = integers * 2.0**-type.fixed.frac_width * type.scale.floats()
    assert np.array_equal(real, fake)
    take_back_formats(graph)
    assert torch.equal(graph.model(x), expected)


@pytest.mark.parametrize("kind", [nn.ConvTranspose1d, nn.ConvTranspose2d])
def test_folds_scales_and_what_stands_behind_it(
    kind: type[nn.ConvTranspose1d | nn.ConvTranspose2d], seed: int
) -> None:
    torch.manual_seed(seed)
    layer = kind(3, 4, 3, 2).double()
    x = torch.randn(2, 3, *[4] * (layer.weight.dim() - 2)).double()
    scale, shift = torch.rand(4).double() + 0.5, torch.randn(4).double()
    across = [1, -1, *[1] * (x.dim() - 2)]
    expected = layer(x) * scale.reshape(across) + shift.reshape(across)
    assert operator("conv_transpose").fold_after(layer, scale, shift)
    assert torch.allclose(layer(x), expected)
    factors = torch.rand(3).double() + 0.5
    expected = layer(x * factors.reshape(across))
    fold_before = operator("conv_transpose").fold_before
    assert not fold_before(layer, factors, torch.ones(3).double())
    assert fold_before(layer, factors, torch.zeros(3).double())
    assert torch.allclose(layer(x), expected)


class _Sized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 4, 3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.up(x, output_size=(10, 10))
        return y


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            nn.ConvTranspose2d(4, 4, 3, groups=2),
            "a transposed convolution in 2 groups; split the channels, or upsample and use a "
            "convolution with groups",
        ),
        (
            nn.ConvTranspose2d(4, 4, 3, dilation=2),
            "a transposed convolution with dilation (2, 2); use dilation 1, with zeros in a "
            "larger kernel",
        ),
        (_Sized(), "output_size; give the layer the output_padding of that size"),
    ],
)
def test_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(UnsupportedOpError) as caught:
        annotated(model.eval(), [torch.randn(2, 4, 4, 4)])
    first = str(caught.value).splitlines()[0]
    assert re.sub(r"^node '\w+'( \(.*?\))?: ", "", first) == message
