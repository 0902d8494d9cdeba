"""Compression: LeNet-300-100 and LeNet-5 on MNIST, and what pruned weights save in hardware.

The networks are pruned, retrained, shared and coded as configs/compress_*.toml say, with three
seeds, into runs/ (MNIST from the folder CHOP_DATA_DIR); what was trained there before is taken. The
script ends with status 1 where a ratio stays below the published one (Han, Mao, Dally, "Deep
compression", ICLR 2016, table 1 and 4: 12 / 32 / 40 and 12 / 33 / 39 times) with any seed, or where
the test error is more than 0.1 points above that of the float network. Yosys then counts the LUTs
of one unrolled layer at several sparsities, and of a folded network without some of its outputs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import chop
from chop.cli.render import print_table
from chop.config.load import load_config
from chop.flows.compress import Compression, compress_design
from chop.flows.compressed import load_compressed, tensors_of
from chop.flows.job import accuracy, load_job
from chop.flows.progress import SilentProgress
from chop.models import mlp

_ROOT = Path(__file__).parents[1]
# The published ratios: weights that are kept, bytes with shared values, bytes when coded.
_PUBLISHED: Mapping[str, tuple[int, int, int]] = {
    "compress_lenet_300_100": (12, 32, 40),
    "compress_lenet5": (12, 33, 39),
}
# The most that the error may grow, in points.
_MOST_LOST = 0.1
# Products in LUTs: only so areas can be compared.
_TARGET = "ecp5-85k-nodsp"
_SPARSITIES = (0.0, 0.5, 0.8, 0.9)


@dataclass(frozen=True, slots=True)
class Ratios:
    """How many times smaller after pruning, sharing and coding: `pruned` counts weights.

    `pruned_bytes` counts what 32 bits per weight and their positions take; `errors` are in %, of
    the float network and after each of the three.
    """

    pruned: float
    pruned_bytes: float
    shared: float
    coded: float
    errors: tuple[float, float, float, float]

    @staticmethod
    def of(report: Compression) -> Ratios:
        float_, pruned, shared, coded = report.stages
        return Ratios(
            pruned.weight_ratio,
            pruned.ratio,
            shared.ratio,
            coded.ratio,
            tuple(100 * (1 - s.accuracy) for s in (float_, pruned, shared, coded)),  # type: ignore[arg-type]
        )

    def faults(self, wanted: tuple[int, int, int]) -> Iterator[str]:
        names = ("pruned", "shared", "coded")
        for name, found, least in zip(
            names, (self.pruned, self.shared, self.coded), wanted, strict=True
        ):
            if found < least:
                yield f"{name} {found:.1f} times instead of {least}"
        for name, error in zip(names, self.errors[1:], strict=True):
            if error > self.errors[0] + _MOST_LOST + 1e-9:
                yield f"error {error:.2f} % when {name}, {self.errors[0]:.2f} % before"


def main() -> int:
    """Prints the tables; returns 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=[*_PUBLISHED, "hardware"])
    arguments = parser.parse_args()
    faults = []
    for name, wanted in _PUBLISHED.items():
        if arguments.only in (None, name):
            faults += _networks(name, wanted, arguments.seeds)
    if arguments.only in (None, "hardware"):
        _unrolled()
        _narrower()
    for fault in faults:
        print(f"missed: {fault}")
    return 1 if faults else 0


def _networks(name: str, wanted: tuple[int, int, int], seeds: int) -> list[str]:
    rows, faults = [], []
    for seed in range(seeds):
        config = load_config(_ROOT / "configs" / f"{name}.toml")
        config = config.model_copy(update={"seed": seed, "name": f"{name}_seed{seed}"})
        report = compress_design(config, SilentProgress())
        found = Ratios.of(report)
        faults += [f"{name}, seed {seed}: {fault}" for fault in found.faults(wanted)]
        job = load_job(config, SilentProgress())
        assert job.dataset is not None
        decoded = load_compressed(Path(report.file))
        again = accuracy(decoded.model, (torch.from_numpy(job.dataset.x_test),), job.dataset.y_test)
        if again != report.stages[-1].accuracy:
            faults.append(f"{name}, seed {seed}: the decoded network has another accuracy")
        rows.append(
            (
                str(seed),
                *(f"{error:.2f}" for error in found.errors),
                f"{found.pruned:.1f}",
                f"{found.pruned_bytes:.1f}",
                f"{found.shared:.1f}",
                f"{found.coded:.1f}",
                f"{report.stages[-1].bytes:,}",
                str(sum(v.size for v in tensors_of(decoded).values())),
            )
        )
    headers = (
        *("seed", "error", "P", "P+Q", "P+Q+H"),
        *("P x", "P bytes x", "P+Q x", "P+Q+H x", "file bytes", "params"),
    )
    published = " / ".join(map(str, wanted))
    title = f"{name}: test errors in %, times smaller (published {published})"
    print_table(title, headers, rows, headers)
    return faults


def _unrolled() -> None:
    """A layer with a multiplier per weight, or a graph of adders, each sparsity by magnitude."""
    rows = []
    for sparsity in _SPARSITIES:
        model = _seeded(nn.Sequential, nn.Linear(16, 16))
        counts = [_luts(model, 1, kernel, sparsity) for kernel in ("multipliers", "adders")]
        rows.append((f"{100 * sparsity:.0f} %", *(f"{n:,}" for n in counts)))
    headers = ("sparsity", "LUTs", "LUTs as adder graph")
    print_table(
        "linear 16-16 in 8 bits, a vector every cycle, without DSPs", headers, rows, headers
    )


def _narrower() -> None:
    """A folded network: single zeros save nothing there, whole outputs do."""
    rows = []
    for granularity in ("elementwise", "filter"):
        for sparsity in _SPARSITIES[: 3 if granularity == "filter" else 2]:
            model = _seeded(mlp, [64, 32, 32, 10])
            luts = _luts(model, 64, "multipliers", sparsity, granularity)
            rows.append((granularity, f"{100 * sparsity:.0f} %", f"{luts:,}"))
    headers = ("granularity", "sparsity", "LUTs")
    title = "64-32-32-10 in 8 bits, a sample every 64 cycles, without DSPs"
    print_table(title, headers, rows, headers[1:])


def _seeded(make: Any, *arguments: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for argument in arguments:
            if isinstance(argument, nn.Linear):
                argument.reset_parameters()
        model: nn.Module = make(*arguments)
    return model.eval()


def _luts(
    model: nn.Module, interval: int, kernel: str, sparsity: float, granularity: str = "elementwise"
) -> int:
    """Returns the LUTs that Yosys counts for the model, pruned and in 8 bits."""
    weight = {"sparsity": sparsity, "granularity": granularity}
    config = {"name": "integer", "data_in_width": 8, "weight_width": 8, "bias_width": 16}
    first = next(layer for layer in model.modules() if isinstance(layer, nn.Linear))
    x = torch.randn(64, first.in_features, generator=torch.Generator().manual_seed(1))
    with tempfile.TemporaryDirectory() as scratch:
        design = chop.compile(
            model,
            x,
            {
                "passes": {
                    "prune": {"weight": weight},
                    "quantize": {"default": {"config": config}},
                },
                "hardware": {"target_initiation_interval": interval, "kernel": kernel},
            },
            out_dir=Path(scratch) / "design",
        )
        return design.synthesize(_TARGET, False).luts


if __name__ == "__main__":
    sys.exit(main())
