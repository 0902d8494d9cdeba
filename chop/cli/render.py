"""Values as tables on standard output: readable at 80 columns, and in a pipe."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from chop.flows.report import Accuracy, JobReport, SimulationSummary
    from chop.ir.manifest import LayerEntry, Manifest
    from chop.synth.layers import LayerCost
    from chop.synth.synthesize import SynthesisReport

__all__ = [
    "print_accuracy",
    "print_layer_costs",
    "print_numbers",
    "print_report",
    "print_simulations",
    "print_summary",
    "print_synthesis",
    "print_table",
]

# A pipe has no width; this is that of a page.
_PIPE_COLUMNS = 100
# Fewer than this, and the table of layers leaves out what can be missed.
_WIDE_COLUMNS = 96
_LAYER_COLUMNS = (
    *("node", "op", "in", "out", "lanes"),
    *("cycles", "MACs", "LUT", "FF", "DSP", "BRAM"),
)


def print_table(
    title: str,
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    right: Sequence[str] = (),
) -> None:
    """Prints one table; the columns named in `right` are aligned to the right."""
    table = _table(title, show_header=True)
    for header in headers:
        justify: Literal["left", "right"] = "right" if header in right else "left"
        table.add_column(header, justify=justify, overflow="fold")
    _print(table, rows)


def print_report(report: JobReport) -> None:
    """Prints what each layer takes and what the whole design does."""
    # A layer's input is most often the output of the one before.
    left_out = () if _columns() >= _WIDE_COLUMNS else ("in",)
    print_table(
        f"{report.name}: layers (LUT, FF, DSP, BRAM estimated)",
        [header for header in _LAYER_COLUMNS if header not in left_out],
        [
            [cell for header, cell in _layer_cells(layer).items() if header not in left_out]
            for layer in report.layers
        ],
        right=_LAYER_COLUMNS[_LAYER_COLUMNS.index("lanes") :],
    )
    print_numbers(report.name, report.numbers)
    rows = [
        ("emitted", report.directory),
        ("page", f"runs/{report.name}/report.html"),
        ("multipliers", f"{report.multipliers:,}"),
    ]
    if report.accuracy is not None:
        rows += _accuracy_rows(report.accuracy)
    rows += _simulation_rows(report.simulations, report)
    if report.synthesis is not None:
        rows += _synthesis_rows(report.synthesis)
    print_summary(report.name, rows)


def print_numbers(name: str, numbers: Mapping[str, Any]) -> None:
    """Prints what the number formats do to the values, node by node, and what they save."""
    headers = ("node", "format", "range", "SQNR dB", "off", "by", "requantiser", "weights", "w dB")

    def decibel(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f}"

    rows = [
        (
            row["node"],
            row["format"],
            f"{row['low']}..{row['high']}",
            decibel(row["sqnr_db"]),
            f"{row['differing']:,}",
            f"{row['largest_difference']}",
            row["requantiser"] or "-",
            row["weight"] or "-",
            decibel(row["weight_sqnr_db"]),
        )
        for row in numbers["rows"]
    ]
    totals = numbers["totals"]
    samples = f"{numbers['samples']:,} samples"
    title = f"{name}: numbers ({samples}; off: float32 fake network against integers, by steps)"
    print_table(title, headers, rows, right=("range", "SQNR dB", "off", "by", "w dB"))
    saved = [("constants", f"{totals['size_bits'] / 8192:,.1f} KiB")]
    if totals["size_ratio"]:
        saved.append(("of fp32's size", f"1 / {totals['size_ratio']:.1f}"))
    if totals["bit_operations_ratio"]:
        saved.append(("of fp32's bit operations", f"1 / {totals['bit_operations_ratio']:.1f}"))
    print_summary(f"{name}: size", saved)


def print_accuracy(name: str, accuracy: Accuracy) -> None:
    """Prints the accuracies of the float model and of the integer reference."""
    print_summary(name, _accuracy_rows(accuracy))


def print_simulations(manifest: Manifest, runs: Sequence[SimulationSummary]) -> None:
    """Prints what the runs of one design measured."""
    print_summary(manifest.name, _simulation_rows(runs, manifest))


def print_layer_costs(name: str, rows: Sequence[LayerCost]) -> None:
    """Prints what each instance takes after synthesis, and what the compiler expected."""
    resources = ("luts", "ffs", "dsps", "brams")
    headers = ("instance", "op", "LUT", "est.", "FF", "est.", "DSP", "est.", "BRAM", "est.")
    table = []
    for row in rows:
        cells = [row.instance or "(top)", row.operator or "-"]
        for resource in resources:
            estimate = "-" if row.estimate is None else f"{getattr(row.estimate, resource):,}"
            cells += [f"{getattr(row.measured, resource):,}", estimate]
        table.append(cells)
    title = f"{name}: Yosys beside the compiler's estimate, layer by layer"
    print_table(title, headers, table, headers[2:])


def print_synthesis(name: str, report: SynthesisReport) -> None:
    """Prints what the design takes on its target."""
    print_summary(name, _synthesis_rows(report))


class _Predictions(Protocol):
    """What a report and a manifest both say about timing."""

    @property
    def ideal_initiation_interval(self) -> int: ...
    @property
    def predicted_initiation_interval(self) -> int: ...
    @property
    def predicted_latency_cycles(self) -> int: ...


def _layer_cells(layer: LayerEntry) -> dict[str, str]:
    def shape(sizes: tuple[int, ...]) -> str:
        return "x".join(map(str, sizes))

    cells = (
        layer.node,
        layer.operator,
        f"{shape(layer.in_shape)} {layer.in_format}",
        f"{shape(layer.out_shape)} {layer.out_format}",
        f"{layer.in_lanes}x{layer.out_lanes}",
        *(
            f"{value:,}"
            for value in (
                layer.cycles,
                layer.macs,
                layer.luts,
                layer.ffs,
                layer.dsps,
                layer.brams,
            )
        ),
    )
    return dict(zip(_LAYER_COLUMNS, cells, strict=True))


def _accuracy_rows(accuracy: Accuracy) -> list[tuple[str, str]]:
    points = 100 * (accuracy.integer_accuracy - accuracy.float_accuracy)
    return [
        ("samples", f"{accuracy.samples:,}"),
        ("float accuracy", f"{100 * accuracy.float_accuracy:.2f} %"),
        ("integer accuracy", f"{100 * accuracy.integer_accuracy:.2f} % ({points:+.2f} points)"),
    ]


def _simulation_rows(
    runs: Sequence[SimulationSummary], predicted: _Predictions
) -> list[tuple[str, str]]:
    rows, speeds = [], []
    for run in runs:
        stalls = f"stalls {run.stall_probability:g}" if run.stall_probability else "no stalls"
        found = "standing still" if run.deadlock else f"{run.mismatches:,} mismatches"
        outcome = f"{found} in {run.elements:,} outputs, {run.cycles:,} cycles"
        rows.append((f"RTL, {stalls}", outcome))
        speeds.append(f"{run.cycles / run.seconds:,.0f} cycles/s")
    free = [run for run in runs if not run.stall_probability]
    measured = f"{free[0].initiation_interval:g}" if free else "-"
    latency = f"{free[0].latency_cycles:,}" if free else "-"
    rows += [
        ("simulation speed", ", ".join(speeds)),
        (
            "interval (cycles)",
            f"ideal {predicted.ideal_initiation_interval:,}, "
            f"predicted {predicted.predicted_initiation_interval:,}, measured {measured}",
        ),
        (
            "first output (cycles)",
            f"predicted {predicted.predicted_latency_cycles:,}, measured {latency}",
        ),
    ]
    return rows


def _synthesis_rows(report: SynthesisReport) -> list[tuple[str, str]]:
    fmax = "-" if report.fmax_mhz is None else f"{report.fmax_mhz:.1f} MHz"
    counts = f"{report.luts:,} LUT, {report.ffs:,} FF, {report.dsps:,} DSP, {report.brams:,} BRAM"
    rows = [(report.target, counts), ("Fmax", f"{fmax} ({report.fmax_note})")]
    if not report.fits:
        over = [f"{share:.0%} of the {n}" for n, share in report.utilisation.items() if share > 1]
        rows.append(("does not fit", f"{report.device}: {', '.join(over)}"))
    return rows


def print_summary(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """Prints facts, one a line."""
    _print(_table(title, show_header=False), rows)


def _columns() -> int:
    # Where there is no terminal, rich would take 80 columns, too few for the table of layers.
    return shutil.get_terminal_size((_PIPE_COLUMNS, 24)).columns


def _table(title: str, show_header: bool) -> Table:
    return Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_header=show_header,
    )


def _print(table: Table, rows: Iterable[Sequence[str]]) -> None:
    for row in rows:
        table.add_row(*row)
    console = Console(width=_columns(), markup=False, highlight=False, emoji=False)
    with console.capture() as captured:
        console.print(table)
    # rich fills every line up with blanks; a pipe or a log has no use for them.
    lines = [line.rstrip() for line in captured.get().splitlines()]
    print("\n".join(line for line in lines if line), end="\n\n")
