"""The emit passes: the top, the library modules, the constants and the test bench of a design."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field

from chop.ir.files import write_text
from chop.ir.graph import MaseGraph
from chop.ir.stream import beats_to_hex
from chop.ir.words import stream_words
from chop.ops.annotate import run_in_integers
from chop.passes.contract import PassArguments, transform_pass
from chop.passes.graph.transforms.emitted import (
    Design,
    design_of,
    generated_sources,
    library_sources,
)
from chop.sim.testbench import write_testbench, write_vectors
from chop.synth.scripts import write_scripts

__all__ = [
    "emit_bram_transform_pass",
    "emit_internal_rtl_transform_pass",
    "emit_verilog_tb_transform_pass",
    "emit_verilog_top_transform_pass",
]

_REQUIRES = ("add_common_metadata",)
_VECTOR_SAMPLES = 16


class EmitArguments(PassArguments):
    """`project_dir`: the folder written; `top_name`: the top module's name; `name`: the design's.

    `config_hash` goes into the manifest. `samples` is how many example inputs the test bench gets.
    """

    project_dir: Path = Path("build/top")
    top_name: str = Field(default="top", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    name: str | None = None
    config_hash: str = "0" * 16
    samples: int = Field(default=_VECTOR_SAMPLES, ge=1)


@transform_pass("emit_verilog_top", EmitArguments, _REQUIRES)
def emit_verilog_top_transform_pass(graph: MaseGraph, arguments: EmitArguments) -> MaseGraph:
    """Writes rtl/<top>.sv, design.json and the synthesis scripts.

    A graph without hardware metadata is scheduled with the defaults first; so do all emit passes.
    """
    design = _design(graph, arguments)
    directory = arguments.project_dir
    write_text(directory / f"rtl/{design.manifest.top}.sv", design.top_text())
    write_text(directory / "design.json", design.manifest.to_json())
    write_scripts(design.manifest, directory)
    return graph


@transform_pass("emit_internal_rtl", EmitArguments, _REQUIRES)
def emit_internal_rtl_transform_pass(graph: MaseGraph, arguments: EmitArguments) -> MaseGraph:
    """Writes the library modules that the top uses to rtl/, and those made for this design."""
    design = _design(graph, arguments)
    for source in library_sources(design.netlist):
        text = source.read_text(encoding="utf-8")
        write_text(arguments.project_dir / "rtl" / source.name, text)
    for module, text in generated_sources(design.netlist).items():
        write_text(arguments.project_dir / f"rtl/{module}.sv", text)
    return graph


@transform_pass("emit_bram", EmitArguments, _REQUIRES)
def emit_bram_transform_pass(graph: MaseGraph, arguments: EmitArguments) -> MaseGraph:
    """Writes the constants to rom/, one word per line, in the order in which they are read."""
    for memory in _design(graph, arguments).netlist.memories:
        text = beats_to_hex(memory.words, memory.width)
        write_text(arguments.project_dir / memory.file, text)
    return graph


@transform_pass("emit_verilog_tb", EmitArguments, _REQUIRES)
def emit_verilog_tb_transform_pass(graph: MaseGraph, arguments: EmitArguments) -> MaseGraph:
    """Writes the cocotb test bench, its Makefile, and vectors from the example inputs."""
    design = _design(graph, arguments)
    directory = arguments.project_dir
    testbench = write_testbench(design.manifest, directory)
    manifest = design.manifest.model_copy(update={"testbench": tuple(testbench)})
    write_text(directory / "design.json", manifest.to_json())
    inputs = {
        name: x[: arguments.samples].double().numpy() for name, x in graph.example_inputs.items()
    }
    values = run_in_integers(graph, inputs)
    streams = (*manifest.inputs, *manifest.outputs, *manifest.streams)
    write_vectors(
        manifest,
        directory,
        stream_words(graph, streams, values),
    )
    return graph


def _design(graph: MaseGraph, arguments: EmitArguments) -> Design:
    name = arguments.name or re.sub(r"[^A-Za-z0-9_.-]", "_", arguments.project_dir.name) or "top"
    return design_of(graph, name, arguments.top_name, arguments.config_hash)
