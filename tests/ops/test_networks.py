"""Generated networks that mix all operators: the reference, the RTL and the predicted cycles."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from chop.errors import ConfigError
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.ops.registry import operators
from chop.passes.graph.analysis.add_hardware import add_hardware_metadata_analysis_pass
from tests.ops.designs import (
    Design,
    Formats,
    annotated,
    emitted,
    example_batch,
    fake_outputs,
    out_of_range,
    quantised,
    reference_outputs,
    scheduled,
)
from tests.ops.networks import random_network
from tests.ops.rtl_checks import lint, simulation_faults

NETWORKS = 60
# Bounds of the clamps among the layers are whole numbers.
_FORMATS = Formats(widths=(2, 12), whole=(-1, 5))


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory, seed: int) -> list[Design]:
    return build_networks(tmp_path_factory.mktemp("networks"), seed, NETWORKS)


def build_networks(folder: Path, seed: int, count: int) -> list[Design]:
    designs = []
    for number in range(count):
        label = f"seed {seed} network {number}"
        rng = random.Random(label)
        network, shapes = random_network(rng, number)
        inputs = example_batch(rng, shapes, 48)
        graph = quantised(rng, annotated(network, inputs), _FORMATS)
        # Every other one as the scheduler has it, for some target.
        graph = scheduled(rng, graph, ideal=True) if number % 2 else _balanced(rng, graph)
        top = f"net{number}"
        designs.append(emitted(label, graph, folder / top, top, rng, shapes))
    return designs


def _balanced(rng: random.Random, graph: MaseGraph) -> MaseGraph:
    for _ in range(30):
        key = rng.choice(("target_initiation_interval", "max_multipliers"))
        try:
            return add_hardware_metadata_analysis_pass(graph, {key: rng.choice((1, 4, 13, 40))})
        except ConfigError:
            continue
    return add_hardware_metadata_analysis_pass(graph)


def test_networks_hold_every_operator(networks: list[Design]) -> None:
    used = {common_of(n).operator for d in networks for n in d.graph.fx_graph.nodes}
    assert {op.name for op in operators()} <= used
    assert max(len(d.manifest.outputs) for d in networks) > 1
    assert max(len(d.manifest.inputs) for d in networks) > 1


def test_captured_equals_eager(seed: int) -> None:
    for number in range(NETWORKS):
        rng = random.Random(f"seed {seed} eager {number}")
        network, shapes = random_network(rng)
        inputs = example_batch(rng, shapes, 17)
        with torch.no_grad():
            eager, captured = network(*inputs), MaseGraph(network).model(*inputs)
        assert all(torch.equal(a, b) for a, b in zip(eager, captured, strict=True)), number


def test_integer_reference_equals_the_fake_quantised_network(networks: list[Design]) -> None:
    wrong = [d.label for d in networks if out_of_range(d)]
    for design in networks:
        for fake, exact in zip(fake_outputs(design), reference_outputs(design), strict=True):
            if fake.shape != exact.shape or not np.array_equal(fake, exact):
                wrong.append(design.label)
    assert wrong == []


def test_no_cycle_is_lost_to_the_streams(networks: list[Design]) -> None:
    """Every network achieves the ideal interval of its multipliers, whoever chose the lanes."""
    manifests = [design.manifest for design in networks]
    lost = [
        (m.top, m.predicted_initiation_interval, m.ideal_initiation_interval)
        for m in manifests
        if m.predicted_initiation_interval != m.ideal_initiation_interval
    ]
    assert lost == []


def test_emitted_verilog_is_lint_clean(networks: list[Design], tmp_path: Path) -> None:
    assert lint(networks, tmp_path) == ""


def test_rtl_equals_the_reference_in_values_and_cycles(networks: list[Design], seed: int) -> None:
    assert simulation_faults(networks, seed) == []
