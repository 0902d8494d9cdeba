"""The pass script as users write it, from a model to an emitted folder and its simulation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from chop.flows.compile import Accelerator
from chop.ir.graph import MaseGraph
from chop.ir.manifest import Manifest
from chop.models import JSC_Three_Linear_Layers, JSC_Tiny
from chop.passes.graph.analysis import (
    add_common_metadata_analysis_pass,
    add_hardware_metadata_analysis_pass,
    add_software_metadata_analysis_pass,
    init_metadata_analysis_pass,
    plot_graph_analysis_pass,
    report_graph_analysis_pass,
    verify_metadata_analysis_pass,
)
from chop.passes.graph.transforms import (
    emit_bram_transform_pass,
    emit_internal_rtl_transform_pass,
    emit_verilog_tb_transform_pass,
    emit_verilog_top_transform_pass,
    fold_batch_norm_transform_pass,
    quantize_transform_pass,
)
from tests.passes.networks import AUTOMATIC, batch, branches, scheduled, seeded

MODELS = (JSC_Tiny, JSC_Three_Linear_Layers)
SPACE = [
    {"by": "type", "default": {"config": {**AUTOMATIC, "weight_width": width}}} for width in (4, 8)
]


def emit(model: nn.Module, place: Path) -> tuple[MaseGraph, list[MaseGraph]]:
    """The script: analysis once, then a candidate per configuration, each emitted."""
    x = batch(16, 16)
    mg = MaseGraph(model)
    mg = init_metadata_analysis_pass(mg, None)
    mg = add_common_metadata_analysis_pass(mg, {"dummy_in": {"x": x}})
    mg = add_software_metadata_analysis_pass(mg, None)
    candidates = []
    for i, config in enumerate(SPACE):
        candidate = quantize_transform_pass(mg, config)
        arguments = {"project_dir": place / str(i)}
        candidate = emit_verilog_top_transform_pass(candidate, arguments)
        candidate = emit_internal_rtl_transform_pass(candidate, arguments)
        candidate = emit_bram_transform_pass(candidate, arguments)
        candidate = emit_verilog_tb_transform_pass(candidate, arguments)
        candidates.append(candidate)
    return mg, candidates


def files(place: Path) -> dict[str, bytes]:
    return {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()}


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_the_script_runs_as_written(model: type[nn.Module], tmp_path: Path) -> None:
    mg, candidates = emit(seeded(model), tmp_path)
    assert [node.name for node in mg.fx_graph.nodes if "cast" in node.name] == []
    assert mg.info == {}
    for i, candidate in enumerate(candidates):
        verify_metadata_analysis_pass(candidate)
        folder = tmp_path / str(i)
        manifest = Manifest.load(folder)
        for name in (*manifest.rtl, *manifest.rom, *manifest.testbench, "Makefile"):
            assert (folder / name).is_file(), name
        assert (manifest.inputs[0].shape, manifest.outputs[0].shape) == ((16,), (5,))
        assert f"module {manifest.top} " in (folder / manifest.rtl[0]).read_text(encoding="utf-8")
    first, second = (Manifest.load(tmp_path / str(i)) for i in range(2))
    assert first.weights_hash != second.weights_hash


def write_everything(place: Path) -> None:
    """Emits every model into a folder, with a plot and a report of a graph with branches."""
    for model in MODELS:
        emit(seeded(model), place / model.__name__)
    graph = plot_graph_analysis_pass(scheduled(branches()), {"file": place / "plot.svg"})
    report_graph_analysis_pass(graph, {"file": place / "report.json"})


def test_the_same_bytes_twice_and_in_another_process(tmp_path: Path) -> None:
    write_everything(tmp_path / "here")
    here = files(tmp_path / "here")
    assert len(here) > 4 * 20
    write_everything(tmp_path / "here")
    assert files(tmp_path / "here") == here
    script = (
        "import sys; from pathlib import Path; "
        "from tests.passes.test_road import write_everything; write_everything(Path(sys.argv[1]))"
    )
    # Another order of sets, another temporary folder, another place.
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    (tmp_path / "scratch").mkdir()
    environment = {"PYTHONHASHSEED": seed, "PATH": "", "TMPDIR": str(tmp_path / "scratch")}
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "there")],
        check=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    assert files(tmp_path / "there") == here
    for name, content in here.items():
        assert str(tmp_path).encode() not in content, name


def test_the_emitted_design_computes_what_the_graph_says(tmp_path: Path) -> None:
    """End to end: folded, quantised, scheduled, emitted and simulated with random stalls."""
    x = batch(32, 16)
    mg = init_metadata_analysis_pass(MaseGraph(seeded(JSC_Tiny)), None)
    mg = add_common_metadata_analysis_pass(mg, {"dummy_in": {"x": x}})
    mg = fold_batch_norm_transform_pass(add_software_metadata_analysis_pass(mg, None))
    mg = quantize_transform_pass(mg, SPACE[1])
    mg = add_hardware_metadata_analysis_pass(mg, {"target_initiation_interval": 20})
    arguments = {"project_dir": tmp_path / "jsc_tiny"}
    for emit_pass in (
        emit_verilog_top_transform_pass,
        emit_internal_rtl_transform_pass,
        emit_bram_transform_pass,
        emit_verilog_tb_transform_pass,
    ):
        mg = emit_pass(mg, arguments)
    accelerator = Accelerator(mg, tmp_path / "jsc_tiny", None)
    for stall_probability in (0.0, 0.5):
        run = accelerator.simulate(x, stall_probability, check_streams=True)
        assert (run.mismatches, run.deadlock) == (0, False)
        (expected,) = accelerator.predict(x)
        assert torch.equal(run.outputs[0], expected)
        # PyTorch's own run of the quantised graph: exact in float64.
        assert torch.equal(mg.model.double()(x.double()), expected)
        mg.model.float()


def test_a_graph_quantised_after_its_schedule_is_scheduled_anew(tmp_path: Path) -> None:
    scheduled_graph = scheduled(quantize_transform_pass(branches(), SPACE[1]))
    again = quantize_transform_pass(scheduled_graph, SPACE[0])
    emit_verilog_top_transform_pass(again, {"project_dir": tmp_path / "again"})
    direct = quantize_transform_pass(branches(), SPACE[0])
    emit_verilog_top_transform_pass(direct, {"project_dir": tmp_path / "direct" / "again"})
    texts = [p / "rtl/top.sv" for p in (tmp_path / "again", tmp_path / "direct" / "again")]
    assert texts[0].read_bytes() == texts[1].read_bytes()
