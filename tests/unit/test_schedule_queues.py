"""Queue depths against a second simulator: enough, not too much, and no deadlock."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import nn

from chop.ops.base import RomOptions
from chop.passes.graph.transforms import quantize_transform_pass
from chop.schedule.folding import choose_foldings
from chop.schedule.netlist import Netlist, build_netlist
from chop.schedule.options import HardwareOptions
from chop.schedule.plan import make_plan
from chop.schedule.units import dataflow_of
from tests.ops.designs import annotated
from tests.unit.stream_simulator import simulate

CONFIG = {
    "name": "integer",
    "data_in_width": 8,
    "data_in_frac_width": 4,
    "weight_width": 8,
    "weight_frac_width": 6,
    "bias_width": 8,
    "bias_frac_width": 6,
}
_DEPTHS = ("Depth", "InDepth", "OutDepth")
_SAMPLES = 6
_PLENTY = 10**6


class _Dag(nn.Module):
    """Linear layers, activations and sums of anything before; what nobody reads is summed up."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.width = rng.choice((4, 6, 8))
        self.steps: list[tuple[str, int, int]] = []
        self.layers = nn.ModuleList()
        for count in range(rng.randint(3, 7)):
            kind = rng.choice(("linear", "linear", "relu", "add", "add"))
            self.steps.append((kind, rng.randint(0, count), rng.randint(0, count)))
            self.layers.append(nn.Linear(self.width, self.width) if kind == "linear" else nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values, read = [x], {0}
        for (kind, a, b), layer in zip(self.steps, self.layers, strict=True):
            read |= {a, b} if kind == "add" else {a}
            values.append(values[a] + values[b] if kind == "add" else layer(values[a]))
        last, *others = [v for i, v in enumerate(values) if i not in read]
        for value in others:
            last = last + value
        return last


class Residual(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 2, 3, padding=1)
        self.second = nn.Conv2d(2, 2 * stride, 3, stride, padding=1)
        self.shortcut = nn.Conv2d(2, 2 * stride, 1, stride) if stride > 1 else nn.Identity()
        self.head = nn.Linear(2 * stride * (6 // stride) ** 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(self.first(x).relu())
        y = (y + self.shortcut(x)).relu()
        result: torch.Tensor = self.head(y.flatten(1))
        return result


class Pooled(nn.Module):
    """The bins of a frame, and of what a layer makes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(2, 2, 3, padding=1), nn.AdaptiveMaxPool2d((4, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.pool(self.conv(x)) + self.pool(x)
        return result


class Design:
    """A scheduled network, to be simulated with these queues and with others."""

    def __init__(self, model: nn.Module, shape: tuple[int, ...], interval: int) -> None:
        graph = annotated(model, [torch.randn(2, *shape)])
        graph = quantize_transform_pass(graph, {"default": {"config": CONFIG}})
        dataflow, rom = dataflow_of(graph), RomOptions()
        options = HardwareOptions(target_initiation_interval=interval)
        self.plan = make_plan(dataflow, choose_foldings(dataflow, options, rom), rom)
        self.netlist = build_netlist(dataflow, self.plan, "top")
        self._beats = {
            name: type.elements // self.plan.input_lanes[name]
            for name, type in dataflow.inputs.items()
        }

    def run(
        self,
        depths: Mapping[tuple[int, str], int],
        expected: Mapping[str, list[int]] | None = None,
    ) -> dict[str, list[int]]:
        """Returns the cycles of all outputs' beats with other depths, by instance and parameter.

        Up to the first one that is not as expected.
        """
        interval = self.plan.initiation_interval
        cycles = self.plan.latency_cycles + _SAMPLES * interval
        return simulate(_changed(self.netlist, depths), self._beats, interval, cycles, expected)

    def depths(self) -> dict[tuple[int, str], int]:
        return {
            (number, key): int(instance.parameters[key])
            for number, instance in enumerate(self.netlist.instances)
            for key in _DEPTHS
            if key in instance.parameters
        }

    def fifos(self) -> dict[tuple[int, str], int]:
        """Returns the depths of the FIFOs alone."""
        return {
            place: depth
            for place, depth in self.depths().items()
            if self.netlist.instances[place[0]].module == "chop_fifo"
        }


def _changed(netlist: Netlist, depths: Mapping[tuple[int, str], int]) -> Netlist:
    instances = []
    for number, instance in enumerate(netlist.instances):
        own = {key: depth for (n, key), depth in depths.items() if n == number}
        instances.append(replace(instance, parameters={**instance.parameters, **own}))
    return replace(netlist, instances=instances)


def dag(seed: str) -> Design:
    rng = random.Random(seed)
    torch.manual_seed(rng.randrange(1000))
    model = _Dag(rng)
    width = model.width
    interval = rng.choice((width, 2 * width, width * width // 2, width * width))
    return Design(model, (width,), interval)


def residual(stride: int, interval: int) -> Design:
    torch.manual_seed(stride)
    return Design(Residual(stride), (2, 6, 6), interval)


def _check(design: Design, label: str) -> None:
    unlimited = design.run(dict.fromkeys(design.depths(), _PLENTY))
    assert design.run({}) == unlimited, label
    first = min(cycles[0] for cycles in unlimited.values())
    assert design.plan.latency_cycles == first, label


@pytest.mark.parametrize("number", range(16))
def test_queues_lose_nothing_in_random_graphs(number: int) -> None:
    _check(dag(f"queues {number}"), f"graph {number}")


@pytest.mark.parametrize(("stride", "interval"), [(1, 324), (1, 648), (2, 648), (2, 1296)])
def test_queues_lose_nothing_in_residual_blocks(stride: int, interval: int) -> None:
    _check(residual(stride, interval), f"stride {stride}, interval {interval}")


@pytest.mark.parametrize("interval", [378, 630, 1260])
def test_queues_lose_nothing_beside_bins(interval: int) -> None:
    torch.manual_seed(interval)
    design = Design(Pooled(), (2, 7, 5), interval)
    assert "chop_bins" in {i.module for i in design.netlist.instances}
    _check(design, f"interval {interval}")
    unlimited = design.run(dict.fromkeys(design.depths(), _PLENTY))
    deep = {place: depth for place, depth in design.fifos().items() if depth > 1}
    assert deep
    for place, depth in deep.items():
        assert design.run({place: depth - 1}) != unlimited, (interval, _name(design, place))


@pytest.mark.parametrize("interval", [648, 1296])
def test_one_less_beside_a_residual_block_is_too_little(interval: int) -> None:
    design = residual(1, interval)
    unlimited = design.run(dict.fromkeys(design.depths(), _PLENTY))
    (place,) = (p for p in design.depths() if _name(design, p) == "u_x_to_add_fifo")
    assert design.run({place: design.depths()[place] - 1}) != unlimited


def _name(design: Design, place: tuple[int, str]) -> str:
    return design.netlist.instances[place[0]].name


def test_a_slow_branch_makes_the_fast_one_wait_no_longer_than_it_must() -> None:
    """The whole frame would be 72 beats; the windows of both layers begin after three rows."""
    design = residual(1, 1296)
    (skip,) = (i for i in design.netlist.instances if i.name == "u_x_to_add_fifo")
    assert int(skip.parameters["Depth"]) < 36


def test_windows_have_their_least_depth() -> None:
    design = residual(1, 1296)
    windows = [i.parameters for i in design.netlist.instances if i.module == "chop_window"]
    # Two rows and three pixels of two channels.
    assert [p["Depth"] for p in windows] == [30 // int(p["Lanes"]) for p in windows]


def test_a_fork_without_its_fifo_stands_still() -> None:
    design = residual(1, 1296)
    (place,) = (p for p in design.depths() if _name(design, p) == "u_x_to_add_fifo")
    assert all(beats == [] for beats in design.run({place: 1}).values())
