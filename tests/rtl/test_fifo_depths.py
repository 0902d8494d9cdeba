"""The depths of FIFOs in the RTL itself: as planned, and one beat less."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from chop.ir.graph import MaseGraph
from chop.passes.graph.analysis.add_hardware import add_hardware_metadata_analysis_pass
from chop.passes.graph.transforms import quantize_transform_pass
from chop.sim.simulate import SimulationOptions, SimulationRun, simulate_batch
from tests.ops.designs import Design, annotated, emitted, timing_faults
from tests.unit.test_schedule_queues import CONFIG, Residual

_SHAPE = (2, 6, 6)
_DEPTH = re.compile(r"(chop_fifo\s*#\([^;]*?\.Depth\s*\()(\d+)(\))")


def _designs(folder: Path, stride: int, interval: int) -> list[Design]:
    """Returns the design as planned, and then one for every FIFO that has a beat less."""
    torch.manual_seed(stride)
    graph = annotated(Residual(stride), [torch.randn(2, *_SHAPE)])
    graph = quantize_transform_pass(graph, {"default": {"config": CONFIG}})
    graph = add_hardware_metadata_analysis_pass(graph, {"target_initiation_interval": interval})
    designs = [_emitted(graph, folder, f"planned_{stride}", stride)]
    count = len(_DEPTH.findall(_top(designs[0]).read_text(encoding="utf-8")))
    for number in range(count):
        design = _emitted(graph, folder, f"less_{stride}_{number}", stride)
        text = _top(design).read_text(encoding="utf-8")
        match = list(_DEPTH.finditer(text))[number]
        depth = int(match[2])
        if depth > 1:
            less = f"{match[1]}{depth - 1}{match[3]}"
            _top(design).write_text(
                text[: match.start()] + less + text[match.end() :], encoding="utf-8"
            )
            designs.append(design)
    return designs


def _emitted(graph: MaseGraph, folder: Path, name: str, seed: int) -> Design:
    return emitted(name, graph, folder / name, name, random.Random(seed), [_SHAPE])


def _top(design: Design) -> Path:
    return design.directory / "rtl" / f"{design.manifest.top}.sv"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[tuple[Design, SimulationRun]]]:
    folder = tmp_path_factory.mktemp("fifos")
    every = {stride: _designs(folder, stride, 648) for stride in (1, 2)}
    cases = [design.batch_case() for designs in every.values() for design in designs]
    found = iter(simulate_batch(cases, SimulationOptions()))
    return {stride: [(d, next(found)) for d in designs] for stride, designs in every.items()}


@pytest.mark.parametrize("stride", [1, 2])
def test_planned_depths_cost_no_cycle_and_one_less_does(
    runs: dict[int, list[tuple[Design, SimulationRun]]], stride: int
) -> None:
    (planned, run), *others = runs[stride]
    assert run.passed
    assert not timing_faults(planned, run)
    assert others
    for design, less in others:
        if not less.deadlock:
            assert less.passed
            assert np.any(less.sample_cycles > run.sample_cycles), design.label
