"""Workers that share a study, one of them killed in a trial: none lost, none double."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from chop.config.load import load_config
from chop.search.storage import open_storage
from chop.search.study import search
from chop.search.tickets import LOST, RETRY, WORKER
from tests.e2e.postgresql import find_server, running_server
from tests.e2e.search_worker import PRELOADED, run_worker

WIDTHS = (2, 3, 4, 5, 6, 8)
CONFIG = f"""
name = "shared"
[model]
name = "mlp"
arguments = {{ sizes = [4, 8, 3] }}
[dataset]
name = "iris"
[search]
strategy = "brute_force"
objectives = ["loss", "luts"]
storage = "STORAGE"
[[search.space]]
select = {{ type = "linear" }}
seeds = {{ weight_width = {list(WIDTHS)} }}
"""
WORKERS = 4


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty storage."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            yield f"sqlite:///{tmp_path}/study.db"
            return
        programs = find_server()
        if programs is None:
            pytest.skip("no PostgreSQL server here; apt-get install postgresql")
        yield stack.enter_context(running_server(programs))


def test_a_killed_worker_loses_and_doubles_nothing(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "shared.toml"
    path.write_text(CONFIG.replace("STORAGE", storage), encoding="utf-8")
    config = load_config(path)
    assert config.search is not None
    opened = open_storage(config.search, config.name)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    started = [context.Process(target=run_worker, args=(tmp_path, path)) for _ in range(WORKERS)]
    for worker in started:
        worker.start()
    workers = {worker.pid: worker for worker in started if worker.pid is not None}
    try:
        victim, number = _kill_one(opened, set(workers))
        for worker in started:
            worker.join(timeout=120)
    finally:
        for worker in started:
            worker.kill()
    codes = {pid: worker.exitcode for pid, worker in workers.items()}
    assert codes == {pid: -signal.SIGKILL if pid == victim else 0 for pid in workers}

    trials = optuna.load_study(study_name="shared", storage=opened).get_trials()
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    # The trial that was taken away from the dead one was done again, by another.
    assert trials[number].state == TrialState.FAIL
    assert LOST in trials[number].user_attrs
    (again,) = (t for t in complete if t.user_attrs.get(RETRY) is not None)
    assert again.params == trials[number].params
    assert again.user_attrs[WORKER]["pid"] != victim
    # Nothing that it had finished was.
    assert {t.user_attrs[WORKER]["pid"] for t in complete} >= {victim}
    settings = [tuple(t.user_attrs["details"]["parameters"].values()) for t in complete]
    assert sorted(settings) == sorted(itertools.product(WIDTHS, WIDTHS))

    found = search(config, resume=True)
    assert [t.number for t in found.trials] == list(range(len(WIDTHS) ** 2))
    assert {t.state for t in found.trials} == {"complete"}
    values = [t.values for t in found.trials]
    on_front = [v for v in values if not any(_beats(other, v) for other in values)]
    assert {found.trial(n).values for n in found.pareto} == set(on_front)


def _beats(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


def _kill_one(storage: optuna.storages.BaseStorage, workers: set[int]) -> tuple[int, int]:
    """Kills a worker that has finished trials and is in another; returns it and that trial."""
    until = time.monotonic() + 90
    while time.monotonic() < until:
        time.sleep(0.02)
        for pid, trials in _by_worker(storage).items():
            finished = any(t.state == TrialState.COMPLETE for t in trials)
            if pid not in workers or not finished or trials[-1].state != TrialState.RUNNING:
                continue
            # It stands still while we look again: is it in a trial, its settings drawn?
            os.kill(pid, signal.SIGSTOP)
            *_, last = _by_worker(storage)[pid]
            if last.state == TrialState.RUNNING and len(last.params) == 2:
                os.kill(pid, signal.SIGKILL)
                return pid, last.number
            os.kill(pid, signal.SIGCONT)
    raise AssertionError("no worker was in the middle of its second trial")


def _by_worker(storage: optuna.storages.BaseStorage) -> dict[int, list[FrozenTrial]]:
    try:
        study = optuna.load_study(study_name="shared", storage=storage)
    except KeyError:
        return {}
    found: dict[int, list[FrozenTrial]] = {}
    for trial in study.get_trials(deepcopy=False):
        if WORKER in trial.user_attrs:
            found.setdefault(trial.user_attrs[WORKER]["pid"], []).append(trial)
    return found
