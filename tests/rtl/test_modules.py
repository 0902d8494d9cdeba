"""Every module against its cycle-exact model: all outputs in every cycle, all ports stalling."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rtl.rtl_bench import build_bench, read_trace, run_bench
from tests.rtl.rtl_cases import CASES

SEEDS = (1, 2, 3)

pytestmark = pytest.mark.xdist_group("rtl_bench")


@pytest.fixture(scope="module")
def traces(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The traces of every seed, one folder each."""
    binary = build_bench(CASES, request.config.cache.mkdir("rtl_bench"))
    folders = [tmp_path_factory.mktemp(f"seed{seed}") for seed in SEEDS]
    for seed, folder in zip(SEEDS, folders, strict=True):
        run_bench(binary, CASES, seed, folder)
    return folders


@pytest.mark.parametrize("index", range(len(CASES)), ids=[str(case) for case in CASES])
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
