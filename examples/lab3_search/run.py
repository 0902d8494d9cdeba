"""Lab 3: a search for number formats under an accuracy bound, brute force against Bayesian.

    python examples/lab3_search/run.py

Writes the tables and plots of README.md anew: about two minutes on two cores.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from chop.config.load import load_config
from chop.report.axes import Axis
from chop.report.charts import Line, Mark, Series, plot, standalone
from chop.report.markdown import markdown_table, update_page
from chop.search import search
from chop.search.result import StudyResult, TrialResult

LAB = Path(__file__).parent
LAYERS = ("fc1", "fc2", "fc3")
SEEDS = (0, 1, 2, 3)
TRIALS = 40
NAMES = {"random": "random", "tpe": "Bayesian (TPE)"}


def study(strategy: str, seed: int = 0, trials: int | None = None) -> StudyResult:
    """Runs one study of search.toml in the working directory; the network is trained once."""
    overrides = [f'search.strategy="{strategy}"', f"search.seed={seed}"]
    if trials is not None:
        overrides.append(f"search.trials={trials}")
    return search(load_config(LAB / "search.toml", overrides, None), restart=True)


def best_so_far(result: StudyResult, start: float) -> list[float]:
    """Returns the least logic of a feasible trial after every trial; `start` before the first."""
    found, best = [], start
    for trial in sorted(result.trials, key=lambda t: t.number):
        if trial.feasible:
            best = min(best, trial.values[0])
        found.append(best)
    return found


def tip(trial: TrialResult) -> tuple[str, ...]:
    """Returns what a point of a plot says."""
    widths = ", ".join(str(value) for value in trial.parameters.values())
    return (f"trial {trial.number}", f"widths: {widths}")


def scatter(whole: StudyResult, bound: float) -> str:
    """Returns every point of the space: accuracy against logic."""

    def marks(trials: Sequence[TrialResult]) -> tuple[Mark, ...]:
        return tuple(Mark(t.values[0], 100 * t.metrics["accuracy"], tip(t)) for t in trials)

    base = whole.baseline.metrics
    best = [t for t in whole.trials if t.number == whole.best]
    series = [
        Series("too inaccurate", marks([t for t in whole.trials if not t.feasible]), 5, "open"),
        Series("kept", marks([t for t in whole.trials if t.feasible]), 2),
        Series("8 bits everywhere", (Mark(base["logic"], 100 * base["accuracy"]),), 1),
        Series("the best", marks(best), 0),
    ]
    return plot(
        "Accuracy against logic of every setting",
        series,
        Axis("logic: LUTs, with products at what they would take"),
        Axis("accuracy", unit=" %"),
        lines=[Line("float - 1 point", 100 * bound)],
        height=400,
    )


def histories(runs: dict[str, list[StudyResult]], start: float, optimum: float) -> str:
    """Returns the best so far by trial, the mean over the seeds."""
    series = []
    for colour, (strategy, results) in enumerate(runs.items()):
        lines = [best_so_far(result, start) for result in results]
        marks = tuple(
            Mark(i + 1.0, sum(line[i] for line in lines) / len(lines)) for i in range(TRIALS)
        )
        series.append(Series(NAMES[strategy], marks, colour, "line"))
    return plot(
        "Least logic so far, mean over the seeds",
        series,
        Axis("trial", whole=True),
        Axis("logic of the best so far"),
        lines=[Line("the true best, by brute force", optimum)],
    )


def effects(whole: StudyResult) -> str:
    """Returns the mean accuracy over all settings that share a layer's width of weights."""
    series = []
    for colour, layer in enumerate(LAYERS):
        name = f"{layer}.weight_width"
        (choices,) = (p.choices for p in whole.parameters if p.name == name)
        marks = []
        for width in choices:
            found = [t.metrics["accuracy"] for t in whole.trials if t.parameters[name] == width]
            marks.append(Mark(float(width), 100 * sum(found) / len(found)))
        series.append(Series(layer, tuple(marks), colour, "both"))
    axes = Axis("bits of the layer's weights", whole=True), Axis("mean accuracy", unit=" %")
    return plot("Mean accuracy by the width of a layer's weights", series, *axes)


def best_table(whole: StudyResult) -> str:
    """Returns the float network, 8 bits everywhere, and the best setting."""
    assert whole.best is not None, "nothing is within the bound"
    best, base = whole.trial(whole.best), whole.baseline
    widths = [best.parameters[f"{layer}.weight_width"] for layer in LAYERS]
    (data,) = (value for name, value in best.parameters.items() if "data_in" in name)
    float_accuracy = f"{100 * base.float_metrics['accuracy']:.2f} %"

    def row(name: str, bits: str, metrics: dict[str, float]) -> tuple[object, ...]:
        share = f"{100 * metrics['logic'] / base.metrics['logic']:.0f} %"
        accuracy = f"{100 * metrics['accuracy']:.2f} %"
        return (name, bits, accuracy, round(metrics["logic"]), share)

    return markdown_table(
        ("network", "weights (fc1, fc2, fc3), data", "accuracy", "logic", "of 8 bits"),
        [
            ("float", "32, 32, 32, 32", float_accuracy, "-", "-"),
            row("8 bits everywhere", "8, 8, 8, 8", dict(base.metrics)),
            row("the best", ", ".join(map(str, (*widths, data))), dict(best.metrics)),
        ],
    )


def strategy_table(runs: dict[str, list[StudyResult]], start: float, optimum: float) -> str:
    """Returns what every strategy had found after 10, 20 and all trials, and when it was near."""
    rows = []
    for strategy, results in runs.items():
        for seed, result in zip(SEEDS, results, strict=True):
            line = best_so_far(result, start)
            hits = [i + 1 for i, value in enumerate(line) if value <= 1.05 * optimum]
            after = [f"{line[n - 1] / optimum:.2f} x" for n in (10, 20, TRIALS)]
            rows.append((NAMES[strategy], seed, *after, hits[0] if hits else "-"))
    head = [f"after {n}" for n in (10, 20, TRIALS)]
    return markdown_table(("strategy", "seed", *head, "first trial within 5 %"), rows)


def main() -> None:
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        try:
            whole = study("brute_force")
            runs = {s: [study(s, seed, TRIALS) for seed in SEEDS] for s in NAMES}
        finally:
            os.chdir(here)
    assert whole.best is not None, "nothing is within the bound"
    optimum, start = whole.trial(whole.best).values[0], whole.baseline.metrics["logic"]
    (bound,) = (c.bound for c in whole.constraints)
    for name, svg in {
        "space.svg": scatter(whole, bound),
        "history.svg": histories(runs, start, optimum),
        "effects.svg": effects(whole),
    }.items():
        (LAB / name).write_text(standalone(svg), encoding="utf-8")
    kept = sum(trial.feasible for trial in whole.trials)
    facts = (
        f"{len(whole.trials)} settings in all; {kept} keep the bound of {100 * bound:.2f} %. "
        f"The best needs {optimum:,.0f} of logic."
    )
    update_page(
        LAB / "README.md",
        {
            "facts": facts,
            "best": best_table(whole),
            "strategies": strategy_table(runs, start, optimum),
        },
    )


if __name__ == "__main__":
    main()
