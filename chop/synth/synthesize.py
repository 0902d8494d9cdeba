"""Synthesis of an emitted folder: resources from Yosys, Fmax from nextpnr."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from chop.errors import DataError, ToolError, VerifyError
from chop.ir.manifest import Manifest
from chop.synth.scripts import (
    output_folder,
    resources_command,
    route_command,
    shell_command,
    timing_file,
    write_scripts,
)
from chop.synth.targets import TARGETS, Resources, Target, count_resources, find_target
from chop.tools import run_tool

__all__ = ["SynthesisReport", "check_sources", "read_cells", "synthesize_design"]

_REMEDIES: Mapping[str, str] = {
    "luts": "raise target_initiation_interval or prune",
    "ffs": "raise target_initiation_interval or lower the number of lanes",
    "dsps": "lower max_multipliers",
    "brams": "set rom_style to 'distributed' or quantise weights to fewer bits",
}


@dataclass(frozen=True, slots=True)
class SynthesisReport:
    """What a design takes on a target.

    Attributes:
        target: the target's name.
        device: the vendor's part number.
        luts, ffs, dsps, brams: counts in the units of `chop.synth.targets`, before packing.
        capacity: what the device has of each.
        fmax_mhz: the clock that nextpnr found possible, None where it was not asked or cannot say.
        fmax_note: what the figure holds for, or why there is none.
        critical_path: the path that limits the clock, None without a clock.
        seconds: wall time of all tools.
    """

    target: str
    device: str
    luts: int
    ffs: int
    dsps: int
    brams: int
    capacity: Resources
    fmax_mhz: float | None
    fmax_note: str
    critical_path: str | None
    seconds: float

    @property
    def fits(self) -> bool:
        """Whether the device has enough of everything."""
        return all(share <= 1 for share in self.utilisation.values())

    @property
    def utilisation(self) -> Mapping[str, float]:
        """Returns the share of the device, 0..1, of luts, ffs, dsps and brams.

        Nothing of nothing is 0: there are targets without DSPs.
        """
        used = {name: getattr(self, name) for name in ("luts", "ffs", "dsps", "brams")}
        return {name: _share(count, getattr(self.capacity, name)) for name, count in used.items()}


def _share(used: int, have: int) -> float:
    if not have:
        return math.inf if used else 0.0
    return used / have


@dataclass(frozen=True, slots=True)
class _Timing:
    fmax_mhz: float | None
    note: str
    critical_path: str | None = None


def read_cells(stat: Path) -> dict[str, dict[str, int]]:
    """Returns the cells by type of each module in a file that Yosys' `stat -json` wrote."""
    modules = json.loads(stat.read_text(encoding="utf-8"))["modules"]
    # A module without a cell has no such key.
    return {
        name.removeprefix("\\"): module.get("num_cells_by_type", {})
        for name, module in modules.items()
    }


def check_sources(manifest: Manifest, directory: Path) -> None:
    """Raises DataError when a file that the manifest lists is not there."""
    for name in (*manifest.rtl, *manifest.rom):
        if not (directory / name).is_file():
            raise DataError(
                f"design '{manifest.name}': '{directory / name}' is missing; emit again"
            )


def _usage(resources: Resources) -> dict[str, int]:
    return {
        "luts": resources.luts,
        "ffs": resources.ffs,
        "dsps": resources.dsps,
        "brams": resources.brams,
    }


def _fits(used: Resources, target: Target) -> bool:
    have = _usage(target.capacity)
    return all(count <= have[name] for name, count in _usage(used).items())


def _check_capacity(manifest: Manifest, target: Target, used: Resources) -> None:
    have = _usage(target.capacity)
    over = {name: count for name, count in _usage(used).items() if count > have[name]}
    if not over:
        return
    facts = ", ".join(
        f"{count} {name} of {have[name]} ({count - have[name]} too many)"
        for name, count in over.items()
    )
    remedies = [_REMEDIES[name] for name in over]
    larger = [t.name for t in TARGETS.values() if t.family == target.family and _fits(used, t)]
    if larger:
        remedies.append(f"use target '{larger[0]}'")
    raise VerifyError(
        f"target '{target.name}': design '{manifest.name}' needs {facts}; {' or '.join(remedies)}"
    )


def _critical_path(timing: Mapping[str, object]) -> str | None:
    """Returns the ends and the length of the slowest path between two registers."""
    paths = timing["critical_paths"]
    slowest: tuple[float, str] | None = None
    for entry in paths if isinstance(paths, list) else ():
        hops = entry["path"]
        if not hops or "<async>" in (entry["from"], entry["to"]):
            continue
        length = sum(hop["delay"] for hop in hops)
        ends = f"{hops[0]['from']['cell']} -> {hops[-1]['to']['cell']}, {length:.2f} ns"
        if slowest is None or length > slowest[0]:
            slowest = (length, ends)
    return slowest[1] if slowest else None


def _read_timing(target: Target, reports: Sequence[Path], cells: Mapping[str, int]) -> _Timing:
    """Returns the timing of the fastest of the placements that nextpnr reported."""
    router = target.router
    if router is None:
        return _Timing(None, target.no_router)
    untimed = [cell for cell in sorted(cells) if any(fnmatchcase(cell, p) for p in router.untimed)]
    if untimed:
        return _Timing(
            None,
            f"placed and routed, but {router.tool} has no delays for {', '.join(untimed)}: "
            "its Fmax would leave them out",
        )
    found = []
    for report in reports:
        timing = json.loads(report.read_text(encoding="utf-8"))
        achieved = [float(clock["achieved"]) for clock in timing["fmax"].values()]
        if not achieved:
            return _Timing(None, "no path from a register to a register")
        found.append((min(achieved), timing))
    clock, timing = max(found, key=lambda pair: pair[0])
    how = "in a shell of shift registers" if router.pins else "out of context, without I/O"
    if len(found) > 1:
        slowest = min(other for other, _ in found)
        how += f"; the best of {len(found)} placements, from {slowest:.1f} MHz on"
    return _Timing(clock, f"{router.tool} {how}", _critical_path(timing))


def _route(
    target: Target,
    directory: Path,
    cells: Mapping[str, int],
    placements: int,
    timeout: float,
) -> _Timing:
    def run(command: Sequence[str] | None) -> None:
        if command is None:
            return
        try:
            run_tool(command, cwd=directory, timeout=timeout)
        except ToolError as error:
            raise ToolError(
                f"target '{target.name}': no place and route: {error}; "
                f"see '{directory / output_folder(target)}'",
                error.command,
                error.returncode,
                error.tail,
            ) from error

    run(shell_command(target))
    numbers = range(1, placements + 1)
    with ThreadPoolExecutor(max_workers=min(placements, os.cpu_count() or 1)) as pool:
        list(pool.map(run, [route_command(target, number) for number in numbers]))
    reports = [directory / timing_file(target, number) for number in numbers]
    return _read_timing(target, reports, cells)


def synthesize_design(
    directory: Path,
    target: str,
    place_and_route: bool = True,
    placements: int = 1,
    timeout_seconds: float = 3600.0,
) -> SynthesisReport:
    """Synthesises an emitted folder for a target and returns what it takes.

    Args:
        directory: the emitted folder; results go to its synth/results/<target>/.
        target: a name of `chop.synth.targets.TARGETS`.
        place_and_route: also ask nextpnr for the clock, where it has the device.
        placements: how many placements nextpnr tries, one on each processor; the fastest counts.
        timeout_seconds: of each tool.

    Raises ConfigError for an unknown target, DataError for a folder that is not a whole design,
    VerifyError when a design that is to be placed and routed does not fit the device, and ToolError
    when a tool fails. A design that is only counted may be larger than the device (`fits`).
    """
    device = find_target(target)
    manifest = Manifest.load(directory)
    check_sources(manifest, directory)
    start = time.monotonic()
    write_scripts(manifest, directory)
    out = directory / output_folder(device)
    out.mkdir(parents=True, exist_ok=True)
    run_tool(resources_command(device), cwd=directory, timeout=timeout_seconds)
    cells = read_cells(out / "stat.json")[manifest.top]
    used = count_resources(device.family, cells)
    if place_and_route and device.router is not None:
        _check_capacity(manifest, device, used)
    timing = _Timing(None, "place and route was not asked for")
    if place_and_route:
        timing = _route(device, directory, cells, placements, timeout_seconds)
    return SynthesisReport(
        target=device.name,
        device=device.device,
        luts=used.luts,
        ffs=used.ffs,
        dsps=used.dsps,
        brams=used.brams,
        capacity=device.capacity,
        fmax_mhz=timing.fmax_mhz,
        fmax_note=timing.note,
        critical_path=timing.critical_path,
        seconds=time.monotonic() - start,
    )
