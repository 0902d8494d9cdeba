"""report_graph: one row per node, as data, as a table and as a file."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from torch import fx

from chop.errors import ConfigError
from chop.ir.files import write_text
from chop.ir.graph import MaseGraph
from chop.ir.meta import CommonMeta, HardwareMeta, SoftwareMeta, common_of, meta_of
from chop.ir.tensor_type import TensorType
from chop.passes.contract import PassArguments, analysis_pass

__all__ = ["Row", "report_graph_analysis_pass"]

_UNKNOWN = "-"
# A pipe has no width; this is that of a page.
_PIPE_COLUMNS = 100
_SUFFIXES = (".csv", ".json")
_RESOURCES = ("luts", "ffs", "dsps", "brams")
_TOTALS = ("parameters", "macs", "bit_operations", "multipliers", *_RESOURCES)
# Columns of text; numbers are aligned to the right.
_LEFT = ("node", "op", "in", "weight", "out", "lanes")
_GAP = 2

Cell = int | str


@dataclass(frozen=True, slots=True)
class Row:
    """One node. Numbers are per sample; a field that no pass has found out yet is "-".

    Several inputs are separated by commas. `host` is the node that does this node's work where that
    is another one; lanes and cycles are empty for a node that has no hardware of its own.
    """

    node: str
    op: str
    in_shape: str
    in_format: str
    weight_format: str
    bias_format: str
    out_shape: str
    out_format: str
    parameters: Cell
    macs: Cell
    bit_operations: Cell
    host: str
    in_lanes: Cell
    out_lanes: Cell
    multipliers: Cell
    cycles: Cell
    first_output_cycle: Cell
    luts: Cell
    ffs: Cell
    dsps: Cell
    brams: Cell


class ReportArguments(PassArguments):
    """`show`: print the table. `file`: write all of it, to .csv or .json."""

    show: bool = False
    file: Path | None = None


@analysis_pass("report_graph", ReportArguments, ("add_common_metadata",))
def report_graph_analysis_pass(graph: MaseGraph, arguments: ReportArguments) -> MaseGraph:
    """Puts a row per node and their totals into `info["report_graph"]`, as plain data.

    Fields of passes that have not run are "-". Resources are estimates. Raises ConfigError for a
    file of another kind.
    """
    file = arguments.file
    if file is not None and file.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"pass 'report_graph': 'file' must end in .csv or .json, got '{file}'")
    rows = [_row(node) for node in graph.fx_graph.nodes]
    totals = {name: _total(getattr(row, name) for row in rows) for name in _TOTALS}
    graph.info["report_graph"] = {"rows": [asdict(row) for row in rows], "totals": totals}
    if file is not None:
        text = _json(graph) if file.suffix.lower() == ".json" else _csv(rows)
        write_text(file, text)
    if arguments.show:
        _print(type(graph.model).__name__, rows, totals)
    return graph


def _row(node: fx.Node) -> Row:
    meta, common = meta_of(node), common_of(node)
    data = common.carries_data
    return Row(
        node.name,
        common.operator,
        _shapes(common.inputs),
        ", ".join(str(t.format or "float") for t in common.inputs),
        _constant(common, "weight"),
        _constant(common, "bias"),
        _shapes((common.output,)) if data else "",
        str(common.output.format or "float") if data else "",
        *_software(meta.software),
        _host(node.name, meta.hardware),
        *_hardware(meta.hardware),
    )


def _shapes(types: Iterable[TensorType]) -> str:
    return ", ".join("x".join(map(str, t.shape)) or "1" for t in types)


def _constant(common: CommonMeta, name: str) -> str:
    found = common.parameters.get(name)
    return str(found.format) if found is not None else ""


def _software(meta: SoftwareMeta | None) -> tuple[Cell, Cell, Cell]:
    if meta is None:
        return _UNKNOWN, _UNKNOWN, _UNKNOWN
    return meta.parameters, meta.macs, meta.bit_operations


def _host(name: str, meta: HardwareMeta | None) -> str:
    if meta is None:
        return _UNKNOWN
    return "" if meta.host == name else meta.host


def _hardware(
    meta: HardwareMeta | None,
) -> tuple[Cell, Cell, Cell, Cell, Cell, Cell, Cell, Cell, Cell]:
    """Returns the fields of Row from in_lanes on."""
    if meta is None or meta.folding.cycles == 0:
        nothing = _UNKNOWN if meta is None else ""
        return (nothing,) * 9
    folding, cost = meta.folding, meta.total_cost
    return (
        folding.in_lanes,
        folding.out_lanes,
        folding.multipliers,
        folding.cycles,
        meta.first_output_cycle,
        cost.luts,
        cost.ffs,
        cost.dsps,
        cost.brams,
    )


def _total(cells: Iterable[Cell]) -> Cell:
    """Returns the sum; unknown where any cell is."""
    found = list(cells)
    return _UNKNOWN if _UNKNOWN in found else sum(c for c in found if isinstance(c, int))


def _json(graph: MaseGraph) -> str:
    return json.dumps(graph.info["report_graph"], indent=2) + "\n"


def _csv(rows: Iterable[Row]) -> str:
    names = [field.name for field in fields(Row)]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return buffer.getvalue()


def _print(title: str, rows: Sequence[Row], totals: Mapping[str, Cell]) -> None:
    """Prints one table, or where the page is too narrow for it two, one below the other."""
    width = shutil.get_terminal_size((_PIPE_COLUMNS, 24)).columns
    node = ["node", *(row.node for row in rows), "total"]
    software = [
        ["op", *(row.op for row in rows), ""],
        ["in", *(_types(row.in_shape, row.in_format) for row in rows), ""],
        ["weight", *(row.weight_format for row in rows), ""],
        ["out", *(_types(row.out_shape, row.out_format) for row in rows), ""],
        _numbers("params", "parameters", rows, totals),
        _numbers("MACs", "macs", rows, totals),
        _numbers("bit-ops", "bit_operations", rows, totals),
    ]
    hardware = [
        ["lanes", *(_lanes(row) for row in rows), ""],
        *(_numbers(name, name, rows, totals) for name in ("multipliers", "cycles")),
        _numbers("first", "first_output_cycle", rows, totals),
        *(_numbers(name.upper()[:-1], name, rows, totals) for name in _RESOURCES),
    ]
    known = any(row.host != _UNKNOWN for row in rows)
    note = "resources are estimates"
    whole = [node, *software, *hardware]
    if sum(_width(column) for column in whole) + _GAP * (len(whole) - 1) <= width:
        _print_table(f"{title} ({note})" if known else title, whole, width)
        return
    _print_table(title, [node, *software], width)
    if not known:
        print("lanes, cycles, resources: -  (run add_hardware_metadata_analysis_pass for them)\n")
        return
    own = [i for i, cells in enumerate(zip(*hardware, strict=True)) if any(cells)]
    columns = [[column[i] for i in own] for column in (node, *hardware)]
    _print_table(f"{title}: hardware ({note})", columns, width)


def _print_table(title: str, columns: Sequence[Sequence[str]], width: int) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, _GAP - 1, 0, 0),
        pad_edge=False,
        show_footer=True,
    )
    for name, *_, total in columns:
        right = name not in _LEFT
        table.add_column(name, total, justify="right" if right else "left", overflow="fold")
    for cells in zip(*(column[1:-1] for column in columns), strict=True):
        table.add_row(*cells)
    console = Console(width=width, markup=False, highlight=False, emoji=False)
    console.print(table, new_line_start=True)
    console.print()


def _numbers(header: str, name: str, rows: Iterable[Row], totals: Mapping[str, Cell]) -> list[str]:
    cells = [*(getattr(row, name) for row in rows), totals.get(name, "")]
    return [header, *(f"{c:,}" if isinstance(c, int) else c for c in cells)]


def _types(shapes: str, formats: str) -> str:
    pairs = zip(shapes.split(", "), formats.split(", "), strict=True)
    return "\n".join(f"{shape} {format}".strip() for shape, format in pairs)


def _lanes(row: Row) -> str:
    """Lanes in and out, or the node that does this node's work."""
    if row.host not in ("", _UNKNOWN):
        return f"in {row.host}"
    known = isinstance(row.in_lanes, int)
    return f"{row.in_lanes} to {row.out_lanes}" if known else str(row.in_lanes)


def _width(column: Iterable[str]) -> int:
    return max(len(line) for cell in column for line in cell.split("\n"))
