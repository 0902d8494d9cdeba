"""The cocotb test of fc_layer: every output equals W x + b, and no cycle is lost.

Runs inside the simulator, in a folder with `weights.mem`, `biases.mem` and `layer.npz` (W and b).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge
from numpy.typing import NDArray

Ints = NDArray[np.int64]
VECTORS = 20


def pack(lanes: Ints, width: int) -> int:
    """Returns the lanes side by side, lane 0 in the lowest bits."""
    return sum((int(v) & ((1 << width) - 1)) << (i * width) for i, v in enumerate(lanes))


def unpack(word: int, lanes: int, width: int) -> Ints:
    """Returns the signed lanes of a word."""
    values = [(word >> (i * width)) & ((1 << width) - 1) for i in range(lanes)]
    return np.array([v - (1 << width) if v >> (width - 1) else v for v in values])


async def start(dut: Any) -> None:
    """Starts the clock and resets the layer."""
    Clock(dut.clk_i, 10, unit="ns").start()
    dut.rst_ni.value = 0
    dut.x_valid_i.value = 0
    dut.y_ready_i.value = 0
    for _ in range(3):
        await RisingEdge(dut.clk_i)
    dut.rst_ni.value = 1


async def drive(dut: Any, x: Ints, stall: float, rng: np.random.Generator) -> None:
    """Sends vectors; in a share of the cycles there is nothing to send."""
    lanes, width = int(dut.InLanes.value), int(dut.DataWidth.value)
    for beat in x.reshape(-1, lanes):
        while rng.random() < stall:
            dut.x_valid_i.value = 0
            await RisingEdge(dut.clk_i)
        dut.x_valid_i.value = 1
        dut.x_data_i.value = pack(beat, width)
        await ReadOnly()
        while not dut.x_ready_o.value:
            await RisingEdge(dut.clk_i)
            await ReadOnly()
        await RisingEdge(dut.clk_i)
    dut.x_valid_i.value = 0


async def receive(
    dut: Any, beats: int, stall: float, rng: np.random.Generator
) -> AsyncIterator[Ints]:
    """Yields beats as they are taken; in a share of the cycles the reader is not ready."""
    lanes, width = int(dut.OutLanes.value), int(dut.OutWidth.value)
    while beats:
        dut.y_ready_i.value = int(rng.random() >= stall)
        await ReadOnly()
        if dut.y_valid_o.value and dut.y_ready_i.value:
            yield unpack(int(dut.y_data_o.value), lanes, width)
            beats -= 1
        await RisingEdge(dut.clk_i)


async def check(dut: Any, stall: float, seed: int) -> int:
    """Sends random vectors, compares every output, and returns the cycles that they took."""
    rng = np.random.default_rng(seed)
    layer = np.load("layer.npz")
    weight, bias = layer["weight"], layer["bias"]
    width = int(dut.DataWidth.value)
    x = rng.integers(-(1 << (width - 1)), 1 << (width - 1), (VECTORS, weight.shape[1]))
    # The numbers at the ends find what random ones may not.
    x[0], x[1] = -(1 << (width - 1)), (1 << (width - 1)) - 1
    expected = (x @ weight.T + bias).reshape(-1, int(dut.OutLanes.value))
    await start(dut)
    before = cocotb.utils.get_sim_time("ns")
    cocotb.start_soon(drive(dut, x, stall, rng))
    got = 0
    async for beat in receive(dut, len(expected), stall, np.random.default_rng(seed + 1)):
        assert np.array_equal(beat, expected[got]), (
            f"beat {got}: {beat.tolist()} instead of {expected[got].tolist()}"
        )
        got += 1
    return round((cocotb.utils.get_sim_time("ns") - before) / 10)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def without_stalls(dut: Any) -> None:
    """Right at full speed, and in the cycles that the header promises."""
    cycles = await check(dut, 0.0, seed=1)
    in_beats = int(dut.InFeatures.value) // int(dut.InLanes.value)
    out_beats = int(dut.OutFeatures.value) // int(dut.OutLanes.value)
    promised = in_beats + out_beats * (in_beats + 1)
    dut._log.info("CYCLES %g", cycles / VECTORS)
    assert abs(cycles - VECTORS * promised) <= 1, f"{cycles / VECTORS} cycles, not {promised}"


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def with_stalls(dut: Any) -> None:
    """Right when the source pauses and the reader is not ready, at random."""
    await check(dut, 0.4, seed=2)
