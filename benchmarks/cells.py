"""Cells of an emitted design after Yosys, with hard multipliers or without."""

from __future__ import annotations

from pathlib import Path

from chop.ir.manifest import Manifest
from chop.synth.scripts import YOSYS
from chop.synth.synthesize import read_cells
from chop.synth.targets import Resources, count_resources, find_target
from chop.tools import run_tool

__all__ = ["count_cells"]

_TIMEOUT_SECONDS = 1800.0


def count_cells(folder: Path, target: str, dsps: bool) -> Resources:
    """Returns what the design in an emitted folder takes on a target."""
    device, manifest = find_target(target), Manifest.load(folder)
    command = device.synth_command + ("" if dsps else " -nodsp")
    script = folder / "cells.ys"
    script.write_text(
        f"read_slang --threads 1 --top {manifest.top} {' '.join(manifest.rtl)}\n"
        f"{command} -top {manifest.top}\ntee -q -o cells.json stat -json\n",
        encoding="utf-8",
    )
    run_tool((YOSYS, "-q", "-s", script.name), cwd=folder, timeout=_TIMEOUT_SECONDS)
    return count_resources(device.family, read_cells(folder / "cells.json")[manifest.top])
