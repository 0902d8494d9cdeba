"""Lanes of neighbours that do not match: more multipliers instead of a refusal."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import torch
from torch import nn

from chop.config.schema import ModelConfig
from chop.errors import ConfigError
from chop.ir.graph import MaseGraph
from chop.ir.meta import Folding
from chop.models.create import create_model
from chop.ops.base import RomOptions
from chop.passes.graph.transforms import quantize_transform_pass
from chop.schedule.budget import Budget, schedule
from chop.schedule.folding import choose_foldings
from chop.schedule.matching import Choice, matching_foldings, stream_beats
from chop.schedule.options import HardwareOptions
from chop.schedule.plan import UnevenError, make_plan
from chop.schedule.units import Dataflow, dataflow_of
from tests.ops.designs import annotated

_CONFIG = {"name": "integer", "data_in_width": 8, "weight_width": 8, "bias_width": 8}


def _quantized(model: nn.Module, shape: tuple[int, ...]) -> MaseGraph:
    model.eval()
    graph = annotated(model, [torch.rand(2, *shape)])
    return quantize_transform_pass(graph, {"default": {"config": _CONFIG}})


def _dataflow(*widths: int) -> Dataflow:
    torch.manual_seed(0)
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
    return dataflow_of(_quantized(nn.Sequential(*layers), (3, widths[0])))


@pytest.fixture(scope="module")
def lenet() -> Dataflow:
    return dataflow_of(_quantized(create_model(ModelConfig(name="lenet5"), 0), (1, 28, 28)))


@pytest.mark.parametrize("interval", [3000, 3200, 3600, 9800])
def test_lenet_keeps_intervals_at_which_fewest_multipliers_do_not_match(
    lenet: Dataflow, interval: int
) -> None:
    options = HardwareOptions(target_initiation_interval=interval)
    foldings = choose_foldings(lenet, options, RomOptions())
    plan = make_plan(lenet, foldings, RomOptions())
    assert plan.initiation_interval <= interval
    _check_streams(lenet, foldings, interval)
    # A longer interval of the two takes no more multipliers.
    tighter = choose_foldings(lenet, HardwareOptions(target_initiation_interval=2500), RomOptions())
    assert _multipliers(foldings) < _multipliers(tighter)


@pytest.mark.parametrize("number", range(20))
def test_matching_takes_the_fewest_multipliers_of_all(number: int) -> None:
    """Against every combination of foldings of a chain of three layers."""
    rng = random.Random(f"matching {number}")
    dataflow = _dataflow(*(rng.choice((4, 6, 9, 10)) for _ in range(4)))
    interval = rng.randint(9, 90)
    choices = {
        unit.node: [Choice(f) for f in unit.op.foldings(unit.site) if f.cycles <= interval]
        for unit in dataflow.units
    }
    every = [
        sum(c.folding.multipliers for c in combination)
        for combination in itertools.product(*choices.values())
        if _keeps(dataflow, [c.folding for c in combination], interval)
    ]
    found = matching_foldings(dataflow, choices, interval)
    if isinstance(found, str):
        assert not every
        assert found in choices
    else:
        assert _multipliers(found) == min(every), f"matching {number}"
        _check_streams(dataflow, found, interval)


def test_a_budget_lengthens_the_interval_until_lanes_match() -> None:
    for budget in range(3, 60, 4):
        dataflow = _dataflow(9, 10, 9, 4)
        foldings = choose_foldings(dataflow, HardwareOptions(max_multipliers=budget), RomOptions())
        assert _multipliers(foldings) <= budget
        make_plan(dataflow, foldings, RomOptions())


def test_lanes_given_that_do_not_match_are_refused() -> None:
    lanes: dict[str, Any] = {"0": (1, 10), "linear_1_data_in": (10, 10), "1": (9, 1)}
    options = HardwareOptions(lanes=lanes, target_initiation_interval=27)
    with pytest.raises(ConfigError, match=r"no lanes keep an interval of \d+ cycles"):
        choose_foldings(_dataflow(9, 90, 4), options, RomOptions())


def _multipliers(foldings: dict[str, Folding]) -> int:
    return sum(folding.multipliers for folding in foldings.values())


def _keeps(dataflow: Dataflow, foldings: list[Folding], interval: int) -> bool:
    return all(
        stream_beats(unit.site.output.elements, a.out_lanes, b.in_lanes) <= interval
        for unit, a, b in zip(dataflow.units, foldings, foldings[1:], strict=False)
    )


def _check_streams(dataflow: Dataflow, foldings: dict[str, Folding], interval: int) -> None:
    for unit in dataflow.units:
        assert foldings[unit.node].cycles <= interval
        for source in unit.sources:
            if source in foldings:
                elements = dataflow.stream_type(source).elements
                beats = stream_beats(
                    elements, foldings[source].out_lanes, foldings[unit.node].in_lanes
                )
                assert beats <= interval


def test_samples_that_would_take_turns_get_the_interval_of_their_unit() -> None:
    """The windows take 24 cycles where the next frame is there in time, and 28 where it is not."""
    torch.manual_seed(0)
    depthwise = nn.Conv2d(2, 4, 3, padding=2, dilation=2, groups=2)
    first, last = nn.Linear(7, 24), nn.Linear(48, 13)
    model = nn.Sequential(first, nn.Unflatten(1, (2, 4, 3)), depthwise, nn.Flatten(), last)
    dataflow, rom = dataflow_of(_quantized(model, (7,))), RomOptions()
    options = HardwareOptions(target_initiation_interval=26)
    with pytest.raises(UnevenError, match="'conv2d_2': with 1 x 2 lanes its samples take turns"):
        make_plan(dataflow, choose_foldings(dataflow, options, rom), rom)
    assert schedule(dataflow, options, rom, Budget({}, {})).plan.initiation_interval == 24
    # Where another layer has no such interval, the unit gets other lanes.
    pinned = HardwareOptions(target_initiation_interval=26, lanes={"linear_4": (24, 1)})
    plan = schedule(dataflow, pinned, rom, Budget({}, {})).plan
    assert plan.initiation_interval == 26
    assert plan.units["conv2d_2"].build.folding.cycles == 12
