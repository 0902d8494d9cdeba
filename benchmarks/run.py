"""`make bench`: intervals, latencies, speed and area of perceptrons, predicted against measured.

Every design is checked against its integer reference at three stall probabilities; the script ends
with status 1 when an element differs or a prediction is off by a cycle.
"""

from __future__ import annotations

import argparse
import sys
import time
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
# The comparison with MASE: both foldings of the smallest network, in Yosys for xc7.
AREA_INTERVALS = (32, 8)


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
    area = [_area(CASES[0], interval) for interval in AREA_INTERVALS]
    headers = ("network", "interval", "mult", "LUT", "FF", "DSP", "BRAM")
    print_table("xc7, Yosys, not routed", headers, area, headers[1:])
    return 0 if sound else 1


def _compiled(case: Case, interval: int) -> tuple[chop.Accelerator, torch.Tensor, float]:
    torch.manual_seed(0)
    model = mlp(case.sizes)
    # Long enough for the speed of the simulation to show beside its start-up.
    samples = min(2000, max(64, 1_000_000 // interval))
    x = torch.randn(samples, case.sizes[0])
    start = time.perf_counter()
    accelerator = chop.compile(
        model,
        x[:1],
        config={"hardware": {"target_initiation_interval": interval}},
        calibration_inputs=x,
    )
    return accelerator, x, time.perf_counter() - start


def _timing(case: Case, interval: int) -> tuple[tuple[str, ...], bool]:
    accelerator, x, seconds = _compiled(case, interval)
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


def _area(case: Case, interval: int) -> tuple[str, ...]:
    accelerator, _, _ = _compiled(case, interval)
    report = accelerator.synthesize(target="xc7", place_and_route=False)
    counts = (accelerator.manifest.multipliers, report.luts, report.ffs, report.dsps, report.brams)
    return (case.name, f"{interval}", *(f"{count:,}" for count in counts))


if __name__ == "__main__":
    sys.exit(main())
