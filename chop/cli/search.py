"""`chop search`: the study of a configuration, as a bar with the best so far, then as tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from chop.cli.options import ConfigFile, Json, ModelSource, Overrides, read_config
from chop.cli.progress import make_progress
from chop.errors import ConfigError

if TYPE_CHECKING:
    from chop.search.result import StudyResult, TrialResult
    from chop.search.session import Standing, Watch

__all__ = ["search"]

# Of the front; all of it is in search.json.
_MOST_ROWS = 12
Count = Annotated[int | None, typer.Option(min=1)]


def search(
    config: ConfigFile = None,
    overrides: Overrides = None,
    model: ModelSource = None,
    trials: Annotated[
        int | None, typer.Option("--trials", "-n", min=1, help="How many, in all.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", min=1, help="Processes of this machine.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage", help="A URL (sqlite, postgresql, mysql), 'journal', or a journal's path."
        ),
    ] = None,
    worker: Annotated[
        bool, typer.Option("--worker", help="Work on the study until it is done; print nothing.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Delete the study and begin again.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Search the space of [search] for the best settings.

    Writes runs/<name>/search.json, best.toml and pareto/*.toml; 'chop transform' takes each.
    """
    if resume and restart:
        raise ConfigError("search: --resume goes on and --restart begins again; use one of them")
    if worker and (restart or workers is not None):
        raise ConfigError("search: --worker is one process; leave --restart and --workers out")
    given = {"search.trials": trials, "search.workers": workers, "search.storage": storage}
    own = [f"{k}={_toml(v)}" for k, v in given.items() if v is not None]
    job = read_config(config, [*(overrides or []), *own], model)
    if job.search is None:
        raise ConfigError(
            f"job '{job.name}': a search needs a [search] table; see configs/search_digits.toml"
        )
    from chop.search.study import join_search
    from chop.search.study import search as run_search

    progress = make_progress(as_json or worker)
    if worker:
        join_search(job, progress)
        return
    with _bar(not as_json) as watch:
        found = run_search(job, resume=resume, restart=restart, progress=progress, watch=watch)
    if as_json:
        from chop.search.result import result_to_json

        print(result_to_json(found), end="")
        return
    _print(found)


def _toml(value: int | str) -> str:
    import json

    return json.dumps(value)


@contextmanager
def _bar(shown: bool) -> Iterator[Watch]:
    """Yields a watch that draws a bar where a person looks on."""
    if not (shown and sys.stderr.isatty()):
        yield lambda standing: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("search"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    # Drawn from the first trial on: before it, the flow shows tasks of its own.
    bars = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bars.add_task("")

    def watch(standing: Standing) -> None:
        if not bars.live.is_started:
            bars.start()
        words = f"best: {standing.best}" if standing.best else ""
        bars.update(task, completed=standing.done, total=standing.total, description=words)
        if standing.done == standing.total:
            bars.stop()

    try:
        yield watch
    finally:
        bars.stop()


def _print(found: StudyResult) -> None:
    from chop.cli.render import print_summary, print_table
    from chop.flows.places import run_directory
    from chop.search.metrics import shown

    metrics = list(
        dict.fromkeys(
            [name for name, _ in found.objectives] + [c.metric for c in found.constraints]
        )
    )
    measured = [name for name in _measured(found) if name not in metrics]
    chosen = [found.trial(n) for n in found.pareto][:_MOST_ROWS]
    if found.nearest is not None:
        chosen = [found.trial(found.nearest)]
    title = "best trials" if found.nearest is None else "nearest trial"
    rows = [(_label(t, found), *_cells(t, (*metrics, *measured))) for t in chosen]
    base = {**found.baseline.metrics, **found.baseline.measured}
    if base:
        cells = [shown(n, base[n]) if n in base else "-" for n in (*metrics, *measured)]
        rows.append(("as configured", *cells))
    print_table(title, ("trial", *metrics, *measured), rows, (*metrics, *measured))
    number = found.best if found.best is not None else found.nearest
    if number is not None:
        settings = found.trial(number).parameters
        print_summary(f"trial {number}", [(k, f"{v}") for k, v in settings.items()])
    states = [t.state for t in found.trials]
    counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
    directory = run_directory(found.name)
    facts = [
        ("trials", f"{counts}; {found.settings['strategy']}, {found.seconds:.1f} s"),
        *(
            ("constraint", f"{c.text}: {c.sense} {shown(c.metric, c.bound)}")
            for c in found.constraints
        ),
        ("written", f"{directory}/search.json"),
    ]
    if found.best is not None:
        facts.append(("to build it", f"chop transform --config {directory}/best.toml"))
    else:
        facts.append(("infeasible", _infeasible(found)))
    print_summary(found.name, facts)


def _infeasible(found: StudyResult) -> str:
    from chop.search.metrics import shown

    if found.nearest is None:
        reasons = [t.user["reason"] for t in found.trials if "reason" in t.user]
        return f"no trial is complete{': ' + reasons[0] if reasons else ''}"
    trial = found.trial(found.nearest)
    values = {**trial.metrics, **trial.measured}
    missed = [
        f"{c.text} (it has {shown(c.metric, values[c.metric])})"
        for c in found.constraints
        if (values[c.metric] > c.bound if c.sense == "<=" else values[c.metric] < c.bound)
    ]
    return f"no trial keeps every constraint; trial {trial.number} misses {', '.join(missed)}"


def _measured(found: StudyResult) -> list[str]:
    names = [name for t in found.trials for name in t.measured]
    return list(dict.fromkeys([*names, *found.baseline.measured]))


def _label(trial: TrialResult, found: StudyResult) -> str:
    return f"{trial.number}{' (best)' if trial.number == found.best else ''}"


def _cells(trial: TrialResult, names: tuple[str, ...]) -> list[str]:
    from chop.search.metrics import shown

    values = {**trial.metrics, **trial.measured}
    return [shown(name, values[name]) if name in values else "-" for name in names]
