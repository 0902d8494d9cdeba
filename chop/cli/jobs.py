"""The commands that do work: each reads its options, runs one flow and prints what came of it."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer

from chop.cli.options import Build, ConfigFile, Json, ModelSource, Overrides, read_config
from chop.cli.progress import make_progress

__all__ = ["emit", "evaluate", "simulate", "synthesize", "train", "transform"]


def transform(
    config: ConfigFile = None,
    overrides: Overrides = None,
    model: ModelSource = None,
    build: Build = None,
    as_json: Json = False,
) -> None:
    """Train, quantise, emit, simulate and report: the main job."""
    job = read_config(config, overrides, model)
    from chop.flows.simulate import check_simulation
    from chop.flows.transform import report_to_json, transform_design

    report = transform_design(job, build, make_progress(as_json))
    if as_json:
        print(report_to_json(report), end="")
    else:
        from chop.cli.render import print_report

        print_report(report)
    check_simulation(report.name, report.simulations)


def train(
    config: ConfigFile = None,
    overrides: Overrides = None,
    model: ModelSource = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from runs/<name>/last.ckpt.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train the model into runs/<name>; with [qat], then the quantised one into runs/<name>/qat.

    Leaves checkpoints, metrics.json and TensorBoard logs there.
    """
    job = read_config(config, overrides, model)
    from chop.flows.prepare import train_design

    stages = train_design(job, make_progress(as_json), resume)
    if as_json:
        tables = [dataclasses.asdict(metrics) for _, metrics in stages]
        print(json.dumps(tables[0] if len(tables) == 1 else tables, indent=2))
        return
    from chop.cli.render import print_summary

    for directory, metrics in stages:
        print_summary(
            directory.as_posix().removeprefix("runs/"),
            [
                ("epochs", f"{metrics.epochs}"),
                ("seconds", f"{metrics.seconds:.1f}"),
                ("train accuracy", f"{100 * metrics.train_accuracy:.2f} %"),
                ("test accuracy", f"{100 * metrics.test_accuracy:.2f} %"),
                ("weights", str(directory / metrics.checkpoint)),
            ],
        )


def evaluate(
    config: ConfigFile = None,
    overrides: Overrides = None,
    model: ModelSource = None,
    as_json: Json = False,
) -> None:
    """Compare the float model with the integer reference."""
    job = read_config(config, overrides, model)
    from chop.flows.evaluate import evaluate_design

    accuracy = evaluate_design(job, make_progress(as_json))
    if as_json:
        print(json.dumps(dataclasses.asdict(accuracy), indent=2))
        return
    from chop.cli.render import print_accuracy

    print_accuracy(job.name, accuracy)


def emit(
    config: ConfigFile = None,
    overrides: Overrides = None,
    model: ModelSource = None,
    build: Build = None,
    as_json: Json = False,
) -> None:
    """Write RTL, ROMs, test bench and scripts."""
    job = read_config(config, overrides, model)
    from chop.flows.emit import emit_design

    accelerator = emit_design(job, build, make_progress(as_json))
    if as_json:
        print(accelerator.manifest.to_json(), end="")
    else:
        print(f"emitted {accelerator.directory}")


def simulate(
    config: ConfigFile = None,
    overrides: Overrides = None,
    build: Build = None,
    as_json: Json = False,
) -> None:
    """Run an emitted folder against the reference.

    The samples are random; every output must equal the integer reference.
    """
    job = read_config(config, overrides, None)
    from chop.flows.places import chosen_build
    from chop.flows.simulate import check_simulation, simulate_folder

    directory = chosen_build(build, None if config is None else job.name)
    manifest, runs = simulate_folder(directory, job.simulate, make_progress(as_json))
    if as_json:
        print(json.dumps([dataclasses.asdict(run) for run in runs], indent=2))
    else:
        from chop.cli.render import print_simulations

        print_simulations(manifest, runs)
    check_simulation(manifest.name, runs)


def synthesize(
    config: ConfigFile = None,
    overrides: Overrides = None,
    build: Build = None,
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="A name of 'chop list targets'.")
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Compare the estimate of each layer with Yosys.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Synthesise an emitted folder.

    It is placed and routed too where the target's tools can.
    """
    overrides = [*(overrides or []), *([f'synthesize.target="{target}"'] if target else [])]
    job = read_config(config, overrides, None)
    from chop.flows.places import chosen_build
    from chop.flows.synthesize import compare_layers, synthesize_folder

    directory = chosen_build(build, None if config is None else job.name)
    progress = make_progress(as_json)
    report = synthesize_folder(directory, job.synthesize, progress)
    rows = compare_layers(directory, job.synthesize, progress) if layers else ()
    if as_json:
        table = dataclasses.asdict(report)
        if layers:
            table["layers"] = [dataclasses.asdict(row) for row in rows]
        print(json.dumps(table, indent=2))
        return
    from chop.cli.render import print_layer_costs, print_synthesis

    if layers:
        print_layer_costs(directory.name, rows)
    print_synthesis(directory.name, report)
