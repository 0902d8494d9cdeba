"""`chop compress` and `chop decompress`: a network in few bytes, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chop.cli.options import ConfigFile, Json, ModelSource, Overrides, read_config
from chop.cli.progress import make_progress

if TYPE_CHECKING:
    from chop.flows.compress import Compression

__all__ = ["compress", "decompress"]


def compress(
    config: ConfigFile = None,
    overrides: Overrides = None,
    model: ModelSource = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a training that was interrupted.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Prune, retrain, share and code the model, stage by stage as [compress] says.

    Writes runs/<name>/<name>.chz, which decodes to the same network bit for bit, and
    compression.json with what every stage takes. Stages that were trained before are not again.
    """
    job = read_config(config, overrides, model)
    from chop.flows.compress import compress_design, report_to_json

    report = compress_design(job, make_progress(as_json), resume)
    if as_json:
        print(report_to_json(report), end="")
    else:
        _print(report)


def _print(report: Compression) -> None:
    from chop.cli.render import print_summary, print_table

    headers = ("stage", "accuracy", "weights", "fewer", "bytes", "smaller")
    rows = [
        [
            stage.name,
            f"{100 * stage.accuracy:.2f} %",
            f"{stage.kept:,}",
            f"{stage.weight_ratio:.1f} x",
            f"{stage.bytes:,}",
            f"{stage.ratio:.1f} x",
        ]
        for stage in report.stages
    ]
    print_table(f"{report.name}: stages", headers, rows, right=headers[1:])
    columns = ("tensor", "form", "params", "kept", "fillers", "values", "value", "gap", "bytes")
    sizes = [
        [
            size.name,
            size.form,
            f"{size.params:,}",
            f"{size.kept:,}",
            f"{size.fillers:,}",
            f"{size.values:,}" if size.values else "",
            f"{size.mean_value_bits:.2f} of {size.value_bits}",
            f"{size.mean_position_bits:.2f} of {size.position_bits}",
            f"{size.bytes:,}",
        ]
        for size in report.stages[-1].layers
    ]
    title = f"{report.name}: tensors (value and gap: mean bits when coded, of how many)"
    print_table(title, columns, sizes, right=columns[2:])
    print_summary(report.name, [("file", report.file)])


def decompress(
    file: Annotated[Path, typer.Argument(help="A .chz file, written by 'chop compress'.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The saved graph; by default <file>.pt."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Decode a compressed network into a saved graph, for --model and model.graph."""
    from chop.flows.compressed import load_compressed
    from chop.ir.serialize import save_graph

    target = output or file.with_suffix(".pt")
    graph = load_compressed(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_graph(graph, target)
    if as_json:
        print(json.dumps({"file": str(target)}, indent=2))
    else:
        print(f"wrote {target}")
