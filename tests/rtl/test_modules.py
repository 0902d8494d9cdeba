"""Every module against its cycle-exact model: all outputs in every cycle, all ports stalling."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rtl.rtl_bench import PHASES, build_bench, read_trace, run_bench
from tests.rtl.rtl_cases import CASES

SEEDS = (1, 2)

pytestmark = pytest.mark.xdist_group("rtl_bench")

IDS = [str(case) for case in CASES]
# The output of a replay buffer is no stream.
STREAMING = [index for index, case in enumerate(CASES) if case.module != "chop_replay_buffer"]
LINEAR = [index for index, case in enumerate(CASES) if case.module == "chop_linear"]


@pytest.fixture(scope="module")
def traces(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The traces of every seed, one folder each."""
    binary = build_bench(CASES, request.config.cache.mkdir("rtl_bench"))
    folders = [tmp_path_factory.mktemp(f"seed{seed}") for seed in SEEDS]
    for seed, folder in zip(SEEDS, folders, strict=True):
        run_bench(binary, CASES, seed, folder)
    return folders


@pytest.mark.parametrize("index", range(len(CASES)), ids=IDS)
def test_outputs_equal_the_model_in_every_cycle(traces: list[Path], index: int) -> None:
    case = CASES[index]
    for seed, folder in zip(SEEDS, traces, strict=True):
        model = case.model()
        checked = dict.fromkeys(model.cycle(next(read_trace(folder, index, case))), 0)
        for cycle, values in enumerate(read_trace(folder, index, case)):
            if not values["rst_ni"]:
                model = case.model()
                continue
            for name, expected in model.cycle(values).items():
                if expected is None:
                    continue
                checked[name] += 1
                assert values[name] == expected, (
                    f"seed {seed}, cycle {cycle}: {name} is {values[name]:#x}, "
                    f"expected {expected:#x}"
                )
        # A trace in which nothing happens would prove nothing.
        assert min(checked.values()) > 50, f"seed {seed}: hardly checked: {checked}"


@pytest.mark.parametrize("index", STREAMING, ids=[IDS[index] for index in STREAMING])
def test_valid_and_data_hold_until_the_handshake(traces: list[Path], index: int) -> None:
    case = CASES[index]
    names = [sink.name for sink in case.sinks]
    for seed, folder in zip(SEEDS, traces, strict=True):
        waiting: dict[str, int] = {}
        for cycle, values in enumerate(read_trace(folder, index, case)):
            if not values["rst_ni"]:
                waiting = {}
            for name, data in waiting.items():
                assert (values[f"{name}_valid"], values[f"{name}_data"]) == (1, data), (
                    f"seed {seed}, cycle {cycle}: {name} did not hold"
                )
            waiting = {
                name: values[f"{name}_data"]
                for name in names
                if values["rst_ni"] and values[f"{name}_valid"] and not values[f"{name}_ready"]
            }


def _is_deep_enough(index: int) -> bool:
    """Returns whether the depths of a chop_linear let it run without a lost cycle."""
    p = {name: v for name, v in CASES[index].parameters.items() if isinstance(v, int)}
    levels = (p["InLanes"] - 1).bit_length()
    more = int(p["InExponentWidth"] + p["WeightExponentWidth"] > 0)
    more += CASES[index].parameters["WeightKind"] == "minifloat"
    more += p["RomLatency"] + p["ProductStages"]
    latency = more + 1 - (-levels // p["LevelsPerStage"])
    in_beats = p["InFeatures"] // p["InLanes"]
    return p["OutDepth"] > latency and (p["InDepth"] >= (1 if p["InputStationary"] else in_beats))


def test_linear_loses_no_cycle_without_stalls(traces: list[Path]) -> None:
    """In the first phase a sample takes InFeatures/InLanes * OutFeatures/OutLanes cycles."""
    tested = 0
    for index in filter(_is_deep_enough, LINEAR):
        parameters = CASES[index].parameters
        out_beats = int(parameters["OutFeatures"]) // int(parameters["OutLanes"])
        cycles = out_beats * int(parameters["InFeatures"]) // int(parameters["InLanes"])
        samples = 200 // cycles
        trace = list(read_trace(traces[0], index, CASES[index]))
        start = next(k for k, values in enumerate(trace) if values["rst_ni"])
        window = trace[start + PHASES[0][0] - samples * cycles : start + PHASES[0][0]]
        taken = sum(values["y_valid"] & values["y_ready"] for values in window)
        assert taken == samples * out_beats, str(CASES[index])
        tested += 1
    assert tested >= 20
