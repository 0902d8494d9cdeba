"""A study's trials as a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chop.config.search import SearchConfig
from chop.search.constraints import violations
from chop.search.pareto import best_of, front_of, nearest_of
from chop.search.result import Baseline, ConstraintEntry, StudyResult, TrialResult
from chop.search.samplers import directions_of
from chop.search.space import Space
from chop.search.tickets import REASON, WORKER, Ledger
from chop.search.worker import DETAILS

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = ["collect", "with_measured"]


def collect(
    name: str,
    search: SearchConfig,
    space: Space,
    constraints: Sequence[ConstraintEntry],
    baseline: Baseline,
    trials: Sequence[FrozenTrial],
    total: int,
    seconds: float,
) -> StudyResult:
    """Returns the result of a study, whether or not all of its trials are done."""
    ledger = Ledger.of(trials)
    found = tuple(
        _trial(ticket, ledger, search, constraints)
        for ticket in range(total)
        if ticket in ledger.holders
    )
    directions = directions_of(search)
    front = front_of(found, directions)
    best = best_of(front, directions)
    nearest = None if best is not None else nearest_of(found)
    return StudyResult(
        name=name,
        objectives=tuple(zip(search.objectives, directions, strict=True)),
        constraints=tuple(constraints),
        parameters=space.entries(),
        trials=found,
        best=None if best is None else best.number,
        pareto=tuple(trial.number for trial in front),
        nearest=None if nearest is None else nearest.number,
        baseline=baseline,
        settings={
            "strategy": search.strategy,
            "trials": total,
            "space": str(space.size),
            "seed": search.seed,
            "workers": search.workers,
            "pruner": search.pruner,
            "train": search.train,
            "epochs": search.epochs,
            "data": search.data,
            "samples": search.samples,
            "measure": None if search.measure is None else search.measure.when,
            "target": None if search.measure is None else search.measure.target,
        },
        seconds=seconds,
    )


def _trial(
    ticket: int, ledger: Ledger, search: SearchConfig, constraints: Sequence[ConstraintEntry]
) -> TrialResult:
    trial = ledger.done(ticket)
    if trial is None:
        return TrialResult(ticket, "unfinished")
    details: Mapping[str, Any] = trial.user_attrs.get(DETAILS, {})
    user = {"worker": _worker(trial)}
    if "origin" in trial.user_attrs:
        user["origin"] = str(trial.user_attrs["origin"])
    common = {
        "parameters": details.get("parameters", {}),
        "intermediate": tuple(details.get("intermediate", ())),
        "seconds": float(details.get("seconds", 0.0)),
    }
    if trial.state.name == "PRUNED":
        return TrialResult(ticket, "pruned", user=user, **common)
    if REASON in trial.user_attrs:
        reason = {"reason": str(trial.user_attrs[REASON])}
        return TrialResult(ticket, "refused", user={**user, **reason}, **common)
    metrics, measured = details["metrics"], details["measured"]
    missed = sum(max(v, 0.0) for v in violations(constraints, {**metrics, **measured}))
    return TrialResult(
        ticket,
        "complete",
        values=tuple({**metrics, **measured}[name] for name in search.objectives),
        feasible=missed == 0.0,
        violation=missed,
        metrics=metrics,
        measured=measured,
        user=user,
        **common,
    )


def _worker(trial: FrozenTrial) -> str:
    worker = trial.user_attrs.get(WORKER)
    if not isinstance(worker, dict):
        return ""
    return f"{str(worker['host']).split()[0]}:{worker['pid']}"


def with_measured(found: StudyResult, measured: Mapping[str, Mapping[str, float]]) -> StudyResult:
    """Returns the result with what tools measured, by trial number or "baseline"."""
    trials = tuple(
        replace(t, measured=measured[str(t.number)]) if str(t.number) in measured else t
        for t in found.trials
    )
    own = measured.get("baseline", found.baseline.measured)
    return replace(found, trials=trials, baseline=replace(found.baseline, measured=own))
