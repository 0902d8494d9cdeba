"""No FIFO deeper than needed: one beat less delays an output of the second simulator."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from chop.models.resnet import resnet8
from chop.models.unet import unet_mini
from tests.unit.test_schedule_queues import Design, dag, residual


def _design(model: nn.Module, shape: tuple[int, ...], interval: int) -> Design:
    torch.manual_seed(0)
    model.eval()
    return Design(model, shape, interval)


def _check(design: Design, label: str) -> int:
    """Returns how many FIFOs there are of which one beat less was seen to be too little."""
    planned = design.run({})
    deep = {place: depth for place, depth in design.fifos().items() if depth > 1}
    for place, depth in deep.items():
        name = design.netlist.instances[place[0]].name
        less = design.run({place: depth - 1}, planned)
        assert less != planned, f"{label}: {name} is too deep"
    return len(deep)


def test_no_fifo_of_resnet8_is_deeper_than_needed() -> None:
    design = _design(resnet8((2, 4, 4), 8), (3, 8, 8), 1152)
    assert _check(design, "resnet8") >= 3


def test_no_fifo_of_a_unet_is_deeper_than_needed() -> None:
    design = _design(unet_mini(channels=2), (1, 8, 8), 1152)
    assert _check(design, "unet") >= 2


@pytest.mark.parametrize(("stride", "interval"), [(1, 648), (1, 1296), (2, 648), (2, 1296)])
def test_no_fifo_of_a_residual_block_is_deeper_than_needed(stride: int, interval: int) -> None:
    assert _check(residual(stride, interval), f"stride {stride}, interval {interval}")


def test_no_fifo_of_random_graphs_is_deeper_than_needed() -> None:
    assert sum(_check(dag(f"trimming {n}"), f"graph {n}") for n in range(24)) > 10
