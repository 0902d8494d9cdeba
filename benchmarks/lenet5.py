"""LeNet-5 on an ECP5-85k: accuracy, interval, area and the clock after routing.

Trains `configs/lenet5.toml` where that was not done, compiles it, runs the test images through the
RTL without stalls, and places and routes it. The script ends with status 1 when an output differs,
the interval is not the predicted one or above 3,000 cycles, or the clock is below 80 MHz. It wants
MNIST in `CHOP_DATA_DIR`, and 15 minutes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from chop.cli.main import main as chop_command
from chop.cli.render import print_table
from chop.ir.manifest import Manifest
from chop.synth.synthesize import synthesize_design

CONFIG, TARGET = "configs/lenet5.toml", "ecp5-85k"
MOST_CYCLES, LEAST_MHZ = 3_000, 80.0
HEADERS = ("interval", "LUT", "FF", "DSP", "BRAM", "MHz", "images/s")


def main() -> int:
    """Prints the table; returns 1 when something is wrong, mispredicted, too slow or too large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=500, help="of the test set, through the RTL")
    arguments = parser.parse_args()
    settings = (f"simulate.samples={arguments.images}", "simulate.stall_probability=0.0")
    options = [word for setting in settings for word in ("--set", setting)]
    status = chop_command(["transform", "--config", CONFIG, *options])
    if status:
        return status
    folder = Path("build/lenet5")
    report = json.loads(Path("runs/lenet5/report.json").read_text(encoding="utf-8"))
    runs = report["simulations"]
    interval = Manifest.load(folder).predicted_initiation_interval
    used = synthesize_design(folder, TARGET)
    clock = used.fmax_mhz or 0.0
    counts = [f"{n:,}" for n in (interval, used.luts, used.ffs, used.dsps, used.brams)]
    row = (*counts, f"{clock:.1f}", f"{clock * 1e6 / interval:,.0f}")
    print_table(f"LeNet-5 on {used.device}", HEADERS, [row], HEADERS)
    print(used.critical_path)
    sound = interval <= MOST_CYCLES and all(
        run["mismatches"] == 0 and run["initiation_interval"] == interval for run in runs
    )
    return 0 if sound and used.fits and clock >= LEAST_MHZ else 1


if __name__ == "__main__":
    raise SystemExit(main())
