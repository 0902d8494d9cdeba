"""`make bench-kernels`: layers made of multipliers and of adder graphs, in Yosys.

Per layer and weights: the LUTs of a layer with all its products at once, hard multipliers left
unused so that the two can be compared; then the estimates that the scheduler compares.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

import chop
from chop.cli.render import print_table

HEADERS = ("layer", "weights", "multipliers LUT", "adders LUT", "estimate", "FF", "of", "solved s")

_EIGHT = {"data_in_width": 8, "data_in_format": "integer"}
FORMATS: Mapping[str, Mapping[str, Any]] = {
    "8 bits": {"name": "integer", "data_in_width": 8, "weight_width": 8},
    "4 bits": {"name": "scaled_integer", "weight_width": 4, **_EIGHT},
    "2 bits": {"name": "scaled_integer", "weight_width": 2, **_EIGHT},
    "ternary": {"name": "ternary", **_EIGHT},
    "8 bits, 80 % zeros": {"name": "integer", "data_in_width": 8, "weight_width": 8},
}
LAYERS: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear 16 -> 16": (lambda: nn.Linear(16, 16), (16,)),
    "conv 3x3, 3 -> 4": (lambda: nn.Conv2d(3, 4, 3, padding=1), (3, 8, 8)),
}


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="ecp5-85k-nodsp")
    arguments = parser.parse_args()
    rows = []
    for layer, (make, shape) in LAYERS.items():
        for name in FORMATS:
            rows.append((layer, name, *_measure(make, shape, name, arguments.target)))
    print_table("multipliers and adder graphs", HEADERS, rows, HEADERS[2:])
    return 0


def _measure(
    make: Callable[[], nn.Module], shape: tuple[int, ...], name: str, target: str
) -> tuple[str, ...]:
    torch.manual_seed(0)
    layer, x = make().eval(), torch.rand(16, *shape)
    if "zeros" in name:
        weight = next(layer.parameters())
        least = weight.detach().abs().quantile(0.8)
        weight.data[weight.abs() < least] = 0
    luts = {}
    with tempfile.TemporaryDirectory() as scratch:
        for kernel in ("multipliers", "adders"):
            start = time.perf_counter()
            config = {
                "passes": [{"name": "quantize", "default": {"config": dict(FORMATS[name])}}],
                # A vector a cycle.
                "hardware": {
                    "target_initiation_interval": x[0, 0].numel() if len(shape) == 3 else 1,
                    "kernel": kernel,
                },
            }
            folder = Path(scratch) / kernel
            accelerator = chop.compile(layer, x[:1], config, calibration_inputs=x, out_dir=folder)
            seconds = time.perf_counter() - start
            luts[kernel] = accelerator.synthesize(target, place_and_route=False)
    estimate = sum(entry.luts for entry in accelerator.manifest.layers)
    one, other = luts["multipliers"].luts, luts["adders"].luts
    return (
        f"{one:,}",
        f"{other:,}",
        f"{estimate:,}",
        f"{luts['adders'].ffs:,}",
        f"{100 * other / one:.0f} %",
        f"{seconds:.1f}",
    )


if __name__ == "__main__":
    raise SystemExit(main())
