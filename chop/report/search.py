"""The section on a search: fronts, history, what each parameter does, and the best trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

from chop.report.axes import Axis, number
from chop.report.blocks import (
    BarRow,
    Bars,
    Block,
    Cell,
    Chart,
    Column,
    Columns,
    Figure,
    Figures,
    Note,
    Section,
    Table,
    chart,
)
from chop.report.charts import Line, Mark, Series, parallel, plot
from chop.report.inputs import Study, Trial

__all__ = ["importance", "search"]

# A front of more objectives is shown by the first pairs.
_MOST_PAIRS = 3
_MOST_ROWS = 24
# Objectives that are shares of samples.
_SHARES = ("accuracy",)


def search(study: Study | None) -> Section | None:
    """Returns what a study tried and found; None where there was none."""
    if study is None:
        return None
    done = [trial for trial in study.trials if trial.state == "complete" and trial.values]
    blocks: list[Block] = [*_verdict(study), _figures(study, done)]
    if done:
        pairs = list(combinations(range(len(study.objectives)), 2))[:_MOST_PAIRS]
        fronts = tuple(_front(study, done, a, b) for a, b in pairs) or (_single(study, done),)
        history = tuple(_history(study, done, i) for i in range(len(study.objectives))[:2])
        blocks.append(Columns((*fronts, *history)))
        shown = _coordinates(study, done)
        if shown:
            blocks.append(shown)
        shown = _trainings(study)
        if shown:
            blocks.append(shown)
        bars = _importances(study, done)
        if bars:
            blocks.append(Columns(bars))
        blocks.append(_table(study, done))
    names = " and ".join(
        f"{'highest' if direction == 'maximize' else 'lowest'} {name}"
        for name, direction in study.objectives
    )
    lead = f"{study.name}: {len(study.trials):,} trials for the {names}"
    bounds = [f"{c.text} ({c.sense} {_shown(c.metric, c.bound)})" for c in study.constraints]
    lead += f", with {'; '.join(bounds)}." if bounds else "."
    return Section("search", "Search", lead, tuple(blocks))


def _verdict(study: Study) -> list[Note]:
    if study.best is not None:
        return []
    text = "No trial kept every constraint."
    if study.nearest is not None:
        missed = _misses(study, study.trial(study.nearest))
        text += f" Trial {study.nearest} misses them least: {missed}."
    return [Note(text, "bad")]


def _misses(study: Study, trial: Trial) -> str:
    facts = []
    for bound in study.constraints:
        value = trial.measured.get(bound.metric, trial.metrics.get(bound.metric))
        if value is None or (value < bound.bound if bound.sense == ">=" else value > bound.bound):
            text = "unknown" if value is None else _shown(bound.metric, value)
            facts.append(f"{bound.metric} is {text}, wanted {bound.text}")
    return "; ".join(facts) or f"by {trial.violation:.3g}"


def _figures(study: Study, done: Sequence[Trial]) -> Figures:
    feasible = sum(trial.feasible for trial in study.trials)
    states = {
        s: sum(t.state == s for t in study.trials) for s in ("pruned", "refused", "unfinished")
    }
    others = ", ".join(f"{n:,} {state}" for state, n in states.items() if n)
    items = [
        Figure("Trials", f"{len(study.trials):,}", others or "all complete"),
        Figure("Feasible", f"{feasible:,}", f"of {len(done):,} complete"),
    ]
    if len(study.objectives) > 1:
        items.append(Figure("Front", f"{len(study.pareto):,}", "trials that none dominates"))
    if study.best is not None:
        best = study.trial(study.best)
        for (name, _), value in zip(study.objectives, best.values, strict=True):
            base = study.baseline.metrics.get(name, study.baseline.float_metrics.get(name))
            note = f"trial {study.best}" + (
                f"; baseline {_shown(name, base)}" if base is not None else ""
            )
            title = f"{name} of the best" if len(study.objectives) > 1 else f"Best {name}"
            items.append(Figure(title, _shown(name, value), note))
    for key in ("strategy", "seed"):
        if key in study.settings:
            items.append(Figure(key.capitalize(), str(study.settings[key])))
    return Figures(tuple(items))


def _front(study: Study, done: Sequence[Trial], a: int, b: int) -> Chart:
    """Returns a scatter of two objectives: what costs less across, what is won upwards."""
    if study.objectives[a][1] == "maximize" and study.objectives[b][1] == "minimize":
        a, b = b, a
    names = [name for name, _ in study.objectives]
    front = [t for t in done if t.number in study.pareto]
    others = [t for t in done if t.number not in study.pareto]

    def marks(trials: Sequence[Trial]) -> tuple[Mark, ...]:
        return tuple(
            Mark(_scaled(names[a], t.values[a]), _scaled(names[b], t.values[b]), _tip(study, t))
            for t in sorted(trials, key=lambda t: (t.values[a], t.values[b]))
        )

    kept = [t for t in others if t.feasible]
    series = [
        Series("infeasible", marks([t for t in others if not t.feasible]), 5, "open", True),
        Series("feasible", marks(kept), 5),
        Series("front", marks(front), 0, "both" if len(names) == 2 else "dots"),
    ]
    base = [study.baseline.metrics.get(names[i]) for i in (a, b)]
    if base[0] is not None and base[1] is not None:
        text = (
            "baseline",
            *(
                f"{names[i]}: {_shown(names[i], v)}"
                for i, v in zip((a, b), base, strict=True)
                if v is not None
            ),
        )
        mark = Mark(_scaled(names[a], base[0]), _scaled(names[b], base[1]), text)
        series.append(Series("baseline", (mark,), 1))
    lines = [
        Line(c.text, _scaled(c.metric, c.bound), axis)
        for c in study.constraints
        for axis, i in (("x", a), ("y", b))
        if c.metric == names[i]
    ]
    return chart(
        f"{names[b]} against {names[a]}",
        lambda width: plot(
            f"{names[b]} against {names[a]} of every trial",
            [s for s in series if s.marks],
            _axis(names[a]),
            _axis(names[b]),
            lines=lines,
            width=width,
        ),
    )


def _single(study: Study, done: Sequence[Trial]) -> Chart:
    """Returns a constraint's metric, or the accuracy, against the only objective."""
    (name, _), *_ = study.objectives
    known = [c.metric for c in study.constraints] + ["accuracy", "luts"]
    other = next((k for k in known if k != name and all(k in t.metrics for t in done)), None)
    if other is None:
        return _history(study, done, 0)
    metric = other

    def marks(trials: Sequence[Trial]) -> tuple[Mark, ...]:
        return tuple(
            Mark(_scaled(name, t.values[0]), _scaled(metric, t.metrics[metric]), _tip(study, t))
            for t in trials
        )

    best = [t for t in done if t.number == study.best]
    rest = [t for t in done if t.number != study.best]
    series = [
        Series("infeasible", marks([t for t in rest if not t.feasible]), 5, "open", True),
        Series("feasible", marks([t for t in rest if t.feasible]), 5),
        Series("best", marks(best), 0),
    ]
    lines = [
        Line(c.text, _scaled(metric, c.bound)) for c in study.constraints if c.metric == metric
    ]
    return chart(
        f"{metric} against {name}",
        lambda width: plot(
            f"{metric} against {name} of every trial",
            [s for s in series if s.marks],
            _axis(name),
            _axis(metric),
            lines=lines,
            width=width,
        ),
    )


def _history(study: Study, done: Sequence[Trial], index: int) -> Chart:
    """Returns one objective by trial, and the best feasible value so far."""
    name, direction = study.objectives[index]
    better: Callable[[float, float], float] = max if direction == "maximize" else min
    best: float | None = None
    line: list[Mark] = []
    kept: list[Mark] = []
    missed: list[Mark] = []
    for trial in sorted(done, key=lambda t: t.number):
        value = _scaled(name, trial.values[index])
        mark = Mark(float(trial.number), value, _tip(study, trial))
        (kept if trial.feasible else missed).append(mark)
        if trial.feasible:
            best = value if best is None else better(best, value)
            line.append(Mark(float(trial.number), best))
    series = [
        Series("infeasible", tuple(missed), 5, "open", True),
        Series("feasible", tuple(kept), 5),
        Series("best so far", _stairs(line), 0, "line"),
    ]
    return chart(
        f"{name}, trial by trial",
        lambda width: plot(
            f"{name} of every trial, and the best so far",
            [s for s in series if s.marks],
            Axis("trial", whole=True),
            _axis(name),
            width=width,
        ),
    )


def _stairs(marks: Sequence[Mark]) -> tuple[Mark, ...]:
    """Returns marks with a corner before every step."""
    found: list[Mark] = []
    for mark in marks:
        if found and found[-1].y != mark.y:
            found.append(Mark(mark.x, found[-1].y))
        found.append(mark)
    return tuple(found)


def _coordinates(study: Study, done: Sequence[Trial]) -> Chart | None:
    varied = [p for p in study.parameters if len(p.choices) > 1]
    if not varied or len(varied) + len(study.objectives) > 16:
        return None
    axes = [(Axis(p.name), tuple(_setting(choice) for choice in p.choices)) for p in varied] + [
        (_axis(name), ()) for name, _ in study.objectives
    ]
    threads = []
    for trial in done:
        places = []
        for parameter, (_, choices) in zip(varied, axes, strict=False):
            text = _setting(trial.parameters.get(parameter.name))
            places.append(float(choices.index(text)) if text in choices else float("nan"))
        places += [_scaled(n, v) for (n, _), v in zip(study.objectives, trial.values, strict=True)]
        best = trial.number in study.pareto
        colour = 0 if best else 5
        threads.append((tuple(places), _tip(study, trial), colour, best))
    return chart(
        "Every trial as a line through its parameters",
        lambda width: parallel(
            "Parallel coordinates of parameters and objectives",
            axes,
            threads,
            width=max(width, 58 * len(axes) + 60),
        ),
        "Blue: the front." if len(study.objectives) > 1 else "Blue: the best.",
        wide=1060,
    )


def _trainings(study: Study) -> Chart | None:
    """Returns the accuracy of every trial's own training, epoch by epoch; None without any."""
    trained = [t for t in study.trials if len(t.intermediate) > 1]
    if not trained:
        return None

    def curve(trial: Trial, colour: int, name: str = "") -> Series:
        marks = tuple(Mark(float(i + 1), 100 * v) for i, v in enumerate(trial.intermediate))
        return Series(name, marks, colour, "line", faint=colour == 5)

    best = [t for t in trained if t.number == study.best]
    series = [curve(t, 5) for t in trained if t.number != study.best]
    series += [curve(t, 0, f"trial {t.number}, the best") for t in best]
    return chart(
        "Training inside the trials",
        lambda width: plot(
            "Accuracy after every epoch of every trial",
            series,
            Axis("epoch", whole=True),
            Axis("accuracy", unit=" %"),
            width=width,
            height=280,
        ),
        "Blue: the best trial. Lines that end early were stopped.",
        wide=1060,
    )


def importance(study: Study, done: Sequence[Trial], index: int) -> list[tuple[str, float]]:
    """Returns for every parameter the share of an objective's variance that it explains, alone.

    The correlation ratio, eta squared: the variance of the means over the trials that share a
    value, over that of all trials. Many values with few trials each make it too large.
    """
    values = [trial.values[index] for trial in done]
    mean = sum(values) / len(values)
    whole = sum((v - mean) ** 2 for v in values)
    found = []
    for parameter in study.parameters:
        groups: dict[str, list[float]] = {}
        for trial, value in zip(done, values, strict=True):
            groups.setdefault(_setting(trial.parameters.get(parameter.name)), []).append(value)
        between = sum(len(g) * (sum(g) / len(g) - mean) ** 2 for g in groups.values())
        found.append((parameter.name, between / whole if whole else 0.0))
    return sorted(found, key=lambda entry: -entry[1])


def _importances(study: Study, done: Sequence[Trial]) -> tuple[Bars, ...]:
    if len(done) < 4 or not study.parameters:
        return ()
    lists = []
    for i, (name, _) in enumerate(study.objectives[:2]):
        rows = tuple(BarRow(p, min(1.0, s), f"{s:.0%}") for p, s in importance(study, done, i)[:12])
        note = "Share of the variance between the values of one parameter, the others ignored."
        lists.append(Bars(f"What moves {name}", rows, note))
    return tuple(lists)


def _table(study: Study, done: Sequence[Trial]) -> Table:
    chosen = [t for t in done if t.number in study.pareto or t.number == study.best]
    if not chosen:
        chosen = sorted(done, key=lambda t: t.violation)[:_MOST_ROWS]
    chosen = sorted(chosen, key=lambda t: t.values)[:_MOST_ROWS]
    measures = sorted({key for trial in chosen for key in trial.measured})
    parameters = [p.name for p in study.parameters if len(p.choices) > 1]
    columns = (
        Column("trial", True),
        *(Column(name, True) for name, _ in study.objectives),
        *(Column(name, True, "measured") for name in measures),
        *(Column(name) for name in parameters),
    )
    rows = tuple(
        (
            Cell(f"{t.number}{' (best)' if t.number == study.best else ''}", sort=t.number),
            *(
                Cell(_shown(n, v), sort=v)
                for (n, _), v in zip(study.objectives, t.values, strict=True)
            ),
            *(
                Cell(
                    _shown(n, t.measured[n]) if n in t.measured else "\u2013",
                    sort=t.measured.get(n),
                )
                for n in measures
            ),
            *(Cell(_setting(t.parameters.get(name))) for name in parameters),
        )
        for t in chosen
    )
    title = "The front" if len(study.objectives) > 1 else "The best trials"
    return Table(
        title if study.best is not None else "The trials nearest to feasible", columns, rows
    )


def _tip(study: Study, trial: Trial) -> tuple[str, ...]:
    values = zip(study.objectives, trial.values, strict=True)
    return (
        f"trial {trial.number}" + ("" if trial.feasible else " (infeasible)"),
        *(f"{name}: {_shown(name, value)}" for (name, _), value in values),
        *(
            f"{c.metric}: {_shown(c.metric, trial.metrics[c.metric])}"
            for c in study.constraints
            if c.metric in trial.metrics and all(c.metric != name for name, _ in study.objectives)
        ),
        *(f"{name} measured: {_shown(name, value)}" for name, value in trial.measured.items()),
        *(f"{name}: {_setting(value)}" for name, value in list(trial.parameters.items())[:14]),
    )


def _setting(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{k}={_setting(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return "\u00d7".join(_setting(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_share(name: str) -> bool:
    return any(word in name for word in _SHARES)


def _scaled(name: str, value: float) -> float:
    return 100 * value if _is_share(name) else value


def _shown(name: str, value: float) -> str:
    return f"{100 * value:.2f} %" if _is_share(name) else number(value)


def _axis(name: str) -> Axis:
    return Axis(name, unit=" %" if _is_share(name) else "")
