"""`make bench`: intervals, latencies, speed and area of perceptrons, predicted against measured.

Every design is checked against its integer reference at three stall probabilities; the script ends
with status 1 when an element differs or a prediction is off by a cycle. Peers that pip cannot
install stand with the figures that were measured of them once (MASE, before it dropped hardware).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

import chop
from chop.cli.render import print_table
from chop.models import mlp

STALLS = (0.3, 0.7)


@dataclass(frozen=True, slots=True)
class Case:
    """A perceptron and the initiation intervals, in cycles, that it is folded to."""

    sizes: tuple[int, ...]
    intervals: tuple[int, ...]

    @property
    def name(self) -> str:
        return "-".join(map(str, self.sizes))


CASES = (
    Case((16, 32, 16, 8), (8, 16, 32, 64, 128)),
    Case((64, 32, 32, 10), (32, 64, 128, 256, 512)),
    Case((784, 256, 256, 10), (1024, 2048, 4096, 8192, 16384)),
)


@dataclass(frozen=True, slots=True)
class Mase:
    """What MASE's emitted 16-32-16-8 measured at a number of multipliers; None: not known."""

    multipliers: int
    interval: int
    first_output: int
    luts: int | None
    ffs: int | None


MASE = (Mase(48, 38, 118, 11_570, 16_937), Mase(192, 8, 47, None, None))
ROUTED = Case((64, 32, 32, 10), (64,))
_START = (("chop --help", ("-m", "chop.cli", "--help")), ("import chop", ("-c", "import chop")))
_TORCH = ("-c", "import torch")


def main() -> int:
    """Prints the tables; returns 1 when a design is wrong or mispredicted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the smallest network")
    arguments = parser.parse_args()
    rows, sound = [], True
    for case in CASES[:1] if arguments.quick else CASES:
        for interval in case.intervals:
            row, good = _timing(case, interval)
            rows.append(row)
            sound = sound and good
    timing = ("network", "mult", "ideal", "predicted", "measured", "latency", "emit s", "cycles/s")
    print_table("timing, in cycles (latency: predicted / measured)", timing, rows, timing[1:])
    area = ("16-32-16-8, xc7", "interval", "first output", "LUT", "FF", "DSP")
    beside = [row for peer in MASE for row in _beside_mase(peer)]
    print_table("beside MASE (Yosys, not routed; ratio: MASE / chop)", area, beside, area[1:])
    if not arguments.quick:
        routed = ("network", "interval", "LUT", "FF", "DSP", "BRAM", "Fmax MHz")
        print_table("routed for ecp5-85k, speed grade 6", routed, [_routed()], routed[1:])
    starts = ("start", "seconds", "of import torch")
    print_table("starting up (best of 5)", starts, _starts(), starts[1:])
    return 0 if sound else 1


def _compiled(
    case: Case, hardware: Mapping[str, int]
) -> tuple[chop.Accelerator, torch.Tensor, float]:
    torch.manual_seed(0)
    model = mlp(case.sizes)
    # Long enough for the speed of the simulation to show beside its start-up.
    interval = hardware.get("target_initiation_interval", 64)
    samples = min(2000, max(64, 1_000_000 // interval))
    x = torch.randn(samples, case.sizes[0])
    start = time.perf_counter()
    accelerator = chop.compile(
        model,
        x[:1],
        config={"hardware": hardware},
        calibration_inputs=x,
    )
    return accelerator, x, time.perf_counter() - start


def _timing(case: Case, interval: int) -> tuple[tuple[str, ...], bool]:
    accelerator, x, seconds = _compiled(case, {"target_initiation_interval": interval})
    free = accelerator.simulate(x)
    runs = [free, *(accelerator.simulate(x, stall_probability=p, seed=1) for p in STALLS)]
    sound = all(run.mismatches == 0 and not run.deadlock for run in runs)
    exact = (
        free.initiation_interval == free.predicted_initiation_interval
        and free.latency_cycles == free.predicted_latency_cycles
    )
    if not (sound and exact):
        print(f"error: {case.name} at interval {interval}: {runs}", file=sys.stderr)
    row = (
        case.name,
        f"{accelerator.manifest.multipliers:,}",
        f"{free.ideal_initiation_interval:,}",
        f"{free.predicted_initiation_interval:,}",
        f"{free.initiation_interval:g}",
        f"{free.predicted_latency_cycles:,} / {free.latency_cycles:,}",
        f"{seconds:.2f}",
        f"{free.cycles / free.run_seconds:,.0f}",
    )
    return row, sound and exact


def _beside_mase(peer: Mase) -> list[tuple[str, ...]]:
    accelerator, x, _ = _compiled(CASES[0], {"max_multipliers": peer.multipliers})
    run = accelerator.simulate(x)
    report = accelerator.synthesize(target="xc7", place_and_route=False)
    ours = (run.initiation_interval, run.latency_cycles, report.luts, report.ffs)
    theirs = (peer.interval, peer.first_output, peer.luts, peer.ffs)
    return [
        (f"chop, {accelerator.manifest.multipliers} multipliers", *_cells(ours), f"{report.dsps}"),
        (f"MASE, {peer.multipliers} multipliers", *_cells(theirs), "-"),
        (
            "ratio",
            *("-" if b is None else f"{b / a:.2f}" for a, b in zip(ours, theirs, strict=True)),
            "-",
        ),
    ]


def _cells(values: Sequence[float | None]) -> list[str]:
    return ["-" if value is None else f"{value:,.0f}" for value in values]


def _routed() -> tuple[str, ...]:
    (interval,) = ROUTED.intervals
    accelerator, _, _ = _compiled(ROUTED, {"target_initiation_interval": interval})
    report = accelerator.synthesize(target="ecp5-85k")
    counts = (report.luts, report.ffs, report.dsps, report.brams)
    return (ROUTED.name, f"{interval}", *_cells(counts), f"{report.fmax_mhz or 0:.1f}")


def _starts() -> list[tuple[str, ...]]:
    torch_seconds = _best(_TORCH)
    timed = [(name, _best(arguments)) for name, arguments in _START]
    return [(name, f"{seconds:.2f}", f"{seconds / torch_seconds:.2f}") for name, seconds in timed]


def _best(arguments: tuple[str, ...]) -> float:
    """Returns the least seconds of five runs of a fresh interpreter."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


if __name__ == "__main__":
    sys.exit(main())
