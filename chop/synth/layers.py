"""What each layer takes after synthesis, beside what the compiler estimated for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from chop.errors import VerifyError
from chop.ir.manifest import LayerEntry, Manifest
from chop.synth.scripts import YOSYS, layers_script, output_folder
from chop.synth.synthesize import check_sources, read_cells
from chop.synth.targets import Family, Resources, count_resources, find_target
from chop.tools import run_tool

__all__ = ["LayerCost", "layer_costs"]


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One instance of the top.

    Attributes:
        instance: its name, without the top's.
        module: the library module that it is an instance of.
        node: the graph's node, None for an instance that is no layer (a FIFO, a fork, glue).
        operator: that node's operator, None likewise.
        measured: its cells as synthesised with the instances kept apart.
        estimate: the manifest's figure, None for an instance that is no layer.
    """

    instance: str
    module: str
    node: str | None
    operator: str | None
    measured: Resources
    estimate: Resources | None


def _instance_rows(
    manifest: Manifest, family: Family, cells: Mapping[str, Mapping[str, int]]
) -> dict[str, LayerCost]:
    """Returns a row for each instance, no layer yet, and for the top's own cells (instance "")."""
    rows = {}
    for name, counts in cells.items():
        # read_slang names the module of an instance <module>$<top>.<instance>.
        module, _, instance = name.partition(f"${manifest.top}.")
        own = {cell: count for cell, count in counts.items() if cell not in cells}
        measured = count_resources(family, own)
        if instance or measured != Resources():
            rows[instance] = LayerCost(instance, module, None, None, measured, None)
    return rows


def _instance(rows: dict[str, LayerCost], layer: LayerEntry) -> LayerCost:
    try:
        return rows.pop(layer.instance)
    except KeyError:
        raise VerifyError(
            f"layer '{layer.node}': the top has no instance '{layer.instance}'; "
            "emit the design again"
        ) from None


def _attach(row: LayerCost, layer: LayerEntry) -> LayerCost:
    estimate = Resources(layer.luts, layer.ffs, layer.dsps, layer.brams)
    return replace(row, node=layer.node, operator=layer.operator, estimate=estimate)


def layer_costs(
    directory: Path, target: str, timeout_seconds: float = 3600.0
) -> tuple[LayerCost, ...]:
    """Synthesises an emitted folder with the top's instances kept apart and returns a row for each.

    Rows come in the order of the manifest's layers, then the other instances by name, then the
    top's own glue (instance "") where it has any. Nothing is optimised across an instance's
    boundary here, so the sum may differ a little from the flattened count of `synthesize_design`;
    a design larger than the device is measured all the same.

    Raises ConfigError for an unknown target, DataError for a folder that is not a whole design,
    VerifyError when a layer of the manifest has no instance, ToolError when Yosys fails.
    """
    device = find_target(target)
    manifest = Manifest.load(directory)
    check_sources(manifest, directory)
    out = directory / output_folder(device)
    out.mkdir(parents=True, exist_ok=True)
    (out / "layers.ys").write_text(layers_script(manifest, device), encoding="utf-8")
    command = (YOSYS, "-q", "-s", f"{output_folder(device)}/layers.ys")
    run_tool(command, cwd=directory, timeout=timeout_seconds)

    rows = _instance_rows(manifest, device.family, read_cells(out / "layers.json"))
    layers = [_attach(_instance(rows, layer), layer) for layer in manifest.layers]
    others = sorted(rows.values(), key=lambda row: (row.instance == "", row.instance))
    return (*layers, *others)
