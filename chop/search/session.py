"""One process's part in a study: it sets it up or finds it, works on it, collects it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chop.config.schema import Config
from chop.config.search import SearchConfig
from chop.errors import ChopError, ConfigError, ToolError
from chop.flows.job import load_job
from chop.flows.places import run_directory
from chop.flows.prepare import prepare_job
from chop.flows.progress import Progress
from chop.flows.reshape import trained_first
from chop.flows.weights import restore_weights
from chop.models.create import create_model
from chop.search.collect import collect, with_measured
from chop.search.constraints import Constraint, entry_of, parse_constraint
from chop.search.evaluate import Evaluator, search_table
from chop.search.files import write_config
from chop.search.local import run_workers
from chop.search.measure import check_measure
from chop.search.metrics import find_metric, shown
from chop.search.result import (
    RESULT_FILE,
    Baseline,
    ConstraintEntry,
    StudyResult,
    write_result,
)
from chop.search.samplers import check_strategy, make_pruner, make_sampler, total_trials
from chop.search.storage import open_storage, storage_url
from chop.search.tickets import Claims
from chop.search.worker import work

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from torch import nn

__all__ = ["Session", "Standing", "Watch"]

# Keys of the study's user attributes.
_FINGERPRINT, _BASELINE, _MEASURED = "configuration", "baseline", "measured"
_SETUP_SECONDS = 900.0
# What may differ between the runs of one study: how much, by whom, and what is measured in the end.
_FREE = ("trials", "workers", "storage", "heartbeat_seconds", "measure")


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a study is: trials that are done, of all, and the best so far in words."""

    done: int
    total: int
    best: str


Watch = Callable[[Standing], None]


class Session:
    """One process's part in a study."""

    def __init__(self, config: Config, progress: Progress) -> None:
        import torch

        self.config, self.search = config, search_table(config)
        self._progress = progress
        self._constraints = _parsed(self.search, f"job '{config.name}'")
        job = load_job(config, progress)
        if self.search.measure is not None:
            check_measure(self.search.measure, job.labels is not None)
        if job.labels is None:
            _refuse_labels(self.search, self._constraints)
        if config.train is not None:
            with _locked(run_directory(config.name)):
                if not restore_weights(job):
                    # What does not fit is told before hours of training.
                    untrained = Evaluator(job, self._initial())
                    self._check_space(untrained)
                    untrained.check()
                    job = prepare_job(config, progress)
        # Small networks and many trials: threads would only wait for each other.
        torch.set_num_threads(1)
        self.evaluator = Evaluator(job, self._initial())
        self.space = self.evaluator.space
        self._check_space(self.evaluator)
        self.total = total_trials(self.search, self.space)
        self._baseline = Baseline()
        self._entries: tuple[ConstraintEntry, ...] = ()
        self._opened: tuple[BaseStorage, Study] | None = None

    def _initial(self) -> nn.Module | None:
        """Returns the untrained model, where every trial trains it from the start."""
        if self.search.train != "full" or self.config.model is None:
            return None
        return create_model(self.config.model, self.config.seed)

    def _check_space(self, evaluator: Evaluator) -> None:
        check_strategy(self.search, evaluator.space)
        for given in self.search.warm_start:
            evaluator.space.matching(given)

    def set_up(self, resume: bool, restart: bool) -> None:
        """Makes the study, or finds the one that is there."""
        import optuna

        warm = [self.space.matching(given) for given in self.search.warm_start]
        storage = open_storage(self.search, self.config.name)
        name = self.config.name
        if restart:
            with contextlib.suppress(KeyError):
                optuna.delete_study(study_name=name, storage=storage)
        options: dict[str, Any] = {
            "study_name": name,
            "storage": storage,
            "sampler": make_sampler(self.search, self.space),
            "pruner": make_pruner(self.search, self.search.epochs or self._epochs()),
        }
        directions = [find_metric(n, "search.objectives").direction for n in self.search.objectives]
        try:
            study = optuna.create_study(directions=directions, **options)
        except optuna.exceptions.DuplicatedStudyError:
            self._find(optuna.load_study(**options), resume)
        else:
            self._opened = (storage, study)
            self._make(study, warm)
            return
        self._opened = (storage, optuna.load_study(**options))

    def _make(self, study: Study, warm: list[dict[str, Any]]) -> None:
        try:
            with self._progress.task("try every choice once"):
                self.evaluator.check()
            with self._progress.task("evaluate the configuration as it is"):
                self._baseline = self._evaluate_baseline()
            self._resolve()
        except BaseException:
            import optuna

            # A study that cannot begin is none.
            optuna.delete_study(study_name=study.study_name, storage=self._storage)
            raise
        parameters = {p.name: p for p in self.space.parameters}
        for settings in warm:
            stored = {name: parameters[name].stored(value) for name, value in settings.items()}
            study.enqueue_trial(stored, user_attrs={"origin": "warm start"})
        study.set_user_attr(_FINGERPRINT, _fingerprint(self.config))
        # Last: those who wait for it find all the rest.
        study.set_user_attr(_BASELINE, asdict(self._baseline))

    def _find(self, study: Study, resume: bool) -> None:
        name, url = self.config.name, storage_url(self.search, self.config.name)
        if not resume:
            raise ConfigError(
                f"job '{name}': there is a study of that name in '{_place(url)}'; go on with it by "
                "--resume, delete it by --restart, or choose another name"
            )
        until = time.monotonic() + _SETUP_SECONDS
        while _BASELINE not in study.user_attrs:
            if time.monotonic() > until:
                raise ConfigError(
                    f"job '{name}': the study in '{_place(url)}' was never set up; delete it by "
                    "--restart"
                )
            time.sleep(0.2)
        if study.user_attrs[_FINGERPRINT] != _fingerprint(self.config):
            raise ConfigError(
                f"job '{name}': the study in '{_place(url)}' is of another configuration: only "
                f"{', '.join(_FREE)} may change; delete it by --restart, or choose another name"
            )
        self._baseline = Baseline(**study.user_attrs[_BASELINE])
        self._resolve()

    @property
    def _storage(self) -> BaseStorage:
        assert self._opened is not None, "set up first"
        return self._opened[0]

    @property
    def study(self) -> Study:
        """The study, once it is set up."""
        assert self._opened is not None, "set up first"
        return self._opened[1]

    def claims(self) -> Claims:
        """Returns this process's view of the tickets."""
        return Claims(self.study, self._storage, self.total, self.search.heartbeat_seconds)

    def work(self, watch: Watch) -> int:
        """Does trials until all are done, and returns how many."""
        watch(self.standing())
        return work(
            self.claims(),
            self.evaluator,
            self.search,
            self._entries,
            lambda: watch(self.standing()),
        )

    def run_locally(self, watch: Watch) -> None:
        """Has processes of this machine do the trials, and watches them."""
        path = run_directory(self.config.name) / "search.toml"
        write_config(self.config, path, "The study that is being worked on here.")
        run_workers(path, self.search.workers, self.standing, watch)

    def standing(self) -> Standing:
        """Returns how far the study is."""
        found = self._collect(0.0)
        done = sum(t.state != "unfinished" for t in found.trials)
        return Standing(done, self.total, _in_words(found))

    def measure_front(self) -> None:
        """Has tools measure the front, and the configuration itself, where the search says so.

        What was measured is kept with the study.
        """
        table = self.search.measure
        if table is None or table.when != "front":
            return
        found = self._collect(0.0)
        chosen = [found.trial(number) for number in _along(found, table.most)]
        key = json.dumps(table.model_dump(mode="json"), sort_keys=True)
        kept: dict[str, Any] = self.study.user_attrs.get(_MEASURED, {})
        values: dict[str, dict[str, float]] = (
            kept.get("values", {}) if kept.get("of") == key else {}
        )
        points = {"baseline": {}, **{str(t.number): t.parameters for t in chosen}}
        if not self._baseline.metrics:
            del points["baseline"]
        with self._progress.task("measure the front", len(points)) as advance:
            for name, settings in points.items():
                if name not in values:
                    values[name] = self.evaluator.measure(self.evaluator.evaluate(settings))
                    self.study.set_user_attr(_MEASURED, {"of": key, "values": values})
                advance(1)

    def write(self, seconds: float) -> StudyResult:
        """Writes the result and its configurations, and returns the result."""
        found = self._collect(seconds)
        directory = run_directory(self.config.name)
        write_result(found, directory / RESULT_FILE)
        best = directory / "best.toml"
        best.unlink(missing_ok=True)
        for old in (directory / "pareto").glob("*.toml"):
            old.unlink()
        if found.best is not None:
            self._write_trial(found, found.best, best)
            for number in found.pareto:
                self._write_trial(found, number, directory / "pareto" / f"{number}.toml")
        return found

    def _write_trial(self, found: StudyResult, number: int, path: Path) -> None:
        trial = found.trial(number)
        config = trained_first(self.evaluator.config_of(trial.parameters))
        values = ", ".join(
            f"{name} {shown(name, value)}"
            for (name, _), value in zip(found.objectives, trial.values, strict=True)
        )
        write_config(config, path, f"Trial {number} of the study '{found.name}': {values}.")

    def _collect(self, seconds: float) -> StudyResult:
        study = self.study
        found = collect(
            self.config.name,
            self.search,
            self.space,
            self._entries,
            self._baseline,
            study.get_trials(deepcopy=False),
            self.total,
            seconds,
        )
        kept: Mapping[str, Any] = study.user_attrs.get(_MEASURED, {}).get("values", {})
        return with_measured(found, kept)

    def _evaluate_baseline(self) -> Baseline:
        floats = self.evaluator.float_metrics
        try:
            found = self.evaluator.evaluate({})
        except ChopError as error:
            if isinstance(error, ToolError):
                raise
            # It is no point of the space; constraints that speak of it say that it is missing.
            return Baseline(floats)
        every = self.search.measure is not None and self.search.measure.when == "every"
        return Baseline(floats, found.metrics, self.evaluator.measure(found) if every else {})

    def _resolve(self) -> None:
        references = {
            "float": self._baseline.float_metrics,
            "baseline": {**self._baseline.metrics, **self._baseline.measured},
        }
        self._entries = tuple(entry_of(c, references) for c in self._constraints)

    def _epochs(self) -> int:
        table = self.config.qat or self.config.train
        return 1 if table is None else table.epochs


def _parsed(search: SearchConfig, who: str) -> tuple[Constraint, ...]:
    """Returns the constraints; raises ConfigError for a metric that trials do not have."""
    constraints = tuple(parse_constraint(text) for text in search.constraints)
    names = [*search.objectives, *(c.metric.name for c in constraints)]
    table = search.measure
    for name in names:
        metric = find_metric(name, "search.objectives")
        if not metric.measured:
            continue
        if table is None or table.when != "every":
            raise ConfigError(
                f"{who}: '{name}' is measured, not predicted: to search by it, add "
                "[search.measure] with when = 'every'"
            )
        if name not in table.metrics:
            raise ConfigError(f"{who}: add '{name}' to search.measure.metrics")
    return constraints


def _refuse_labels(search: SearchConfig, constraints: Sequence[Constraint]) -> None:
    for name in [*search.objectives, *(c.metric.name for c in constraints)]:
        if find_metric(name, "search").source == "labels":
            raise ConfigError(f"search: '{name}' needs labels; add a [dataset] table")


def _fingerprint(config: Config) -> str:
    """Returns a hash of all that the results of trials depend on."""
    table = config.model_dump(
        mode="json",
        include={"seed", "model", "dataset", "train", "qat", "passes", "hardware", "search"},
    )
    search = table["search"]
    measure = search["measure"]
    for key in _FREE:
        del search[key]
    if measure is not None and measure["when"] == "every":
        search["measure"] = measure
    text = json.dumps(table, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _place(url: str) -> str:
    """Returns the storage without a password."""
    return re.sub(r"//([^:/@]*):[^@]*@", r"//\1@", url)


def _along(found: StudyResult, most: int) -> list[int]:
    """Returns at most so many numbers of the front, evenly along it, the best one among them."""
    front = list(found.pareto)
    if len(front) <= most:
        return front
    places = {round(i * (len(front) - 1) / max(most - 1, 1)) for i in range(most)}
    chosen = [front[place] for place in sorted(places)]
    if found.best is not None and found.best not in chosen:
        place = front.index(found.best)
        nearest = min(chosen, key=lambda n: abs(front.index(n) - place))
        chosen[chosen.index(nearest)] = found.best
    return chosen


def _in_words(found: StudyResult) -> str:
    """Returns the best so far, or what comes nearest to the constraints."""
    number = found.best if found.best is not None else found.nearest
    if number is None:
        return ""
    trial = found.trial(number)
    values = ", ".join(
        f"{name} {shown(name, value)}"
        for (name, _), value in zip(found.objectives, trial.values, strict=True)
    )
    return values if found.best is not None else f"{values} (constraints missed)"


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Lets one process of this machine at a time train into the folder."""
    # Not in the folder: a configuration that is refused leaves none behind.
    words = hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"chop-{os.getuid()}-{words}.lock"
    with path.open("w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
