"""What a study found, as one value and as runs/<name>/search.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from chop.errors import DataError
from chop.ir.files import write_text

__all__ = [
    "RESULT_FILE",
    "Baseline",
    "ConstraintEntry",
    "ParameterEntry",
    "Setting",
    "StudyResult",
    "TrialResult",
    "load_result",
    "result_to_json",
    "write_result",
]

RESULT_FILE = "search.json"
_VERSION = 1

# What one parameter may be set to: as in TOML.
Setting = Any
State = Literal["complete", "pruned", "refused", "unfinished"]
Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True, slots=True)
class ConstraintEntry:
    """A constraint as written, and as the number that it came to: `metric` `sense` `bound`."""

    text: str
    metric: str
    sense: Literal["<=", ">="]
    bound: float


@dataclass(frozen=True, slots=True)
class ParameterEntry:
    """One dimension of the space: its name and its choices, in order."""

    name: str
    choices: tuple[Setting, ...]


@dataclass(frozen=True, slots=True)
class TrialResult:
    """One trial.

    Attributes:
        number: 0 .. trials - 1, each once.
        state: "complete"; "pruned" (stopped early); "refused" (a pass or the schedule said no,
            `user["reason"]` says why); "unfinished".
        values: of the objectives, in their order; empty unless complete.
        feasible: whether it is complete and keeps every constraint.
        violation: how far constraints are missed, each relative to its bound, summed; 0 if kept.
        parameters: what the space was set to, by name.
        metrics: everything that was predicted or evaluated, by name.
        measured: what tools measured (Yosys, nextpnr, RTL simulation); empty where not asked for.
        intermediate: accuracy after each epoch, where the trial trained.
        seconds: of evaluation; measuring not included.
        user: "reason", "worker", "origin" (of a trial that was given), where known.
    """

    number: int
    state: State
    values: tuple[float, ...] = ()
    feasible: bool = False
    violation: float = 0.0
    parameters: Mapping[str, Setting] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)
    intermediate: tuple[float, ...] = ()
    seconds: float = 0.0
    user: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Baseline:
    """What trials are compared with.

    Attributes:
        float_metrics: accuracy and loss of the float network.
        metrics: of the configuration as written, without the space; empty where it is refused.
        measured: the same by tools, where the study measures.
    """

    float_metrics: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StudyResult:
    """A whole study.

    Attributes:
        objectives: (metric, direction) pairs.
        trials: by number.
        best: the number of the best feasible trial: by the only objective, or, of several, the one
            of the front that is nearest to the best value of each (all scaled to the front's
            range); None in an infeasible study.
        pareto: the numbers of the feasible trials that no other one dominates, best first
            objective first; with one objective, those of the best value.
        nearest: the trial that misses the constraints least; None unless the study is infeasible.
        settings: strategy, seed, trials, workers, training, target: what the study was told.
    """

    name: str
    objectives: tuple[tuple[str, Direction], ...]
    constraints: tuple[ConstraintEntry, ...]
    parameters: tuple[ParameterEntry, ...]
    trials: tuple[TrialResult, ...]
    best: int | None
    pareto: tuple[int, ...]
    nearest: int | None
    baseline: Baseline
    settings: Mapping[str, Setting]
    seconds: float = 0.0
    version: int = _VERSION

    def trial(self, number: int) -> TrialResult:
        """Returns the trial of that number. Raises KeyError where there is none."""
        for trial in self.trials:
            if trial.number == number:
                return trial
        raise KeyError(number)


def result_to_json(result: StudyResult) -> str:
    """Returns the text of search.json: the dataclasses' fields as they are."""
    return json.dumps(asdict(result), indent=1) + "\n"


def write_result(result: StudyResult, path: Path) -> None:
    """Writes search.json in one piece."""
    write_text(path, result_to_json(result))


def load_result(path: Path) -> StudyResult:
    """Returns the study of a search.json. Raises DataError where it is missing or malformed."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"no study in '{path}': {error}; make one with 'chop search'") from error
    if not isinstance(table, dict) or table.get("version") != _VERSION:
        raise DataError(f"'{path}' is not a study of version {_VERSION}; run 'chop search' again")
    try:
        return StudyResult(
            **{
                **table,
                "objectives": tuple((m, d) for m, d in table["objectives"]),
                "constraints": tuple(ConstraintEntry(**c) for c in table["constraints"]),
                "parameters": tuple(
                    ParameterEntry(p["name"], tuple(p["choices"])) for p in table["parameters"]
                ),
                "trials": tuple(_trial(entry) for entry in table["trials"]),
                "pareto": tuple(table["pareto"]),
                "baseline": Baseline(**table["baseline"]),
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"'{path}' is malformed: {error}; run 'chop search' again") from error


def _trial(entry: Mapping[str, Any]) -> TrialResult:
    lists = {key: tuple(entry[key]) for key in ("values", "intermediate")}
    return TrialResult(**{**entry, **lists})
