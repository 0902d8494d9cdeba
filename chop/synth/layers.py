"""What each layer takes after synthesis, beside what the compiler estimated for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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


def _source_order(attributes: str) -> list[str]:
    """Returns the top's instances in the order of its source, from Yosys' `printattrs`."""
    lines: list[tuple[int, str]] = []
    for block in re.split(r"^(?=\S)", attributes, flags=re.MULTILINE):
        if found := re.search(r'src="[^"]*:(\d+)\.', block):
            lines.append((int(found.group(1)), block.split()[0]))
    return [instance for _, instance in sorted(lines)]


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


def _match(layers: Sequence[LayerEntry], rows: Sequence[LayerCost]) -> list[str]:
    """Returns the instance of each layer: u_<node>, else by module in the order of the source.

    A node whose name is no identifier has an instance of another name, but the emitter writes
    instances in the order of the layers.
    """
    names = {row.instance for row in rows}
    exact = {layer.node: f"u_{layer.node}" for layer in layers if f"u_{layer.node}" in names}
    found: list[tuple[str, str]] = []
    for module in dict.fromkeys(layer.module for layer in layers):
        wanting = [x.node for x in layers if x.module == module and x.node not in exact]
        free = [
            row.instance
            for row in rows
            if row.module == module and row.instance not in exact.values()
        ]
        if len(wanting) != len(free):
            raise VerifyError(
                f"layers {', '.join(wanting) or 'none'} of module '{module}' cannot be told from "
                f"the instances {', '.join(free) or 'none'}: emit the design again"
            )
        found += zip(wanting, free, strict=True)
    instances = exact | dict(found)
    return [instances[layer.node] for layer in layers]


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
    order = _source_order((out / "instances.txt").read_text(encoding="utf-8"))
    instances = _match(manifest.layers, [rows[name] for name in order if name in rows])
    layers = [
        _attach(rows.pop(instance), layer)
        for instance, layer in zip(instances, manifest.layers, strict=True)
    ]
    others = sorted(rows.values(), key=lambda row: (row.instance == "", row.instance))
    return (*layers, *others)
