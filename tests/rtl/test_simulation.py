"""The simulator finds what is wrong: tiny hand-written tops, each wrong in one known way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from chop.errors import SimulationError, ToolError
from chop.formats.rounding import Ints
from chop.ir.manifest import Manifest
from chop.sim.simulate import (
    BatchCase,
    Mismatch,
    SimulationOptions,
    simulate_batch,
    simulate_design,
)
from chop.sim.testbench import write_vectors
from tests.rtl.tiny_design import BEATS, ELEMENTS, LANES, MID, SAMPLES, emit, samples, values


def test_without_stalls_every_cycle_moves_a_beat(tmp_path: Path) -> None:
    x = samples()
    run = simulate_design(emit(tmp_path / "d"), *values(x))
    assert run.passed
    assert run.mismatches == 0
    assert run.first_mismatch is None
    assert run.waiting == ()
    np.testing.assert_array_equal(run.outputs["y"], x)
    # The source offers its first beat in cycle 1; two registers later it is at the sink.
    assert (run.first_input_cycle, run.first_output_cycle) == (1, 3)
    np.testing.assert_array_equal(run.sample_cycles, 3 + BEATS * np.arange(1, SAMPLES + 1) - 1)
    assert run.cycles == 3 + BEATS * SAMPLES


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_stalls_come_with_the_given_probability(tmp_path: Path, probability: float) -> None:
    # Wires: a beat waits for the source's gap and then for the sink's ready. Both are geometric
    # and independent, so a beat takes (1 + p) / (1 - p) cycles, with variance 2 p / (1 - p)^2.
    folder = emit(
        tmp_path / "d",
        head="assign x_ready_o = y_ready_i;",
        mid="assign mid_data = 16'd0; assign mid_valid = 1'b0;",
        tail="assign y_data_o = x_data_i; assign y_valid_o = x_valid_i; assign last_ready = 1'b1;",
    )
    count = 4000
    run = simulate_design(
        folder, *values(samples(count)), SimulationOptions(stall_probability=probability, seed=5)
    )
    assert run.passed
    beats = count * BEATS
    mean = (1 + probability) / (1 - probability)
    deviation = math.sqrt(2 * probability * beats) / (1 - probability)
    assert abs(run.cycles - mean * beats) < 4 * deviation


def test_seeds_repeat_and_differ(tmp_path: Path) -> None:
    folder = emit(tmp_path / "d")
    x = samples(50)

    def cycles(seed: int) -> list[int]:
        options = SimulationOptions(stall_probability=0.4, seed=seed)
        run = simulate_design(folder, *values(x), options)
        assert run.passed
        return [int(cycle) for cycle in run.sample_cycles]

    assert cycles(1) == cycles(1)
    assert cycles(1) != cycles(2)


WRONG_MID = "assign mid_data = count == 16'd11 ? first_data ^ 16'h0100 : first_data;"


def test_a_wrong_element_is_named_where_it_arises(tmp_path: Path) -> None:
    # Beat 10 (counting from 0) is in the first register once 11 beats were accepted.
    folder = emit(tmp_path / "d", mid=WRONG_MID + "assign mid_valid = first_valid;")
    x = samples()
    sample, element = divmod(10 * LANES + 1, ELEMENTS)
    expected = int(x[sample, element])
    actual = expected ^ 1

    run = simulate_design(folder, *values(x))
    assert (run.mismatches, run.deadlock) == (1, False)
    assert run.first_mismatch == Mismatch("y", "n_y", sample, element, expected, actual)
    assert run.outputs["y"][sample, element] == actual

    run = simulate_design(folder, *values(x), SimulationOptions(check_streams=True))
    assert run.mismatches == 2
    assert run.first_mismatch == Mismatch("mid", "n_mid", sample, element, expected, actual)
    assert str(run.first_mismatch) == (
        f"node 'n_mid', stream 'mid', sample {sample}, element {element}: "
        f"expected {expected}, got {actual}"
    )


def test_a_deadlock_names_the_waiting_streams(tmp_path: Path) -> None:
    folder = emit(tmp_path / "d", head="assign x_ready_o = first_ready && count < 16'd6;")
    run = simulate_design(folder, *values(samples()), SimulationOptions(check_streams=True))
    assert run.deadlock
    assert not run.passed
    assert run.waiting == (
        "input stream 'x' (node 'n_x') is valid and waits for ready in sample 1, beat 2",
        "internal stream 'mid' (node 'n_mid') is ready and waits for valid in sample 1, beat 2",
        "output stream 'y' (node 'n_y') is ready and waits for valid in sample 1, beat 2",
    )
    # What came is right, what did not come counts: on mid and on y.
    assert run.first_mismatch is None
    assert run.mismatches == 2 * (SAMPLES * BEATS - 6) * LANES
    np.testing.assert_array_equal(run.outputs["y"], samples()[:1])
    assert len(run.sample_cycles) == 1


def test_a_lost_beat_is_a_mismatch_and_a_deadlock(tmp_path: Path) -> None:
    lose = "assign mid_data = first_data; assign mid_valid = first_valid && count != 16'd3;"
    run = simulate_design(emit(tmp_path / "d", mid=lose), *values(samples()))
    assert run.deadlock
    assert run.first_mismatch is not None
    assert (run.first_mismatch.sample, run.first_mismatch.element) == (0, 2 * LANES)
    assert run.mismatches >= LANES


def test_a_beat_too_many_is_an_error(tmp_path: Path) -> None:
    # Offers a last beat again, 100 cycles later.
    tail = f"""
  logic [6:0] wait_q;
  logic [15:0] seen;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) seen <= 16'd0;
    else if (y_valid_o && y_ready_i) seen <= seen + 16'd1;
    wait_q <= seen == 16'd{SAMPLES * BEATS} && wait_q != 7'd100 ? wait_q + 7'd1 : 7'd0;
  end
  assign y_data_o = last_data; assign last_ready = y_ready_i;
  assign y_valid_o = last_valid || wait_q == 7'd100;"""
    with pytest.raises(SimulationError) as error:
        simulate_design(emit(tmp_path / "d", tail=tail), *values(samples()))
    assert str(error.value) == (
        "design 'tiny_top': stream 'y' (node 'n_y') gave 1 beats more than the 24 expected"
    )


@pytest.mark.parametrize(
    ("tail", "what"),
    [
        (
            "logic shy; always_ff @(posedge clk_i) shy <= rst_ni && !shy;"
            "assign y_data_o = last_data; assign y_valid_o = last_valid && !shy;"
            "assign last_ready = y_ready_i && !shy;",
            "valid falls before the handshake in cycle ",
        ),
        (
            "assign y_data_o = last_data ^ count; assign y_valid_o = last_valid;"
            "assign last_ready = y_ready_i;",
            "data changes before the handshake in cycle ",
        ),
    ],
)
def test_a_broken_protocol_is_an_error(tmp_path: Path, tail: str, what: str) -> None:
    folder = emit(tmp_path / "d", tail=tail)
    with pytest.raises(SimulationError) as error:
        simulate_design(folder, *values(samples()), SimulationOptions(stall_probability=0.5))
    message = "design 'tiny_top': stream 'y' (node 'n_y') breaks the stream protocol: " + what
    assert str(error.value).startswith(message)
    assert str(error.value)[len(message) :].isdecimal()


def test_a_register_that_nobody_sets_is_not_zero(tmp_path: Path) -> None:
    mid = """
  logic [15:0] never;
  always_ff @(posedge clk_i) if (rst_ni && count > 16'd60000) never <= 16'd0;
  assign mid_data = first_data ^ never; assign mid_valid = first_valid;"""
    run = simulate_design(emit(tmp_path / "d", mid=mid), *values(samples()))
    assert run.mismatches > 0


ROM_MID = """
  logic [15:0] rom [0:0];
  initial $readmemh("rom/{name}", rom);
  assign mid_data = first_data ^ rom[0]; assign mid_valid = first_valid;"""


def test_roms_are_read_from_the_folder_at_run_time(tmp_path: Path) -> None:
    folder = emit(tmp_path / "d", mid=ROM_MID.format(name="a.mem"), rom=["rom/a.mem"])
    (folder / "rom").mkdir()
    x = samples()
    for word in (0x0000, 0x0101):
        (folder / "rom" / "a.mem").write_text(f"{word:04x}\n", encoding="utf-8")
        run = simulate_design(folder, {"x": x}, {"y": x ^ (word & 0xFF)})
        assert run.passed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "ROM file '{path}' is missing; emit the design again"),
        ("00x0\n", "ROM file '{path}' holds 'x'; it must hold hexadecimal words"),
        ("// nothing\n", "ROM file '{path}' is empty; it must hold hexadecimal words"),
    ],
)
def test_an_unsound_rom_is_an_error(tmp_path: Path, content: str | None, message: str) -> None:
    folder = emit(tmp_path / "d", mid=ROM_MID.format(name="a.mem"), rom=["rom/a.mem"])
    path = folder / "rom" / "a.mem"
    if content is not None:
        path.parent.mkdir()
        path.write_text(content, encoding="utf-8")
    with pytest.raises(SimulationError) as error:
        simulate_design(folder, *values(samples()))
    assert str(error.value) == message.format(path=path)


def test_a_rom_that_only_the_rtl_knows_is_missed(tmp_path: Path) -> None:
    folder = emit(tmp_path / "d", mid=ROM_MID.format(name="unlisted.mem"))
    with pytest.raises(ToolError, match=r"simulation failed: %Warning.*rom/unlisted\.mem"):
        simulate_design(folder, *values(samples()))


def test_rtl_that_verilator_rejects_is_a_tool_error(tmp_path: Path) -> None:
    folder = emit(tmp_path / "d", tail="assign y_data_o = nobody;")
    with pytest.raises(ToolError, match=r"verilator_bin failed \(1\): %Error.*nobody"):
        simulate_design(folder, *values(samples()))


def test_a_simulation_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    folder = emit(tmp_path / "d")
    with pytest.raises(ToolError, match=r"^simulation took longer than 0\.01 s$"):
        simulate_design(folder, *values(samples()), SimulationOptions(timeout_seconds=0.01))


@pytest.mark.parametrize("most_files", [400, 5])
def test_a_batch_gives_what_its_designs_give_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_files: int
) -> None:
    # A design takes four files, so with five the batch is split in two, one of them a design alone.
    monkeypatch.setattr("chop.sim.simulate._MAX_OPEN_FILES", most_files)
    folders = [
        emit(tmp_path / "good", top="good"),
        emit(tmp_path / "wrong", top="wrong", mid=WRONG_MID + "assign mid_valid = first_valid;"),
        emit(tmp_path / "stuck", top="stuck", head="assign x_ready_o = first_ready && !count[3];"),
    ]
    cases = [BatchCase(folder, *values(samples(seed=i))) for i, folder in enumerate(folders)]
    for options in (
        SimulationOptions(),
        SimulationOptions(stall_probability=0.3, seed=7, check_streams=True),
    ):
        runs = simulate_batch(cases, options)
        assert [run.passed for run in runs] == [True, False, False]
        assert [run.deadlock for run in runs] == [False, False, True]
        for case, run in zip(cases, runs, strict=True):
            alone = simulate_design(case.directory, case.inputs, case.expected, options)
            assert run.mismatches == alone.mismatches
            assert run.first_mismatch == alone.first_mismatch
            assert run.waiting == alone.waiting
            assert run.cycles == alone.cycles
            np.testing.assert_array_equal(run.sample_cycles, alone.sample_cycles)
            np.testing.assert_array_equal(run.outputs["y"], alone.outputs["y"])


def test_a_batch_needs_distinct_tops(tmp_path: Path) -> None:
    cases = [BatchCase(emit(tmp_path / name), *values(samples())) for name in ("a", "b")]
    with pytest.raises(SimulationError) as error:
        simulate_batch(cases)
    assert str(error.value) == "two designs of a batch have the top 'top'; rename one"


@pytest.mark.parametrize(
    ("inputs", "expected", "message"),
    [
        ({}, {"y": samples()}, "stream 'x' has no input values; got input values of nothing"),
        (
            {"x": samples()},
            {"z": samples()},
            "stream 'y' has no expected values; got expected values of z",
        ),
        (
            {"x": samples()},
            {"y": samples(2)},
            "every stream must have the same number of samples, at least one, got {'x': 6, 'y': 2}",
        ),
    ],
)
def test_values_must_fit_the_design(
    tmp_path: Path, inputs: Mapping[str, Ints], expected: Mapping[str, Ints], message: str
) -> None:
    with pytest.raises(SimulationError) as error:
        simulate_design(emit(tmp_path / "d"), inputs, expected)
    assert str(error.value) == f"design 'tiny_top': {message}"


def test_vectors_must_fit_their_stream(tmp_path: Path) -> None:
    manifest = Manifest.load(emit(tmp_path / "d"))
    for array, message in (
        (samples() + 1000, "stream 'x': values must be in -128..127, got "),
        (samples()[:, 1:], "stream 'x': values must be [samples, 8] in stream order, got [6, 7]"),
    ):
        with pytest.raises(SimulationError) as error:
            write_vectors(manifest, tmp_path, {"x": array})
        assert str(error.value).startswith(message)
    with pytest.raises(SimulationError) as error:
        write_vectors(manifest, tmp_path, {"w": samples()})
    assert str(error.value) == "design 'tiny_top' has no stream 'w'; it has x, mid, y"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            SimulationOptions(stall_probability=1.0),
            "stall probability must be at least 0 and below 1, got 1.0; use 0.3",
        ),
        (
            SimulationOptions(seed=-1),
            "seed must be a 32-bit unsigned integer, got -1; use 1",
        ),
    ],
)
def test_options_must_make_sense(tmp_path: Path, options: SimulationOptions, message: str) -> None:
    with pytest.raises(SimulationError) as error:
        simulate_design(emit(tmp_path / "d"), *values(samples()), options)
    assert str(error.value) == message


def test_waves_are_written(tmp_path: Path) -> None:
    folder = emit(tmp_path / "d")
    assert simulate_design(folder, *values(samples()), SimulationOptions(waves=True)).passed
    text = (folder / "tb" / "results" / "waves.vcd").read_text(encoding="utf-8")
    assert "mid_data" in text


def test_processes_may_build_the_same_design_at_once(tmp_path: Path) -> None:
    # A text of its own, so that no earlier test run has built it.
    unique = f"{MID} // {tmp_path}"
    folders = [emit(tmp_path / str(i), mid=unique) for i in range(3)]
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda folder: simulate_design(folder, *values(samples())), folders))
    assert all(run.passed for run in runs)
