"""The sections on values: number formats, signal to noise, zeros, accuracy."""

from __future__ import annotations

from chop.report.axes import Axis
from chop.report.blocks import (
    BarRow,
    Bars,
    Block,
    Cell,
    Column,
    Columns,
    Section,
    Table,
    chart,
    percent,
    size,
)
from chop.report.charts import Mark, Series, plot
from chop.report.inputs import Inputs, NumbersRow

__all__ = ["accuracy", "numbers", "sparsity"]


def accuracy(inputs: Inputs) -> Bars | None:
    """Returns float, integer and RTL accuracy side by side; None where none was measured."""
    report = inputs.report
    if report is None or report.accuracy is None:
        return None
    found = report.accuracy
    rows = []
    if inputs.training:
        share = inputs.training.train_accuracy
        rows.append(BarRow("float, training set", share, percent(share)))
    rows += [
        BarRow("float", found.float_accuracy, percent(found.float_accuracy)),
        BarRow("integer reference", found.integer_accuracy, percent(found.integer_accuracy)),
    ]
    free = [run for run in report.simulations if not run.mismatches and not run.deadlock]
    if free and free[0].samples == found.samples:
        text = f"{percent(found.integer_accuracy)}  equal"
        rows.append(BarRow("RTL, simulated", found.integer_accuracy, text, "good"))
    note = f"{found.samples:,} samples that the training has not seen."
    if inputs.training:
        note += f" Trained for {inputs.training.epochs:,} epochs."
    return Bars("Accuracy", tuple(rows), note)


def numbers(inputs: Inputs) -> Section | None:
    """Returns what every number format does to the values; None without report_numbers."""
    report = inputs.report
    if report is None or report.numbers is None:
        return None
    found = report.numbers
    most = max((row.sqnr_db for row in found.rows if row.sqnr_db is not None), default=1.0)
    columns = (
        *(Column("node"), Column("operator"), Column("format")),
        Column("range", True, "integers that it can reach"),
        Column("SQNR dB", True, "of the integers' values against the float network"),
        Column(
            "off",
            True,
            "elements in which float32 arithmetic of the fake-quantised network "
            "differs from the integers",
        ),
        *(Column("requantiser"), Column("weights")),
        *(Column("weights dB", True), Column("constants", True)),
    )
    rows = tuple(_row(row, max(most, 1e-9)) for row in found.rows)
    totals = found.totals
    saved = []
    if totals.size_ratio:
        saved.append(f"Constants take {size(totals.size_bits)}, 1/{totals.size_ratio:.1f} of fp32")
    if totals.bit_operations_ratio:
        saved.append(f"bit operations are 1/{totals.bit_operations_ratio:.1f} of fp32's")
    note = "; ".join(saved) + "." if saved else ""
    blocks: list[Block] = []
    if any(row.sqnr_db is not None for row in found.rows):
        blocks.append(_noise(found.rows))
    blocks.append(Table("Number formats, node by node", columns, rows, note=note))
    lead = (
        f"Over {found.samples:,} samples. A signal-to-noise ratio falls where a format loses "
        "something; a dash means that nothing was lost, or that there is nothing to compare with."
    )
    return Section("numbers", "Numbers", lead, tuple(blocks))


def _row(row: NumbersRow, most: float) -> tuple[Cell, ...]:
    noise = row.sqnr_db
    share = None if noise is None else max(0.0, noise / most)
    weight = "\u2013" if row.weight_sqnr_db is None else f"{row.weight_sqnr_db:.1f}"
    return (
        Cell(row.node),
        Cell(row.operator),
        Cell(row.format),
        Cell(f"{row.low:,} \u2026 {row.high:,}", sort=row.high - row.low),
        Cell("\u2013" if noise is None else f"{noise:.1f}", share, noise),
        Cell(f"{row.differing:,}" if row.differing else "\u2013", sort=row.differing),
        Cell(row.requantiser or "\u2013"),
        Cell(row.weight or "\u2013"),
        Cell(weight, sort=row.weight_sqnr_db),
        Cell(size(row.size_bits) if row.size_bits else "\u2013", sort=row.size_bits),
    )


def _noise(rows: tuple[NumbersRow, ...]) -> Block:
    known = [(i, row) for i, row in enumerate(rows) if row.sqnr_db is not None]

    def marks(weights: bool) -> tuple[Mark, ...]:
        found = []
        for i, row in known:
            value = row.weight_sqnr_db if weights else row.sqnr_db
            if value is not None:
                what = row.weight if weights else row.format
                tip = (row.node, f"{what}", f"SQNR: {value:.1f} dB")
                found.append(Mark(float(i + 1), value, tip))
        return tuple(found)

    series = [Series("tensors", marks(False), 0, "both"), Series("weights", marks(True), 1, "open")]
    return chart(
        "Signal to noise along the network",
        lambda width: plot(
            "Signal-to-noise ratio of every node in dB",
            [s for s in series if s.marks],
            Axis("node, in the order of the data", low=1.0, high=float(len(rows)), whole=True),
            Axis("SQNR, dB", low=0.0),
            width=width,
            height=260,
        ),
        wide=1060,
    )


def sparsity(inputs: Inputs) -> Section | None:
    """Returns the zeros of weights and tensors; None where they were not counted."""
    report = inputs.report
    if report is None or report.numbers is None:
        return None
    rows = report.numbers.rows
    weights = [(r.node, (r.weight_zeros or 0) / r.weights, r.weights) for r in rows if r.weights]
    tensors = [(r.node, r.zeros / r.elements) for r in rows if r.zeros is not None and r.elements]
    if not weights and not tensors:
        return None
    lists = []
    if weights:
        bars = tuple(BarRow(n, s, f"{s:.1%} of {count:,}") for n, s, count in weights)
        lists.append(Bars("Weights that are zero", bars))
    if tensors:
        shown = tuple(BarRow(node, share, f"{share:.1%}") for node, share in tensors)
        lists.append(Bars("Integers of tensors that are zero", shown))
    lead = "Zeros among the integers, as they are in the ROMs and on the streams."
    return Section("sparsity", "Sparsity", lead, (Columns(tuple(lists)),))
