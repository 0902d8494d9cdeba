"""What a worker does: takes a ticket, evaluates, tells, until all tickets are done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chop.config.search import SearchConfig
from chop.errors import ChopError, SimulationError, ToolError, VerifyError
from chop.search.constraints import violations
from chop.search.evaluate import Evaluator
from chop.search.result import ConstraintEntry, Setting
from chop.search.samplers import directions_of
from chop.search.space import Parameter
from chop.search.tickets import REASON, Claims, heartbeat

if TYPE_CHECKING:
    from optuna.trial import Trial

__all__ = ["DETAILS", "work"]

# The user attribute that holds all that a finished trial has to tell.
DETAILS = "details"
# Of a broken machine, not of a bad setting.
_OF_THE_MACHINE = (ToolError, SimulationError, VerifyError)


@dataclass(slots=True)
class _Work:
    claims: Claims
    evaluator: Evaluator
    search: SearchConfig
    constraints: Sequence[ConstraintEntry]

    def do(self, trial: Trial) -> None:
        """Evaluates one trial and tells its end."""
        from optuna import TrialPruned
        from optuna.trial import TrialState

        started = time.monotonic()
        settings = {p.name: p.choice(_drawn(trial, p)) for p in self.evaluator.space.parameters}
        details: dict[str, Any] = {"parameters": settings, "intermediate": []}
        study = self.claims.study
        try:
            details |= self._known(settings) or self._evaluated(trial, settings, details)
        except TrialPruned:
            trial.set_user_attr(DETAILS, {**details, "seconds": time.monotonic() - started})
            study.tell(trial.number, state=TrialState.PRUNED, skip_if_finished=True)
            return
        except ChopError as error:
            if isinstance(error, _OF_THE_MACHINE):
                raise
            trial.set_user_attr(DETAILS, {**details, "seconds": time.monotonic() - started})
            trial.set_user_attr(REASON, " ".join(str(error).split()))
            self.claims.fail(trial.number)
            return
        details.setdefault("seconds", time.monotonic() - started)
        self._tell(trial, details)

    def _known(self, settings: Mapping[str, Setting]) -> dict[str, Any] | None:
        """Returns the details of a trial of the same settings: the same would come of it again."""
        from optuna.trial import TrialState

        for trial in self.claims.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            found = trial.user_attrs.get(DETAILS)
            if found and found["parameters"] == settings:
                return {**found, "seconds": 0.0, "same_as": trial.number}
        return None

    def _evaluated(
        self, trial: Trial, settings: Mapping[str, Setting], details: dict[str, Any]
    ) -> dict[str, Any]:
        from optuna import TrialPruned

        signed = 1.0 if directions_of(self.search)[0] == "maximize" else -1.0

        def report(epoch: int, accuracy: float) -> None:
            details["intermediate"].append(accuracy)
            if self.search.pruner == "none":
                return
            # A pruner compares in the direction of the objective, whatever that is.
            trial.report(signed * accuracy, epoch)
            if trial.should_prune():
                raise TrialPruned

        found = self.evaluator.evaluate(settings, report)
        measured: Mapping[str, float] = {}
        if self.search.measure is not None and self.search.measure.when == "every":
            measured = self.evaluator.measure(found)
        return {"metrics": dict(found.metrics), "measured": dict(measured)}

    def _tell(self, trial: Trial, details: Mapping[str, Any]) -> None:
        metrics = {**details["metrics"], **details["measured"]}
        missed = violations(self.constraints, metrics)
        for entry, violation in zip(self.constraints, missed, strict=True):
            trial.set_constraint(entry.text, violation)
        trial.set_user_attr(DETAILS, dict(details))
        values = [metrics[name] for name in self.search.objectives]
        if self.search.strategy == "cmaes":
            # It knows no constraints: what misses them is worse than all that keeps them.
            values = [_penalised(self.search, values[0], sum(max(v, 0.0) for v in missed))]
        with suppress(ValueError):
            # It has ended meanwhile.
            self.claims.study.tell(trial.number, values, skip_if_finished=True)


def _penalised(search: SearchConfig, value: float, violation: float) -> float:
    if not violation:
        return value
    (direction,) = directions_of(search)
    worse = (abs(value) + 1.0) * (1.0 + 10.0 * violation)
    return value - worse if direction == "maximize" else value + worse


def _drawn(trial: Trial, parameter: Parameter) -> int | str:
    from optuna.distributions import CategoricalDistribution

    distribution = parameter.distribution()
    if isinstance(distribution, CategoricalDistribution):
        return str(trial.suggest_categorical(parameter.name, distribution.choices))
    return trial.suggest_int(parameter.name, 0, len(parameter.choices) - 1)


def work(
    claims: Claims,
    evaluator: Evaluator,
    search: SearchConfig,
    constraints: Sequence[ConstraintEntry],
    after: Callable[[], None],
) -> int:
    """Does trials until the study has all of them, and returns how many this worker did.

    Calls `after` behind each. A trial that something else than its settings ends (an interrupt, a
    tool that is missing) gives its ticket back, and the error goes on.
    """
    from optuna.exceptions import UpdateFinishedTrialError

    done = 0
    doing = _Work(claims, evaluator, search, constraints)
    while (taken := claims.take()) is not None:
        trial, _ = taken
        try:
            with heartbeat(trial, claims.beat_seconds):
                doing.do(trial)
        except UpdateFinishedTrialError:
            # Taken for dead meanwhile, or a retry that was handed to two: SQLite locks no row. The
            # one who ended it counts.
            continue
        except BaseException:
            claims.fail(trial.number)
            raise
        done += 1
        after()
    return done
