"""Convolutions: what they compute, how they are built, and what is refused."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx, nn

from chop.errors import UnsupportedOpError
from chop.formats.rounding import Ints
from chop.integer import run as runner
from chop.integer.program import Program
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of, hardware_of
from chop.ops.annotate import run_in_integers
from chop.passes.graph.analysis.add_hardware import add_hardware_metadata_analysis_pass
from chop.passes.graph.transforms.fold_batch_norm import fold_batch_norm_transform_pass
from chop.passes.graph.transforms.quantize import quantize_transform_pass
from chop.schedule.units import dataflow_of
from tests.ops.designs import Design, annotated, emitted, example_batch, scheduled
from tests.ops.rtl_checks import simulation_faults


def _quantised(
    model: nn.Module, shape: tuple[int, ...], seed: int = 0, **config: object
) -> MaseGraph:
    batch = example_batch(random.Random(seed), (shape,), 9)
    settings = {
        "name": "integer",
        **{f"{tensor}_width": 6 for tensor in ("data_in", "weight")},
        **{f"{tensor}_frac_width": 2 for tensor in ("data_in", "weight")},
        "bias_width": 9,
        "bias_frac_width": 5,
        **config,
    }
    settings = {key: value for key, value in settings.items() if value is not None}
    return quantize_transform_pass(
        annotated(model.eval(), batch), {"default": {"config": settings}}
    )


def _random_convolution(rng: random.Random) -> tuple[nn.Module, tuple[int, ...]]:
    rank = rng.choice((1, 2, 2))
    groups = rng.choice((1, 1, 2, 3))
    channels, outputs = groups * rng.choice((1, 1, 2, 3)), groups * rng.randint(1, 3)
    kernel, stride, dilation, padding = (
        tuple(rng.randint(low, high) for _ in range(rank))
        for low, high in ((1, 4), (1, 3), (1, 2), (0, 4))
    )
    reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    pads: tuple[int, ...] | str = tuple(map(min, padding, reach))
    if rng.random() < 0.3:
        pads, stride = "same", (1,) * rank
    frame = tuple(r + rng.randint(1, 4) for r in reach)
    kind: Callable[..., nn.Module] = nn.Conv1d if rank == 1 else nn.Conv2d
    bias = rng.random() < 0.7
    layer = kind(channels, outputs, kernel, stride, pads, dilation, groups, bias)
    return layer, (channels, *frame)


@pytest.mark.parametrize("number", range(60))
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_integers_are_those_of_torch_in_float64(number: int, seed: int) -> None:
    rng = random.Random(f"seed {seed} conv {number}")
    torch.manual_seed(number)
    model, shape = _random_convolution(rng)
    graph = _quantised(model, shape, number, weight_width=rng.randint(2, 6))
    (x,) = example_batch(rng, (shape,), 5)
    integers = run_in_integers(graph, {graph.placeholders[0]: x.double().numpy()})
    node = _node(graph)
    with torch.no_grad():
        wanted = graph.model.double()(x.double()).numpy()
    assert np.array_equal(
        integers[node.name] * 2.0 ** -common_of(node).output.fixed.frac_width, wanted
    )
    macs = sum(
        unit.op.macs(unit.site.attributes, unit.site.exact) for unit in dataflow_of(graph).units
    )
    layer: Any = model
    per_output = int(np.prod(layer.kernel_size)) * layer.in_channels // layer.groups
    assert macs == wanted[0].size * per_output


_BINARY = {"weight_format": "binary", "weight_scale": 1.0, "weight_width": None}
WEIGHTS: Mapping[str, Mapping[str, object]] = {
    "binary": _BINARY,
    "signs": {
        **_BINARY,
        "data_in_format": "binary",
        "data_in_scale": 1.0,
        "data_in_width": None,
        "data_in_frac_width": None,
        "data_in_signed": None,
    },
    "ternary": {"weight_format": "ternary", "weight_scale": 1.0, "weight_width": None},
    "log": {"weight_format": "log", "weight_width": 4},
    "fp8": {"weight_format": "fp8_e4m3", "weight_width": None},
    "mxint": {"weight_format": "mxint", "weight_width": 5, "weight_block_size": 2},
}
LAYERS: Mapping[str, Callable[[], nn.Module]] = {
    "dense": lambda: nn.Conv2d(4, 2, 2),
    "padded": lambda: nn.Conv2d(4, 2, 3, padding=1),
    "groups": lambda: nn.Conv2d(4, 4, (2, 3), padding=(1, 0), groups=2),
    "depthwise": lambda: nn.Conv2d(4, 8, 2, groups=4),
    "depthwise_padded": lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4),
}


@pytest.fixture(scope="module")
def format_designs(tmp_path_factory: pytest.TempPathFactory, seed: int) -> list[Design]:
    """Every kind of weight in every kind of convolution."""
    folder = tmp_path_factory.mktemp("formats")
    designs: list[Design] = []
    for kind, config in WEIGHTS.items():
        for name, make in LAYERS.items():
            label = f"seed {seed} {name} {kind}"
            rng = random.Random(label)
            torch.manual_seed(rng.randrange(1 << 31))
            given = {**config, "weight_frac_width": None}
            graph = _quantised(make(), (4, 4, 4), 0, **given)
            graph = scheduled(rng, graph, adder_graphs=0)
            top = f"formats{len(designs)}"
            designs.append(emitted(label, graph, folder / top, top, rng, ((4, 4, 4),)))
    return designs


def test_every_kind_of_weight(format_designs: list[Design], seed: int) -> None:
    kinds = {
        instance_kind
        for design in format_designs
        for instance_kind in _kinds(design.directory / f"rtl/{design.manifest.top}.sv")
    }
    assert kinds == {"integer", "binary", "ternary", "log", "minifloat", "xnor"}
    assert simulation_faults(format_designs, seed) == []


def _kinds(top: Path) -> set[str]:
    lines = [line for line in top.read_text().splitlines() if ".WeightKind" in line]
    return {line.split('"')[1] for line in lines}


def test_signs_in_padding_are_no_signs(format_designs: list[Design]) -> None:
    """A frame of +-1 has zeros around it: one bit does not hold them."""
    kinds = {
        design.label.split(" ", 2)[2]: _kinds(design.directory / f"rtl/{design.manifest.top}.sv")
        for design in format_designs
        if design.label.endswith("signs")
    }
    assert kinds == {
        "dense signs": {"xnor"},
        "padded signs": {"binary"},
        "groups signs": {"binary"},
        "depthwise signs": {"xnor"},
        "depthwise_padded signs": {"binary"},
    }


class _Both(nn.Module):
    """Reads one tensor in two ways."""

    def __init__(self, first: str) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3, padding=1)
        self.linear = nn.Linear(8, 5)
        self.first = first

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.first == "conv":
            return self.conv(x), self.linear(x)
        return self.linear(x), self.conv(x)


@pytest.mark.parametrize("first", ["conv", "linear"])
def test_a_port_has_the_order_of_its_first_reader(first: str) -> None:
    graph = add_hardware_metadata_analysis_pass(_quantised(_Both(first), (3, 8)))
    dataflow = dataflow_of(graph)
    assert dataflow.inputs["x"].layout == ((3, 1, 8) if first == "conv" else None)
    second = "linear" if first == "conv" else "conv"
    reorders = [u.node for u in dataflow.units if u.op.name == "permute"]
    assert reorders == [f"{second}_reorder"]


def test_a_linear_layer_gives_the_order_that_a_convolution_reads() -> None:
    model = nn.Sequential(nn.Linear(5, 24), nn.Unflatten(1, (4, 2, 3)), nn.Conv2d(4, 3, 2))
    graph = _quantised(model, (5,))
    names = [unit.op.name for unit in dataflow_of(graph).units]
    assert "permute" not in names
    first = next(n for n in graph.fx_graph.nodes if common_of(n).operator == "linear")
    assert common_of(first).output.layout == (4, 2, 3)


def test_windows_get_few_lanes() -> None:
    """More lanes than the interval asks for would be memory and selections for nothing."""
    graph = _quantised(nn.Conv2d(8, 4, 3, padding=1), (8, 6, 6))
    graph = add_hardware_metadata_analysis_pass(graph, {"target_initiation_interval": 36 * 72})
    slow = hardware_of(_node(graph))
    (window,) = slow.stages
    assert window.folding.out_lanes == window.folding.in_lanes < 8
    graph = add_hardware_metadata_analysis_pass(graph, {"target_initiation_interval": 36})
    fast = hardware_of(_node(graph))
    (wide,) = fast.stages
    assert (wide.folding.in_lanes, wide.folding.out_lanes) == (8, 72)
    assert wide.cost.luts > 3 * window.cost.luts > 0
    assert fast.total_cost == fast.cost + wide.cost


def _node(graph: MaseGraph) -> fx.Node:
    found: fx.Node
    (found,) = [n for n in graph.fx_graph.nodes if common_of(n).operator == "conv"]
    return found


class _Normed(nn.Module):
    def __init__(self, layer: nn.Module, channels: int, before: bool) -> None:
        super().__init__()
        self.layer, self.norm, self.before = layer, nn.BatchNorm2d(channels), before
        for name in ("weight", "running_var", "bias", "running_mean"):
            nn.init.uniform_(getattr(self.norm, name), 0.5, 1.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor
        y = self.layer(self.norm(x)) if self.before else self.norm(self.layer(x))
        return y


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("before", [False, True])
def test_batch_norms_fold_where_the_padding_lets_them(
    groups: int, padding: int, before: bool
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 8, 3, padding=padding, groups=groups, bias=False)
    model = _Normed(layer, 4 if before else 8, before).eval()
    x = torch.randn(3, 4, 5, 5)
    graph = fold_batch_norm_transform_pass(annotated(model, (x,)))
    left = [n for n in graph.fx_graph.nodes if common_of(n).operator == "batch_norm"]
    # The norm of the padding is not zero.
    assert bool(left) == (before and padding > 0)
    with torch.no_grad():
        assert torch.allclose(graph.model(x), model(x), atol=1e-5)


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (
            nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"),
            (2, 4, 4),
            "node 'conv2d': padding_mode 'circular'; use 'zeros', or a pad before it",
        ),
        (
            nn.Conv2d(6, 2, 3),
            (4, 4),
            "node 'conv2d': a 2-D convolution of a batch of tensors of shape (4, 4); "
            "give it a batch of [C, H, W]",
        ),
        (
            nn.Conv1d(6, 2, 3),
            (4,),
            "node 'conv1d': a 1-D convolution of a batch of tensors of shape (4,); "
            "give it a batch of [C, L]",
        ),
    ],
)
def test_refusals(model: nn.Module, shape: tuple[int, ...], message: str) -> None:
    x = torch.randn(6, *shape)
    with pytest.raises(UnsupportedOpError) as caught:
        annotated(model, (x,))
    assert str(caught.value) == message


def test_blocks_are_no_data_of_a_convolution() -> None:
    graph = _quantised(
        nn.Conv2d(2, 2, 3),
        (2, 4, 4),
        data_in_format="mxint",
        data_in_exponent_width=3,
        data_in_block_size=2,
        data_in_frac_width=None,
    )
    with pytest.raises(UnsupportedOpError) as caught:
        dataflow_of(graph)
    assert "operator 'conv' has no hardware for data in" in str(caught.value)


def test_large_batches_are_computed_some_samples_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = _quantised(nn.Conv2d(2, 3, 3, padding=1), (2, 5, 4))
    (x,) = example_batch(random.Random(0), ((2, 5, 4),), 23)
    inputs = {graph.placeholders[0]: x.double().numpy()}
    at_once = run_in_integers(graph, inputs)
    sizes = []

    def counted(program: Program, parts: Sequence[Ints]) -> Ints:
        sizes.append(len(parts[0]))
        return whole(program, parts)

    whole = runner._run
    monkeypatch.setattr(runner, "_run", counted)
    # Of windows, 3 * 3 * 2 elements for each of 20 pixels.
    monkeypatch.setattr(runner, "_MOST_ELEMENTS", 7 * 18 * 20)
    in_parts = run_in_integers(graph, inputs)
    assert sizes[-4:] == [7, 7, 7, 2]
    assert {k: v.tolist() for k, v in at_once.items()} == {
        k: v.tolist() for k, v in in_parts.items()
    }
