"""Lab 4, software: channel multipliers, by the pass and by a search.

    python examples/lab4_channels/run.py

Writes the tables and plots of README.md anew: about two minutes on two cores.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch

from chop import MaseGraph
from chop.config.load import load_config
from chop.models import JSC_Three_Linear_Layers
from chop.passes.graph.analysis import (
    add_common_metadata_analysis_pass,
    init_metadata_analysis_pass,
)
from chop.passes.graph.transforms import channel_multiplier_transform_pass
from chop.report.axes import Axis
from chop.report.charts import Line, Mark, Series, plot, standalone
from chop.report.markdown import markdown_table, update_page
from chop.search import search
from chop.search.result import StudyResult, TrialResult

LAB = Path(__file__).parent
FACTORS = ("channel_multiplier.fc1.channel_multiplier", "channel_multiplier.fc2.channel_multiplier")
BITS = "linear.weight_width"
WIDTH = 16


def by_the_pass() -> str:
    """Returns the shapes of 16-16-16-5 before the pass with (2, 4), and after."""
    torch.manual_seed(0)
    x = torch.randn(8, 16)
    graph = init_metadata_analysis_pass(MaseGraph(JSC_Three_Linear_Layers().eval()), None)
    graph = add_common_metadata_analysis_pass(graph, {"dummy_in": {"x": x}})
    pass_args = {
        "by": "name",
        "default": {"config": {"name": None}},
        "seq_blocks_2": {"config": {"name": "output_only", "channel_multiplier": 2}},
        "seq_blocks_4": {
            "config": {"name": "both", "channel_multiplier": 4, "channel_multiplier_in": 2}
        },
        "seq_blocks_6": {"config": {"name": "input_only", "channel_multiplier": 4}},
    }
    wider = channel_multiplier_transform_pass(graph, pass_args)
    assert wider.model(x).shape == (8, 5)
    rows = []
    before = dict(graph.model.named_modules())
    for name, module in wider.model.named_modules():
        old = before.get(name)
        if isinstance(module, torch.nn.Linear) and isinstance(old, torch.nn.Linear):
            shapes = [f"{m.in_features} to {m.out_features}" for m in (old, module)]
            counts = [sum(p.numel() for p in m.parameters()) for m in (old, module)]
            rows.append((name, *shapes, *counts))
    return markdown_table(("layer", "before", "after", "parameters before", "after"), rows)


def study(name: str) -> StudyResult:
    """Runs the study of one of the lab's files, in the working directory."""
    return search(load_config(LAB / name, [], None), restart=True)


def sizes(trial: TrialResult) -> tuple[int, int]:
    """Returns the hidden widths that a trial's factors mean."""
    first, second = (round(WIDTH * float(trial.parameters[name])) for name in FACTORS)
    return first, second


def tip(trial: TrialResult) -> tuple[str, ...]:
    """Returns what a point of a plot says."""
    first, second = sizes(trial)
    bits = f", weights of {trial.parameters[BITS]} bits" if BITS in trial.parameters else ""
    return (f"16-{first}-{second}-5{bits}",)


def point(trial: TrialResult) -> Mark:
    return Mark(trial.metrics["logic"], 100 * trial.metrics["accuracy"], tip(trial))


def grid(whole: StudyResult) -> str:
    """Returns accuracy and logic of every pair of widths, as a table."""
    found = {sizes(trial): trial for trial in whole.trials}
    firsts, seconds = ({pair[i] for pair in found} for i in (0, 1))
    rows = []
    for first in sorted(firsts):
        cells = []
        for second in sorted(seconds):
            metrics = found[first, second].metrics
            cells.append(f"{100 * metrics['accuracy']:.1f} %, {metrics['logic'] / 1000:.1f} k")
        rows.append((f"fc1 makes {first}", *cells))
    return markdown_table(("", *(f"fc2 makes {s}" for s in sorted(seconds))), rows)


def front(whole: StudyResult) -> str:
    """Returns accuracy against logic of every network, the front joined."""
    best = sorted((whole.trial(n) for n in whole.pareto), key=lambda t: t.metrics["logic"])
    others = [t for t in whole.trials if t.number not in whole.pareto]
    series = [
        Series("beaten by another", tuple(point(t) for t in others), 5, "open"),
        Series("the front", tuple(point(t) for t in best), 0, "both"),
    ]
    base = whole.baseline.metrics
    mark = Mark(base["logic"], 100 * base["accuracy"], ("16-16-16-5, as it is",))
    series.append(Series("16-16-16-5", (mark,), 1))
    return plot(
        "Accuracy against logic of all widths",
        series,
        Axis("logic: LUTs, with products at what they would take", log=True),
        Axis("accuracy", unit=" %"),
        height=400,
    )


def inner(whole: StudyResult) -> str:
    """Returns the accuracy after every epoch of three of the inner trainings."""
    shown = {(8, 8): 4, (16, 16): 1, (48, 48): 2}
    series = []
    for trial in whole.trials:
        if sizes(trial) in shown:
            marks = tuple(Mark(i + 1.0, 100 * v) for i, v in enumerate(trial.intermediate))
            name = "16-{}-{}-5".format(*sizes(trial))
            series.append(Series(name, marks, shown[sizes(trial)], "both"))
    axes = Axis("epoch of the inner training", whole=True), Axis("accuracy", unit=" %")
    return plot("Accuracy of the inner training", series, *axes)


def outer(found: StudyResult) -> str:
    """Returns accuracy against logic of every trial of the search, with its budget."""
    (bound,) = (c.bound for c in found.constraints)
    kept = [t for t in found.trials if t.feasible and t.number != found.best]
    series = [
        Series(
            "too much logic", tuple(point(t) for t in found.trials if not t.feasible), 5, "open"
        ),
        Series("within the budget", tuple(point(t) for t in kept), 2),
        Series("the best", tuple(point(t) for t in found.trials if t.number == found.best), 0),
    ]
    base = found.baseline.metrics
    series.append(Series("16-16-16-5 in 8 bits", (Mark(base["logic"], 100 * base["accuracy"]),), 1))
    return plot(
        "Accuracy against logic of every trial",
        series,
        Axis("logic", log=True),
        Axis("accuracy", unit=" %"),
        lines=[Line("budget", bound, "x")],
        height=400,
    )


def best_table(found: StudyResult) -> str:
    """Returns the network as it is beside the best of the search."""
    assert found.best is not None, "no network is within the budget"
    best, base = found.trial(found.best), found.baseline.metrics
    rows = []
    for name, bits, metrics in (
        ("16-16-16-5, as it is", 8, base),
        ("16-{}-{}-5, found".format(*sizes(best)), best.parameters[BITS], best.metrics),
    ):
        accuracy = f"{100 * metrics['accuracy']:.2f} %"
        numbers = (round(metrics["logic"]), round(metrics["interval"]), round(metrics["latency"]))
        rows.append((name, bits, accuracy, *numbers))
    head = ("network", "bits of weights", "accuracy", "logic", "interval", "latency")
    return markdown_table(head, rows)


def main() -> None:
    shapes = by_the_pass()
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        try:
            whole, found = study("widths.toml"), study("nas.toml")
        finally:
            os.chdir(here)
    for name, svg in {
        "front.svg": front(whole),
        "inner.svg": inner(whole),
        "nas.svg": outer(found),
    }.items():
        (LAB / name).write_text(standalone(svg), encoding="utf-8")
    regions = {"pass": shapes, "grid": grid(whole), "best": best_table(found)}
    update_page(LAB / "README.md", regions)


if __name__ == "__main__":
    main()
