"""Writes the test bench of an emitted folder: harness, cocotb test, runner, Makefile, vectors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import jinja2

from chop.errors import SimulationError
from chop.formats.rounding import Ints
from chop.ir.files import write_text
from chop.ir.manifest import Manifest, StreamEntry
from chop.ir.stream import beats_to_hex

__all__ = ["write_batch_testbench", "write_testbench", "write_vectors"]

_RESET_CYCLES = 4
# Idle cycles after the last expected beat, to see that no other follows.
_DRAIN_CYCLES = 256

_HARNESS = (
    "chop_sim_pkg.sv",
    "chop_stream_monitor.sv",
    "chop_stream_sink.sv",
    "chop_stream_source.sv",
)
_RUNNER = ("build.py", "report.py", "runner.py")


def _render(template: str, **values: object) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template_text),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)


def _template_text(name: str) -> str:
    return (files("chop.hw") / "templates" / name).read_text(encoding="utf-8")


def _check_names(manifest: Manifest) -> None:
    """Vector files and instances are named after streams and signals, so these must be distinct."""
    streams = [*manifest.inputs, *manifest.streams, *manifest.outputs]
    for kind, names in (
        ("name", [stream.name for stream in streams]),
        ("signal", [stream.signal for stream in streams]),
    ):
        for name in names:
            if names.count(name) > 1:
                raise SimulationError(f"design '{manifest.name}': two streams have {kind} '{name}'")
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise SimulationError(
                    f"design '{manifest.name}': stream {kind} '{name}' must be an identifier"
                )


def _bench(designs: Sequence[Manifest]) -> dict[str, str]:
    """Returns the files of tb/ that a simulation is built from and runs: path to text."""
    for manifest in designs:
        _check_names(manifest)
    harness = files("chop.hw") / "sim"
    texts = {f"tb/{name}": (harness / name).read_text(encoding="utf-8") for name in _HARNESS}
    texts["tb/tb.sv"] = _render(
        "tb.sv.j2", designs=designs, drain_cycles=_DRAIN_CYCLES, reset_cycles=_RESET_CYCLES
    )
    texts["tb/tb.vlt"] = _render("tb.vlt.j2")
    texts["tb/test_top.py"] = _render("tb_test.py.j2")
    return texts


def write_testbench(manifest: Manifest, directory: Path) -> tuple[str, ...]:
    """Writes <directory>/tb and the Makefile; returns their relative paths, sorted.

    The bytes depend on the manifest alone. Raises SimulationError when two streams share a name.
    """
    texts = _bench([manifest])
    sim = files("chop.sim")
    for name in _RUNNER:
        texts[f"tb/harness/{name}"] = (sim / name).read_text(encoding="utf-8")
    texts["tb/harness/__init__.py"] = ""
    texts["tb/run.py"] = _render("tb_run.py.j2")
    texts["Makefile"] = _render("tb_Makefile.j2", design=manifest)
    for path, text in texts.items():
        write_text(directory / path, text)
    return tuple(sorted(texts))


def write_batch_testbench(designs: Sequence[Manifest], directory: Path) -> tuple[Path, ...]:
    """Writes <directory>/tb for many designs at once; returns the paths of Verilator's sources.

    Every design needs a `top` of its own.
    """
    tops = [manifest.top for manifest in designs]
    for top in tops:
        if tops.count(top) > 1:
            raise SimulationError(f"two designs of a batch have the top '{top}'; rename one")
    texts = _bench(designs)
    for path, text in texts.items():
        write_text(directory / path, text)
    return tuple(directory / path for path in sorted(texts) if path.endswith((".sv", ".vlt")))


def _stream_hex(stream: StreamEntry, values: Ints) -> str:
    """Returns the text of a stream's vector file for [N, elements] integers in stream order."""
    fmt = stream.format.fixed()
    if values.ndim != 2 or values.shape[1] != stream.elements:
        raise SimulationError(
            f"stream '{stream.name}': values must be [samples, {stream.elements}] in stream order, "
            f"got {list(values.shape)}"
        )
    if values.size and (values.min() < fmt.low or values.max() > fmt.high):
        raise SimulationError(
            f"stream '{stream.name}': values must be in {fmt.low}..{fmt.high}, "
            f"got {int(values.min())}..{int(values.max())}"
        )
    return beats_to_hex(values.reshape(-1, stream.lanes), stream.format.width)


def write_vectors(
    manifest: Manifest,
    directory: Path,
    values: Mapping[str, Ints],
    folder: str = "tb/vectors",
) -> tuple[str, ...]:
    """Writes <directory>/<folder>/<name>.hex for every stream in values; returns relative paths.

    Args:
        values: stream name to integers [N, elements] in stream order. Streams are those of the
            manifest; SimulationError names one that is not, or whose values do not fit it.
    """
    streams = {s.name: s for s in [*manifest.inputs, *manifest.streams, *manifest.outputs]}
    written = []
    for name, array in values.items():
        if name not in streams:
            raise SimulationError(
                f"design '{manifest.name}' has no stream '{name}'; it has {', '.join(streams)}"
            )
        written.append(f"{folder}/{name}.hex")
        write_text(directory / written[-1], _stream_hex(streams[name], array))
    return tuple(sorted(written))
