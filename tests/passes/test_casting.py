"""Casts moved in front of what joins, compares or moves: several scales become one, exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx, nn
from torch.nn import functional

from chop.errors import UnsupportedOpError
from chop.formats.fixed import Fixed
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.nn.fake_quantize import fake_quantize
from chop.ops.annotate import record, run_in_integers
from chop.passes.graph.transforms import float_to_fake_transform_pass, quantize_transform_pass
from chop.passes.graph.transforms.dequantize import take_back_formats
from tests.passes.networks import annotated

SCALED = {"name": "scaled_integer", "data_in_width": 8, "weight_width": 7}
CHANNELS = {**SCALED, "weight_per_channel": True}
Function = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Branches(nn.Module):
    """[N, 4, 4, 4] -> [N, 2, ...]: two convolutions, what makes one tensor of them, one more."""

    def __init__(self, join: Function, channels: int = 6) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 3, 3, padding=1, bias=False)
        self.join = join
        self.last = nn.Conv2d(channels, 2, 1)
        with torch.no_grad():
            self.b.weight *= 3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.last(self.join(self.a(x), self.b(x)))
        return result


class Ends(nn.Module):
    """What nothing rounds behind it: the join is a result, and read by two."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.wide = nn.Linear(6, 3), nn.Linear(6, 3), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        both = torch.cat([self.a(x), self.b(x)], 1)
        return both, self.wide(both.relu())


def images(count: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, 4, 4, generator=generator).double()


def quantised(model: nn.Module, x: torch.Tensor, **more: Any) -> MaseGraph:
    arguments = {"by": "type", "default": {"config": SCALED}, "calibration": x, **more}
    return quantize_transform_pass(annotated(model, x[:3]), arguments)


def built(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return make().double().eval()


def node_of(graph: MaseGraph, operator: str) -> fx.Node:
    found: list[fx.Node]
    found = [n for n in graph.fx_graph.nodes if common_of(n).operator == operator]
    assert len(found) == 1
    return found[0]


def node_of_name(graph: MaseGraph, name: str) -> fx.Node:
    found: list[fx.Node] = [n for n in graph.fx_graph.nodes if n.name == name]
    assert len(found) == 1
    return found[0]


def operators(graph: MaseGraph) -> list[str]:
    kinds = [common_of(node).operator for node in graph.fx_graph.nodes]
    return [kind for kind in kinds if kind not in ("input", "output")]


def check_equal(graph: MaseGraph, x: torch.Tensor) -> dict[str, np.ndarray[Any, Any]]:
    """Rounded nodes are equal to the integers, bit for bit; accumulators to some last places."""
    (name,) = graph.placeholders
    graph.model.double()
    integers, floats = run_in_integers(graph, {name: x.numpy()}), record(graph, {name: x})
    assert set(floats) - set(integers) <= {name, "output"}
    for node in graph.fx_graph.nodes:
        if node.name not in integers:
            continue
        type = common_of(node).output
        step = np.asarray(np.ldexp(1.0, -type.fixed.frac_width))
        step = step if type.scale is None else step * type.scale.floats()
        assert np.abs(floats[node.name] / step - integers[node.name]).max() < 2.0**-20, node.name
        if common_of(node).operator in ("cast", "cat", "extreme", "scaled_clamp", "permute"):
            assert np.array_equal(floats[node.name], integers[node.name] * step)
    return floats


JOINS: dict[str, tuple[Function, int, str]] = {
    "cat": (lambda a, b: torch.cat([a, b], 1), 6, "cat"),
    "activated": (lambda a, b: torch.cat([a.relu(), b.relu()], 1), 6, "cat"),
    "behind": (lambda a, b: torch.cat([a, b], 1).relu(), 6, "cat"),
    "twice": (lambda a, b: torch.cat([a, b, a], 1).relu().transpose(2, 3), 9, "cat"),
    "pooled": (lambda a, b: functional.max_pool2d(torch.cat([a, b], 1).relu(), 3, 1, 1), 6, "cat"),
    "stack": (lambda a, b: torch.stack([a, b], 2).flatten(1, 2), 6, "cat"),
    "maximum": (torch.maximum, 3, "extreme"),
    "minimum": (lambda a, b: torch.minimum(a, b).relu(), 3, "extreme"),
}


@pytest.mark.parametrize("config", [SCALED, CHANNELS], ids=["tensor", "channels"])
@pytest.mark.parametrize("name", JOINS)
def test_a_cast_in_front_of_a_join_is_the_cast_behind_it(name: str, config: dict[str, Any]) -> None:
    """The readers' format, on the operands: no second rounding, and none behind."""
    join, channels, operator = JOINS[name]
    x = images(40)
    model = built(lambda: Branches(join, channels))
    graph = quantised(model, x, default={"config": config})
    node = node_of(graph, operator)
    # The input, and one for each branch.
    assert operators(graph).count("cast") == 3
    formats = {common_of(source).output.format for source in node.all_input_nodes}
    (format,) = formats
    assert format is not None
    last = node_of_name(graph, "last")
    scale = common_of(last).inputs[0].scale
    assert scale == format.scale
    floats = check_equal(graph, images(200, 2) * 2)
    # The same with one cast behind the join, on the branches' exact values.
    exact = [floats["a"], floats["b"]]
    joined = join(*(torch.from_numpy(value) for value in exact))
    rounded = fake_quantize(joined, format)
    (source,) = last.all_input_nodes
    assert np.array_equal(floats[source.name], rounded.numpy())
    assert format.low == (
        0 if name in ("activated", "behind", "twice", "pooled", "minimum") else -128
    )


def test_a_join_that_is_an_output_keeps_its_own_format() -> None:
    x = images(60).flatten(1)[:, :6]
    graph = quantised(built(Ends), x)
    check_equal(graph, x * 2)
    cat = node_of(graph, "cat")
    (format,) = {common_of(source).output.format for source in cat.all_input_nodes}
    assert format is not None
    assert format.low < 0
    # relu, then unsigned: the cast of the other reader stays behind.
    assert operators(graph).count("cast") == 4


def test_readers_of_other_widths_cast_again_and_a_named_join_has_its_own() -> None:
    x = images(40)
    model = built(lambda: Branches(JOINS["behind"][0]))
    narrow = {"config": {**SCALED, "data_in_width": 4}}
    for entries, width, casts in (
        ({"last": narrow}, 4, 3),
        ({"cat": {"config": {**SCALED, "data_in_width": 5}}}, 5, 4),
        ({"cat": {"config": {**SCALED, "data_out_width": 6}}}, 8, 5),
    ):
        by = "name" if "last" in entries else "type"
        graph = quantised(model, x, by=by, **entries)
        check_equal(graph, images(50, 4))
        cat = node_of(graph, "cat")
        assert {common_of(source).output.fixed.width for source in cat.all_input_nodes} == {width}
        assert operators(graph).count("cast") == casts


def test_one_row_of_the_report_for_each_format_in_use() -> None:
    x = images(40)
    graph = quantised(built(lambda: Branches(JOINS["behind"][0])), x)
    rows = [(row["node"], row["tensor"]) for row in graph.info["quantize"]]
    assert ("cat", "data_in") not in rows
    assert ("last", "data_in") in rows


@pytest.mark.parametrize("config", [SCALED, CHANNELS], ids=["tensor", "channels"])
@pytest.mark.parametrize(
    ("activation", "spelling"),
    [
        (functional.relu6, "relu6"),
        (lambda b: functional.hardtanh(b, -0.3, 0.7), "hardtanh"),
        (None, "clamp_max"),
    ],
    ids=["relu6", "hardtanh", "clamp_max"],
)
def test_a_clamp_of_a_scaled_tensor_is_rounded_once(
    config: dict[str, Any],
    activation: Callable[[torch.Tensor], torch.Tensor] | None,
    spelling: str,
) -> None:
    def clamped(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a + b).clamp_max(0.6) if activation is None else activation(b)

    x = images(60)
    model = built(lambda: Branches(clamped, 3))
    graph = quantised(model, x, default={"config": config})
    if activation is None:
        # The sum of two scales is rounded already, and its levels are not those of the bound.
        assert "scaled_add" in operators(graph)
    node = node_of(graph, "scaled_clamp")
    floats = check_equal(graph, images(200, 2) * 3)
    format = common_of(node).output.format
    assert format is not None
    assert common_of(node_of_name(graph, "last")).inputs[0].format == format
    (source,) = node.all_input_nodes
    exact = torch.from_numpy(floats[source.name])
    wanted = exact.clamp_max(0.6) if activation is None else activation(exact)
    assert np.array_equal(floats[node.name], fake_quantize(wanted, format).numpy())
    # And back: the same function under the same name, in float.
    take_back_formats(graph)
    assert "scaled_clamp" not in operators(graph)
    (back,) = (n for n in graph.fx_graph.nodes if common_of(n).operator == "clamp")
    assert getattr(back.target, "__name__", "") == spelling
    y = images(9, 5)
    with torch.no_grad():
        assert torch.equal(graph.model(y), annotated(model, y).model(y))


def test_a_bound_between_the_levels_of_fixed_point_is_rounded_with_the_result() -> None:
    x = images(60)
    config = {"name": "integer", "data_in_width": 8, "weight_width": 8}
    model = built(lambda: Branches(lambda a, b: b.clamp(-0.3, 0.7), 3))
    graph = quantised(model, x, default={"config": config})
    check_equal(graph, images(100, 2) * 3)
    assert isinstance(common_of(node_of(graph, "scaled_clamp")).output.format, Fixed)
    # A bound that is a level, or out of reach, needs no rounding.
    model = built(lambda: Branches(lambda a, b: b.clamp(0.0, 1e6 / 3), 3))
    graph = quantised(model, x, default={"config": config})
    check_equal(graph, images(100, 2) * 3)
    assert "clamp" in operators(graph)


def test_tensors_are_moved_with_one_scale() -> None:
    """Operators that take one scale only get it by a cast in front of them."""

    def moved(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.flip(a[:, 1:].repeat_interleave(2, 3), (2,))

    x = images(40)
    graph = quantised(built(lambda: Branches(moved, 2)), x, default={"config": CHANNELS})
    check_equal(graph, images(60, 2))
    scales = [common_of(n).output.scale for n in graph.fx_graph.nodes if n.name != "a"]
    last = common_of(node_of_name(graph, "last")).output.scale
    assert all(s is None or not s.per_channel or s == last for s in scales)


def test_sums_whose_products_are_too_wide_are_of_rounded_operands() -> None:
    """A residual connection of scaled integers: 48 bits of scale on one side, 24 on the other."""

    class Residual(Branches):
        def __init__(self) -> None:
            super().__init__(torch.add, 3)
            self.inner = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a = self.a(x).relu()
            result: torch.Tensor = self.last(torch.relu(self.join(a, self.inner(a))))
            return result

    x = images(40)
    for width in (8, 12):
        config = {**SCALED, "data_in_width": width, "weight_width": width}
        graph = quantised(built(Residual), x, default={"config": config})
        floats = check_equal(graph, images(60, 2))
        assert "scaled_add" in operators(graph)
        assert len(floats) > 8


def test_training_keeps_the_join_in_one_format() -> None:
    """Quantisers that learn would part: those of a join stay as they are."""
    x = images(40)
    learning = {"format": "scaled_integer", "width": 6, "algorithm": "lsq"}
    weight = {"format": "scaled_integer", "width": 6}
    rules = [
        {"select": {"type": "conv"}, "data_in": learning, "weight": weight},
        {"select": {"type": "cat"}, "data_in": learning},
    ]
    model = built(lambda: Branches(JOINS["cat"][0]))
    graph = float_to_fake_transform_pass(
        annotated(model, x[:3]), {"rules": rules, "calibration": x}
    )
    optimizer = torch.optim.SGD(graph.model.parameters(), 0.05)
    graph.model.train()
    for _ in range(3):
        optimizer.zero_grad()
        graph.model(x).square().mean().backward()
        optimizer.step()
    graph.model.eval()
    fresh = annotated(graph.model, x[:3])
    cat = node_of(fresh, "cat")
    assert len({common_of(source).output.scale for source in cat.all_input_nodes}) == 1


def test_without_a_plan_it_is_refused_with_the_scales() -> None:
    x = images(20)
    weight = {"format": "scaled_integer", "width": 6}
    data: dict[str, Any] = {"format": "scaled_integer", "width": 6}
    rules = [{"select": {"type": "conv"}, "data_in": data, "weight": weight}]
    model = built(lambda: Branches(JOINS["cat"][0]))
    with pytest.raises(UnsupportedOpError) as caught:
        float_to_fake_transform_pass(annotated(model, x[:3]), {"rules": rules, "calibration": x})
    assert "joins tensors of the scales x" in str(caught.value)
    assert str(caught.value).endswith("cast all of them to one format first (data_in)")


class Pooled(nn.Module):
    """The mean of 36 sums: with wide formats of more bits than a multiplication rounds exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(4, 5, 3, padding=1), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = functional.adaptive_avg_pool2d(self.conv(x).relu(), 1)
        result: torch.Tensor = self.last(mean.flatten(1))
        return result


@pytest.mark.parametrize(("width", "rounds_first"), [(8, False), (16, True)])
def test_a_mean_of_too_many_bits_reads_rounded_numbers(width: int, rounds_first: bool) -> None:
    x = torch.randn(12, 4, 6, 6, generator=torch.Generator().manual_seed(5)).double()
    config = {
        "name": "integer",
        "data_in_width": width,
        "data_in_frac_width": "auto",
        "weight_width": width,
        "weight_frac_width": "auto",
    }
    model = built(Pooled)
    graph = quantised(model, x, default={"config": config})
    pool = node_of(graph, "avg_pool")
    (source,) = pool.all_input_nodes
    assert (common_of(source).operator == "cast") == rounds_first
    check_equal(graph, x)
    wanted, given = model(x).detach(), graph.model.double()(x).detach()
    assert (wanted - given).abs().max() < (0.1 if width == 8 else 1e-3)
