"""The section on compression: what every stage leaves, at what accuracy, tensor by tensor."""

from __future__ import annotations

from chop.report.blocks import (
    BarRow,
    Bars,
    Cell,
    Column,
    Columns,
    Figure,
    Figures,
    Section,
    Table,
    percent,
    size,
)
from chop.report.inputs import Compression

__all__ = ["compression"]


def compression(found: Compression | None) -> Section | None:
    """Returns what stages of pruning, sharing and coding leave; None where there were none."""
    if found is None or not found.stages:
        return None
    first, last = found.stages[0], found.stages[-1]
    points = 100 * (last.accuracy - first.accuracy)
    figures = Figures(
        (
            Figure(
                "Smaller by",
                f"{last.ratio:.1f} x",
                f"{size(8 * first.bytes)} to {size(8 * last.bytes)}",
            ),
            Figure(
                "Weights kept",
                percent(last.kept / last.params, 1),
                f"{last.kept:,} of {last.params:,}",
            ),
            Figure(
                "Accuracy",
                percent(last.accuracy),
                f"float {percent(first.accuracy)} ({points:+.2f} points)",
            ),
        )
    )
    sizes = tuple(
        BarRow(
            stage.name, stage.bytes / first.bytes, f"{size(8 * stage.bytes)}  {stage.ratio:.1f} x"
        )
        for stage in found.stages
    )
    rights = tuple(
        BarRow(stage.name, stage.accuracy, percent(stage.accuracy)) for stage in found.stages
    )
    columns = Columns((Bars("Bytes after every stage", sizes), Bars("Accuracy", rights)))
    lead = (
        "Bytes count everything that is needed to get the weights back: positions, fillers, "
        f"codebooks and code lengths. The file is {found.file}."
    )
    return Section(
        "compression", "Compression", lead, (figures, columns, _stages(found), _tensors(found))
    )


def _stages(found: Compression) -> Table:
    columns = (
        *(Column("stage"), Column("accuracy", True), Column("elements", True)),
        *(Column("not zero", True), Column("bytes", True), Column("ratio", True)),
    )
    rows = tuple(
        (
            Cell(stage.name),
            Cell(percent(stage.accuracy), sort=stage.accuracy),
            Cell(f"{stage.params:,}", sort=stage.params),
            Cell(f"{stage.kept:,}", stage.kept / stage.params if stage.params else 0, stage.kept),
            Cell(f"{stage.bytes:,}", sort=stage.bytes),
            Cell(f"{stage.ratio:.1f}", sort=stage.ratio),
        )
        for stage in found.stages
    )
    return Table("Stage by stage", columns, rows)


def _tensors(found: Compression) -> Table:
    columns = (
        *(Column("tensor"), Column("form"), Column("elements", True), Column("not zero", True)),
        Column("fillers", True, "zeros kept because no distance reaches over a gap"),
        *(Column("values", True, "distinct weights"), Column("bits a value", True)),
        *(Column("bits a position", True), Column("tables, bytes", True), Column("bytes", True)),
        Column("ratio", True, "to 4 bytes an element"),
    )
    layers = found.stages[-1].layers
    most = max((t.bytes for t in layers), default=1) or 1
    rows = tuple(
        (
            Cell(t.name),
            Cell(t.form),
            Cell(f"{t.params:,}", sort=t.params),
            Cell(f"{t.kept:,}", t.kept / t.params if t.params else 0.0, t.kept),
            Cell(f"{t.fillers:,}", sort=t.fillers),
            Cell(f"{t.values:,}" if t.values else "\u2013", sort=t.values),
            Cell(f"{t.mean_value_bits:.2f}", sort=t.mean_value_bits),
            Cell(f"{t.mean_position_bits:.2f}", sort=t.mean_position_bits),
            Cell(f"{t.codebook_bytes + t.table_bytes:,}", sort=t.codebook_bytes + t.table_bytes),
            Cell(f"{t.bytes:,}", t.bytes / most, t.bytes),
            Cell(f"{4 * t.params / t.bytes:.1f}" if t.bytes else "\u2013"),
        )
        for t in layers
    )
    return Table("Tensor by tensor, after the last stage", columns, rows)
