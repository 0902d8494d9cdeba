"""chop_window in many shapes: every cycle as the model, every window as the reference, in time."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from chop.errors import ShapeError
from chop.ops.windows import WindowOrder, WindowShape, windows_flow, windows_of
from tests.rtl.rtl_bench import PHASES, build_bench, read_trace, run_bench
from tests.rtl.rtl_case import Case
from tests.rtl.rtl_models import split
from tests.rtl.rtl_windows import window_case

pytestmark = pytest.mark.xdist_group("rtl_bench")

SEED = int(os.environ.get("CHOP_TEST_SEED", "2026"))
_RANDOM_SHAPES = 36
_WIDTH = 3


@dataclass(frozen=True)
class _Design:
    """What is built; `depth` is what a sender of a beat a cycle needs, and `less` takes off."""

    shape: WindowShape
    lanes: int
    order: WindowOrder
    pad: int = 0
    less: int = 0

    @property
    def flow_depth(self) -> int:
        return self.flow(8)[1]

    @property
    def depth(self) -> int:
        return self.flow_depth - self.less

    @property
    def frame_beats(self) -> int:
        return self.shape.height * self.shape.width * self.shape.beats(self.lanes)

    @property
    def window_beats(self) -> int:
        """Returns the output beats of a frame."""
        parallel = self.order is WindowOrder.PARALLEL
        taps = 1 if parallel else self.shape.kernel[0] * self.shape.kernel[1]
        return self.shape.out[0] * self.shape.out[1] * taps * self.shape.beats(self.lanes)

    def flow(self, samples: int) -> tuple[list[int], int]:
        """Returns when output beats are valid, and the patient sender's depth."""
        valid = np.arange(samples * self.frame_beats, dtype=np.int64)
        flow = windows_flow(valid, samples, self.shape, self.lanes, self.order)
        return flow.valid.tolist(), flow.patient_depth

    def case(self) -> Case:
        return window_case(
            self.shape, self.lanes, self.order, self.depth, element_width=_WIDTH, pad=self.pad
        )


def _draw(rng: random.Random) -> _Design | None:
    """Returns a random design, or None where no window fits."""
    height, width = rng.randint(1, 9), rng.randint(1, 9)
    channels = rng.randint(1, 6)
    kernel, stride = (rng.randint(1, 5), rng.randint(1, 5)), (rng.randint(1, 3), rng.randint(1, 3))
    dilation = (rng.choice((1, 1, 2)), rng.choice((1, 1, 2)))
    top, bottom, left, right = (rng.choice((0, 0, 1, 1, 2, 3, 4)) for _ in range(4))
    try:
        shape = WindowShape.of(
            (channels, height, width),
            kernel,
            stride,
            dilation,
            (top, bottom, left, right),
            ceil_mode=rng.random() < 0.3,
        )
    except ShapeError:
        return None
    lanes = rng.choice([n for n in range(1, channels + 1) if channels % n == 0])
    design = _Design(shape, lanes, rng.choice(tuple(WindowOrder)), rng.choice((0, 0, 5)))
    # Several frames must fit a phase without stalls.
    beats = max(design.frame_beats, design.window_beats)
    return design if beats <= 150 else None


def _random_designs() -> list[_Design]:
    rng = random.Random(SEED)
    found: list[_Design] = []
    while len(found) < _RANDOM_SHAPES:
        design = _draw(rng)
        if design is not None:
            found.append(design)
    return found


# A 3x3 convolution with padding 1 at 8x8, fully unrolled: one window a cycle; and with a buffer one
# beat too small. The same for a 2x2 pool by taps, to which a pixel comes in every cycle.
_SAME = _Design(
    WindowShape.of((1, 8, 8), (3, 3), padding=(1, 1, 1, 1)), 1, WindowOrder.PARALLEL, pad=3
)
_POOL = _Design(WindowShape.of((1, 8, 8), (2, 2), (2, 2)), 1, WindowOrder.TAPS)
_TIGHT = (replace(_SAME, less=1), replace(_POOL, less=1))
DESIGNS = (_SAME, _POOL, *_random_designs(), *_TIGHT)
CASES = tuple(design.case() for design in DESIGNS)
RUNS = (1, 2)


@pytest.fixture(scope="module")
def traces(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The traces of every run, one folder each."""
    binary = build_bench(CASES, request.config.cache.mkdir("rtl_bench"))
    folders = [tmp_path_factory.mktemp(f"windows{seed}") for seed in RUNS]
    for seed, folder in zip(RUNS, folders, strict=True):
        run_bench(binary, CASES, seed, folder)
    return folders


def test_outputs_equal_the_model_in_every_cycle(traces: list[Path]) -> None:
    for index, case in enumerate(CASES):
        for run, folder in zip(RUNS, traces, strict=True):
            model = case.model()
            for cycle, values in enumerate(read_trace(folder, index, case)):
                if not values["rst_ni"]:
                    model = case.model()
                    continue
                for name, expected in model.cycle(values).items():
                    assert expected is None or values[name] == expected, (
                        f"seed {SEED}, run {run}, cycle {cycle}: {name} is {values[name]:#x}, "
                        f"expected {expected:#x}: {case}"
                    )


def _streams(folder: Path, index: int) -> list[tuple[list[int], list[int]]]:
    """Returns the beats that went in and came out, from reset to reset."""
    runs: list[tuple[list[int], list[int]]] = []
    for values in read_trace(folder, index, CASES[index]):
        if not values["rst_ni"]:
            if not runs or runs[-1] != ([], []):
                runs.append(([], []))
            continue
        for name, beats in zip("xy", runs[-1], strict=True):
            if values[f"{name}_valid"] and values[f"{name}_ready"]:
                beats.append(values[f"{name}_data"])
    return runs


def test_windows_equal_the_reference(traces: list[Path]) -> None:
    frames = 0
    for index, design in enumerate(DESIGNS):
        shape, lanes = design.shape, design.lanes
        for taken, given in (run for folder in traces for run in _streams(folder, index)):
            count = len(taken) // design.frame_beats
            elements = [v for beat in taken for v in split(beat, lanes, _WIDTH, False)]
            x = np.array(elements[: count * design.frame_beats * lanes], dtype=np.int64)
            x = x.reshape(count, shape.height, shape.width, shape.channels)
            want = windows_of(x.transpose(0, 3, 1, 2), shape, lanes, design.order, design.pad)
            wide = CASES[index].sinks[0].lanes
            got = [v for beat in given for v in split(beat, wide, _WIDTH, False)]
            kept = min(want.size, len(got))
            assert got[:kept] == want.reshape(-1)[:kept].tolist(), f"seed {SEED}: {design}"
            # What came out beyond whole frames belongs to the one that is coming in.
            assert len(got) <= want.size + design.window_beats * wide
            frames += min(count, len(given) // design.window_beats)
    assert frames > 10 * len(DESIGNS)


def _unstalled(folder: Path, index: int) -> list[dict[str, int]]:
    """Returns the cycles of the first phase, from the first input beat on."""
    trace = list(read_trace(folder, index, CASES[index]))
    reset = next(k for k, values in enumerate(trace) if values["rst_ni"])
    phase = trace[reset : reset + PHASES[0][0]]
    start = next(k for k, values in enumerate(phase) if values["x_valid"])
    return phase[start:]


def test_predicted_is_measured(traces: list[Path]) -> None:
    """Every output beat in its cycle, for several frames, with the buffer of a patient sender."""
    frames = 0
    for index, design in enumerate(DESIGNS):
        cycles = _unstalled(traces[0], index)
        measured = [k for k, values in enumerate(cycles) if values["y_valid"]]
        predicted, _ = design.flow(2 + len(cycles) // design.frame_beats)
        if design.less:
            assert measured > predicted[: len(measured)]
            continue
        assert measured == predicted[: len(measured)], f"seed {SEED}: {design}"
        assert len(measured) >= design.window_beats
        frames += len(measured) // design.window_beats
    assert frames > 5 * len(DESIGNS)


def test_a_same_convolution_loses_no_cycle_to_padding(traces: list[Path]) -> None:
    """One window in every cycle once the first is out: 64 cycles a frame."""
    cycles = _unstalled(traces[0], 0)
    start = next(k for k, values in enumerate(cycles) if values["y_valid"])
    # Ten pixels for the first window, two cycles from the last of them.
    assert start == 9 + 2
    assert all(values["y_valid"] for values in cycles[start:])
    assert len(cycles) - start > 5 * 64
