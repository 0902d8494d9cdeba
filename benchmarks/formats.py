"""`make bench-formats`: every number format with hardware, through the RTL, on digits and MNIST.

The float network is trained once; each row quantises it after training (no retraining, so that few
bits cost much), emits it and sends every test image through the RTL without and with stalls. The
script ends with status 1 when a single integer differs, or a prediction is off by a cycle.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chop.cli.progress import make_progress
from chop.cli.render import print_table
from chop.config.load import load_config
from chop.flows.compile import Accelerator, compile
from chop.flows.job import Job, accuracy, hit_rate, load_job
from chop.flows.weights import train_job

_CONFIGS = Path(__file__).parents[1] / "configs"
_INTERVALS = {"digits": 64, "mnist": 2048}
_EIGHT = {"data_in_width": 8, "data_in_format": "integer"}

FORMATS: Mapping[str, Mapping[str, Any]] = {
    "integer 8": {"name": "integer", "data_in_width": 8, "weight_width": 8},
    "integer 4": {"name": "integer", "data_in_width": 4, "weight_width": 4},
    "scaled 8, per channel": {
        "name": "scaled_integer",
        "data_in_width": 8,
        "weight_width": 8,
        "weight_per_channel": True,
    },
    "scaled 4, per channel": {
        "name": "scaled_integer",
        "data_in_width": 4,
        "weight_width": 4,
        "weight_per_channel": True,
    },
    "binary weights": {"name": "binary", **_EIGHT, "weight_per_channel": True},
    "binary (XNOR)": {"name": "binary", "weight_per_channel": True},
    "ternary weights": {"name": "ternary", **_EIGHT, "weight_per_channel": True},
    "ternary": {"name": "ternary", "weight_per_channel": True},
    "log 4 weights": {"name": "log", "weight_width": 4, **_EIGHT},
    "log 5": {"name": "log", "weight_width": 5, "data_in_width": 5},
    "fp8 e4m3 weights": {"name": "fp8_e4m3", **_EIGHT},
    "fp8 e5m2 weights": {"name": "fp8_e5m2", **_EIGHT},
    "fp6 e3m2 weights": {"name": "fp6_e3m2", **_EIGHT},
    "fp4 e2m1": {"name": "fp4_e2m1"},
    "minifloat denorm 6 weights": {
        "name": "minifloat_denorm",
        "weight_width": 6,
        "weight_exponent_width": 3,
        **_EIGHT,
    },
    "mxint 6, block 16": {
        "name": "mxint",
        **{f"{role}_width": 6 for role in ("data_in", "weight")},
        **{f"{role}_exponent_width": 4 for role in ("data_in", "weight")},
        **{f"{role}_block_size": 16 for role in ("data_in", "weight")},
    },
}


def main() -> int:
    """Prints a table per data set; returns 1 when a design is wrong or mispredicted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=["digits", "mnist"], choices=_INTERVALS)
    parser.add_argument("--samples", type=int, help="test images; all by default")
    parser.add_argument("--only", help="formats whose name contains this")
    arguments = parser.parse_args()
    sound = True
    names = [name for name in FORMATS if (arguments.only or "") in name]
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        for data in arguments.data:
            job = _trained(data)
            assert job.labels is not None
            exact = 100 * accuracy(job.model, job.test, job.labels)
            rows = []
            for name in names:
                row, good = _measure(job, data, name, arguments.samples)
                rows.append(row)
                sound = sound and good
            headers = (
                "format",
                "accuracy",
                "outputs",
                "wrong",
                "interval",
                "latency",
                "DSP",
                "LUT",
                "s",
            )
            title = f"{data}: every format through the RTL, PTQ (float: {exact:.2f} %)"
            print_table(title, headers, rows, headers[1:])
    return 0 if sound else 1


def _trained(data: str) -> Job:
    job = load_job(load_config(_CONFIGS / f"{data}_mlp.toml"), make_progress(True))
    train_job(job, make_progress(True))
    return job


def _measure(job: Job, data: str, name: str, samples: int | None) -> tuple[tuple[str, ...], bool]:
    assert job.labels is not None
    start = time.perf_counter()
    test = tuple(x[:samples] for x in job.test)
    accelerator = _compiled(job, data, name)
    scores = accelerator.predict(test)[0]
    runs = [accelerator.simulate(test, stall_probability=p, seed=1) for p in (0.0, 0.3)]
    free = runs[0]
    wrong = sum(run.mismatches for run in runs)
    good = wrong == 0 and not any(run.deadlock for run in runs)
    ideal = free.initiation_interval == free.ideal_initiation_interval
    good = good and ideal and free.latency_cycles == free.predicted_latency_cycles
    if not good:
        print(f"error: {data}, {name}: {runs}", file=sys.stderr)
    layers = accelerator.manifest.layers
    row = (
        name,
        f"{100 * hit_rate(scores, job.labels[:samples]):.2f}",
        f"{2 * scores.numel():,}",
        f"{wrong:,}",
        f"{free.initiation_interval / free.ideal_initiation_interval:.3f}",
        f"{free.predicted_latency_cycles} / {free.latency_cycles}",
        f"{sum(layer.dsps for layer in layers):,}",
        f"{sum(layer.luts for layer in layers):,}",
        f"{time.perf_counter() - start:.0f}",
    )
    return row, good


def _compiled(job: Job, data: str, name: str) -> Accelerator:
    config = {
        "passes": [{"name": "quantize", "default": {"config": dict(FORMATS[name])}}],
        "hardware": {"target_initiation_interval": _INTERVALS[data]},
    }
    examples = tuple(x[:2] for x in job.test)
    return compile(job.model, examples, config, job.calibration)


if __name__ == "__main__":
    raise SystemExit(main())
