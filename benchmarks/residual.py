"""`make bench-kernels`: a residual block of two 4-channel 3x3 convolutions on 3x8x8, 8 bits.

A sample every 256 cycles (four cycles a pixel), with multipliers and with adder graphs, on two
families, with hard multipliers and without. Every design is simulated against its reference first.
The script ends with status 1 when an output differs, a prediction is off by a cycle, or no design
takes fewer than 5,000 LUTs (alkaid 0.2, unrolled: 89,672 by its own estimate).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

import chop
from chop.cli.render import print_table
from chop.flows.compile import Accelerator

INTERVAL, MOST_LUTS = 256, 5_000
HEADERS = ("kernel", "target", "interval", "latency", "LUT", "FF", "DSP", "BRAM")


class Block(nn.Module):
    """y = relu(conv(relu(conv(x))) + shortcut(x)), the shortcut a 1x1 convolution."""

    def __init__(self, channels: int = 3, width: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, width, 1)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.conv2(self.relu(self.conv1(x)))
        y: torch.Tensor = self.relu(inner + self.shortcut(x))
        return y


def compiled_block(kernel: str, folder: Path) -> tuple[Accelerator, torch.Tensor]:
    """Returns the block with seeded weights, scheduled for the interval, and images."""
    torch.manual_seed(0)
    block, x = Block().eval(), torch.rand(16, 3, 8, 8)
    hardware = {"target_initiation_interval": INTERVAL, "kernel": kernel}
    config = {"name": f"residual_{kernel}", "hardware": hardware}
    return chop.compile(block, x[:1], config, calibration_inputs=x, out_dir=folder), x


def main() -> int:
    """Prints the table; returns 1 when something is wrong, mispredicted or too large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", nargs="+", default=["ecp5-85k", "xcup"])
    arguments = parser.parse_args()
    rows, sound, least = [], True, sys.maxsize
    with tempfile.TemporaryDirectory() as scratch:
        for kernel in ("multipliers", "adders"):
            accelerator, x = compiled_block(kernel, Path(scratch) / kernel)
            runs = [accelerator.simulate(x, stall_probability=p, seed=1) for p in (0.0, 0.5)]
            free = runs[0]
            sound = sound and all(run.mismatches == 0 and not run.deadlock for run in runs)
            sound = sound and free.initiation_interval == INTERVAL
            sound = sound and free.latency_cycles == free.predicted_latency_cycles
            for target in arguments.targets:
                for suffix in ("", "-nodsp") if kernel == "multipliers" else ("-nodsp",):
                    used = accelerator.synthesize(target + suffix, place_and_route=False)
                    least = min(least, used.luts)
                    counts = (used.luts, used.ffs, used.dsps, used.brams)
                    timing = (f"{free.initiation_interval:,.0f}", str(free.latency_cycles))
                    numbers = (f"{count:,}" for count in counts)
                    rows.append((kernel, target + suffix, *timing, *numbers))
    print_table("residual block, 3x8x8, 4 channels, 8 bits", HEADERS, rows, HEADERS[2:])
    return 0 if sound and least < MOST_LUTS else 1


if __name__ == "__main__":
    raise SystemExit(main())
