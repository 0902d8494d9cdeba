"""The top module: what is between the layers, and that every signal has one driver."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

from chop.ir.graph import MaseGraph
from chop.passes.graph.analysis.add_hardware import add_hardware_metadata_analysis_pass
from chop.passes.graph.transforms import quantize_transform_pass
from chop.passes.graph.transforms.emitted import design_of
from chop.schedule.netlist import Netlist
from tests.ops.designs import Formats, annotated, emitted, example_batch, quantised, scheduled
from tests.ops.networks import random_network
from tests.ops.rtl_checks import lint, simulation_faults

_CONFIG = {
    "name": "integer",
    "data_in_width": 6,
    "data_in_frac_width": 3,
    "weight_width": 5,
    "weight_frac_width": 3,
    "bias_width": 8,
    "bias_frac_width": 6,
}


def _quantised(model: nn.Module, *shapes: tuple[int, ...]) -> MaseGraph:
    graph = annotated(model, [torch.randn(4, *shape) for shape in shapes])
    return quantize_transform_pass(graph, {"default": {"config": _CONFIG}})


def _netlist(graph: MaseGraph, **options: object) -> Netlist:
    return design_of(add_hardware_metadata_analysis_pass(graph, options), "d", "top", "0").netlist


def _modules(netlist: Netlist) -> list[str]:
    return [instance.module for instance in netlist.instances]


def test_equal_lanes_are_wired_directly() -> None:
    graph = _quantised(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), (4,))
    netlist = _netlist(graph, lanes={"linear_0": (2, 4), "relu_1": (4, 4)})
    assert _modules(netlist) == ["chop_linear", "chop_relu"]
    assert netlist.assigns == []


def test_other_lanes_get_a_converter_and_lanes_without_a_divisor_two() -> None:
    graph = _quantised(nn.Sequential(nn.Linear(4, 6), nn.ReLU()), (4,))
    netlist = _netlist(graph, lanes={"linear_0": (1, 6), "relu_1": (2, 2)})
    assert _modules(netlist) == ["chop_linear", "chop_width_converter", "chop_relu"]
    converter = netlist.instances[1].parameters
    assert (converter["InLanes"], converter["OutLanes"]) == (6, 2)
    netlist = _netlist(graph, lanes={"linear_0": (1, 2), "relu_1": (3, 3)})
    pairs = [
        (i.parameters["InLanes"], i.parameters["OutLanes"])
        for i in netlist.instances
        if i.module == "chop_width_converter"
    ]
    assert pairs == [(2, 1), (1, 3)]


class Fork(nn.Module):
    """One tensor to two readers and an output; an input that two layers read."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        h = torch.relu(self.a(x))
        return h, self.b(h), self.c(h), self.c(x)


def test_a_stream_with_several_readers_gets_one_fork() -> None:
    netlist = _netlist(_quantised(Fork(), (4,)), target_initiation_interval=4)
    forks = {i.name: i.parameters["Outputs"] for i in netlist.instances if i.module == "chop_fork"}
    # The cast before b serves c as well.
    assert forks == {"u_x_fork": 2, "u_relu_fork": 2, "u_b_data_in_fork": 2}
    assert [port.name for port in netlist.outputs] == ["y0", "y1", "y2", "y3"]


def test_a_shared_layer_is_two_instances_with_their_own_rom() -> None:
    netlist = _netlist(_quantised(Fork(), (4,)))
    linear = [i.name for i in netlist.instances if i.module == "chop_linear"]
    assert linear == ["u_a", "u_b", "u_c", "u_c_1"]
    files = [memory.file for memory in netlist.memories]
    assert len(files) == len(set(files)) == 8


def _signals(expression: str) -> list[str]:
    """A port of several streams is connected to a list of signals in braces."""
    return expression.strip("{}").split(", ")


def drivers(netlist: Netlist) -> Counter[str]:
    """Counts the drivers of every signal; a fork's vector is driven as a whole or bit by bit."""
    found: Counter[str] = Counter()
    for instance in netlist.instances:
        for place, expression in instance.connections:
            found.update(_signals(expression) if place.endswith("_o") else ())
    found.update(target for target, _ in netlist.assigns)
    for port in netlist.inputs:
        found.update((f"{port.signal}_data_i", f"{port.signal}_valid_i"))
    found.update(f"{port.signal}_ready_i" for port in netlist.outputs)
    return found


def readers(netlist: Netlist) -> set[str]:
    used = {
        signal
        for i in netlist.instances
        for port, expression in i.connections
        if port.endswith("_i")
        for signal in _signals(expression)
    }
    used |= {source for _, source in netlist.assigns}
    used |= {f"{port.signal}_ready_o" for port in netlist.inputs}
    for port in netlist.outputs:
        used |= {f"{port.signal}_data_o", f"{port.signal}_valid_o"}
    return used


@pytest.mark.parametrize("number", range(12))
def test_every_signal_has_one_driver_and_a_reader(number: int) -> None:
    rng = random.Random(f"netlist {number}")
    network, shapes = random_network(rng)
    graph = annotated(network, example_batch(rng, shapes, 16))
    graph = scheduled(rng, quantised(rng, graph, Formats((2, 8), (-1, 4))))
    netlist = design_of(graph, "d", "top", "0").netlist
    driven = drivers(netlist)
    assert [signal for signal, count in driven.items() if count != 1] == []
    whole = {s.split("[")[0] for s in readers(netlist)}
    assert {s.split("[")[0] for s in driven} - {"clk_i", "rst_ni"} == whole - {"clk_i", "rst_ni"}
    names = [instance.name for instance in netlist.instances]
    assert len({name.lower() for name in names}) == len(names)
    signals = [wire.signal for wire in netlist.wires]
    signals += [port.signal for port in (*netlist.inputs, *netlist.outputs)]
    assert len({signal.lower() for signal in signals}) == len(signals)


class Keywords(nn.Module):
    """Names that are keywords of SystemVerilog, clash after mangling, or are ours."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(4, 3)
        self.wire = nn.Linear(4, 3)
        self.clk_i = nn.Linear(3, 4)
        self.CLK_I = nn.ReLU()
        self.top = nn.Linear(4, 2)
        self.tb = nn.ReLU()
        self.block = nn.ModuleDict({"0": nn.Linear(3, 3), "reg": nn.ReLU()})
        self.block_0 = nn.Linear(3, 3)
        self.unused = nn.Linear(3, 2)

    def forward(
        self, output: torch.Tensor, input: torch.Tensor, y0: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        logic = self.block["reg"](self.block["0"](self.module(output)))
        x_to_y = self.CLK_I(self.clk_i(self.wire(input)))
        reg = self.block_0(logic)
        return {
            "endmodule": self.top(self.tb(x_to_y)),
            "y": self.unused(reg),
            "end": torch.clamp(y0, min=0),
        }


class Clashes(nn.Module):
    """Names that are those of what the compiler adds: forks, FIFOs, converters, instances."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.x_fork, self.fc_fifo = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()
        self.fc_to_fc_data, self.u_fc, self.fc_data = nn.Linear(4, 4), nn.ReLU(), nn.ReLU()
        self.u_x_fork, self.x_fork_data, self.fc_data_valid = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x: torch.Tensor, X: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a = self.fc_data(self.fc(x))
        b = self.u_x_fork(self.x_fork(x))
        c = self.fc_to_fc_data(self.fc_fifo(a))
        return self.u_fc(c), self.x_fork_data(b), self.fc_data_valid(a), torch.relu(X)


@pytest.mark.parametrize(("model", "inputs"), [(Keywords, 3), (Clashes, 2)])
def test_names_that_are_keywords_or_clash_go_all_the_way(
    model: type[nn.Module], inputs: int, tmp_path: Path
) -> None:
    rng = random.Random(0)
    shapes = [(4,)] * inputs
    graph = _quantised(model(), *shapes)
    options = {"target_initiation_interval": 4}
    graph = add_hardware_metadata_analysis_pass(graph, options)
    design = emitted(model.__name__, graph, tmp_path, "endmodule_", rng, shapes)
    assert lint([design], tmp_path) == ""
    assert simulation_faults([design], 0) == []
    assert len(design.manifest.inputs) == inputs
