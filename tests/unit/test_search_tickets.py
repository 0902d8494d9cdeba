"""Tickets: every trial of a study once, whoever dies, whoever is slow, however many there are."""

from __future__ import annotations

import random
import threading
import time
from typing import Any, cast

import optuna
import pytest
from optuna.trial import TrialState

from chop.search.storage import quiet_optuna
from chop.search.tickets import LOST, REASON, RETRY, WORKER, Claims, Ledger, heartbeat
from chop.search.worker import work

BEAT = 0.02
# A worker of another machine, of which only its heartbeats tell.
AWAY = {"host": "elsewhere", "pid": 1, "start": "0"}


@pytest.fixture
def storage() -> optuna.storages.BaseStorage:
    quiet_optuna()
    return optuna.storages.InMemoryStorage()


def _claims(storage: optuna.storages.BaseStorage, total: int) -> Claims:
    study = optuna.create_study(
        study_name="s",
        storage=storage,
        sampler=optuna.samplers.RandomSampler(seed=0),
        load_if_exists=True,
    )
    return Claims(study, storage, total, BEAT)


def _take(claims: Claims) -> tuple[optuna.Trial, int]:
    taken = claims.take()
    assert taken is not None
    return taken


def test_a_worker_without_heartbeats_is_taken_for_dead(
    storage: optuna.storages.BaseStorage,
) -> None:
    here, there = _claims(storage, 1), _claims(storage, 1)
    trial, ticket = _take(there)
    x = trial.suggest_int("x", 0, 10**6)
    trial.set_user_attr(WORKER, AWAY)
    again, same = _take(here)
    assert (same, again.suggest_int("x", 0, 10**6)) == (ticket, x)
    lost = here.study.get_trials()[trial.number]
    assert lost.state == TrialState.FAIL
    assert LOST in lost.user_attrs
    # It was only slow: what it tells now counts for nothing.
    there.study.tell(trial.number, 1.0, skip_if_finished=True)
    here.study.tell(again.number, 2.0)
    assert here.take() is None
    assert [t.value for t in here.study.get_trials() if t.state == TrialState.COMPLETE] == [2.0]


def test_a_worker_with_heartbeats_is_waited_for(storage: optuna.storages.BaseStorage) -> None:
    here, there = _claims(storage, 1), _claims(storage, 1)
    trial, _ = _take(there)
    trial.set_user_attr(WORKER, AWAY)

    def finish() -> None:
        with heartbeat(trial, BEAT):
            time.sleep(30 * BEAT)
        there.study.tell(trial.number, 1.0)

    slow = threading.Thread(target=finish)
    slow.start()
    assert here.take() is None
    slow.join()
    assert [t.state for t in here.study.get_trials()] == [TrialState.COMPLETE]


def test_what_takes_its_workers_down_is_refused(storage: optuna.storages.BaseStorage) -> None:
    claims = _claims(storage, 1)
    for _ in range(3):
        trial, _ = _take(claims)
        trial.set_user_attr(WORKER, AWAY)
    assert claims.take() is None
    done = claims.ledger().done(0)
    assert done is not None
    assert done.user_attrs[REASON] == "3 workers died over it"


def test_a_study_that_goes_on_takes_what_was_left(storage: optuna.storages.BaseStorage) -> None:
    claims = _claims(storage, 2)
    first, _ = _take(claims)
    second, _ = _take(claims)
    # One more than there is room for: it has no ticket yet.
    surplus = claims.study.ask()
    claims.fail(surplus.number)
    claims.fail(second.number)
    claims.study.tell(first.number, 0.0)
    claims.total = 4
    tickets = []
    while (taken := claims.take()) is not None:
        tickets.append(taken[1])
        claims.study.tell(taken[0].number, 0.0)
    assert sorted(tickets) == [1, 2, 3]
    retries = [t.user_attrs[RETRY] for t in claims.study.get_trials() if RETRY in t.user_attrs]
    assert sorted(retries) == [1, 2]


def test_of_two_retries_of_a_ticket_one_counts(storage: optuna.storages.BaseStorage) -> None:
    claims = _claims(storage, 2)
    lost, _ = _take(claims)
    claims.fail(lost.number)
    for _ in range(3):
        # Three workers noticed at once.
        claims.study.enqueue_trial({}, user_attrs={RETRY: 0})
    tickets = []
    while (taken := claims.take()) is not None:
        tickets.append(taken[1])
        claims.study.tell(taken[0].number, 0.0)
    assert sorted(tickets) == [0, 1]


@pytest.mark.parametrize("seed", range(4))
def test_many_workers_that_stop_at_random_do_every_ticket_once(
    storage: optuna.storages.BaseStorage, seed: int
) -> None:
    total, crew = 25, 5
    # Made here: threads that make a study at once are another matter.
    _claims(storage, total)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        rng = random.Random(seed * 100 + number)
        claims = _claims(storage, total)
        try:
            while (taken := claims.take()) is not None:
                trial, _ = taken
                trial.suggest_int("x", 0, 10**9)
                time.sleep(rng.random() / 500)
                if rng.random() < 0.3:
                    claims.fail(trial.number)
                else:
                    claims.study.tell(trial.number, 0.0)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(crew)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [], f"seed {seed}"
    trials = optuna.load_study(study_name="s", storage=storage).get_trials()
    ledger = Ledger.of(trials)
    complete = [ledger.tickets[t.number] for t in trials if t.state == TrialState.COMPLETE]
    assert sorted(complete) == list(range(total)), f"seed {seed}"
    # A retry has the settings of the trial that it does again.
    for ticket in range(total):
        drawn = {t.params["x"] for t in ledger.holders[ticket] if "x" in t.params}
        assert len(drawn) == 1, f"seed {seed}, ticket {ticket}"


def test_a_worker_whose_trial_was_taken_away_goes_on(
    storage: optuna.storages.BaseStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = _claims(storage, 2)

    def do(_: object, trial: optuna.Trial) -> None:
        if trial.number == 0:
            # By another, who took it for dead.
            claims.fail(trial.number)
            trial.set_user_attr("details", {})
        claims.study.tell(trial.number, 0.0)

    monkeypatch.setattr("chop.search.worker._Work.do", do)
    nothing = cast(Any, None)
    assert work(claims, nothing, nothing, (), lambda: None) == 2
    states = [t.state for t in claims.study.get_trials()]
    assert states == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
