"""Every trial of a study once: tickets, and who holds them.

A study of N trials has the tickets 0 .. N - 1. Any number of workers, on any machines, share it
through a storage that does three things atomically: it numbers the trials in the order in which
they are made, it hands a waiting trial to one worker only, and a trial ends once. (SQLite, which
locks no row, may hand it to two at once; then one of them works in vain.) From these:

- A trial that a sampler draws for holds the ticket that is its rank among all such trials. Ranks
  follow from numbers, which never change, so that no two such trials hold the same ticket and none
  is left out: no lock, no counter.
- A trial whose worker died is failed by whoever notices, which gives its ticket back. It is done
  again by a retry: a trial that waits, with the ticket and the settings written into it when it is
  made. Two workers may both make one; the one of the lower number counts.
- A ticket is done when a trial that holds it is complete, pruned, or refused by the compiler.

A worker that lives says so: it counts its heartbeats in the trial. Those who look on compare the
count with what they saw before, by their own clock. On one machine the process itself is asked.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

__all__ = [
    "BEAT",
    "LOST",
    "REASON",
    "RETRY",
    "WORKER",
    "Claims",
    "Ledger",
    "heartbeat",
    "this_worker",
]

# Keys of a trial's user attributes.
RETRY, WORKER, BEAT, REASON, LOST = "retry", "worker", "beat", "refused", "lost"
# A trial that takes its workers down is not tried for ever.
_MOST_LOSSES = 3
_GRACE_BEATS = 6


@dataclass(frozen=True, slots=True)
class Ledger:
    """The tickets of a study at one moment, from its trials.

    Attributes:
        drawn: how many tickets samplers drew for so far, the ones beyond the study's end included.
        holders: the trials of each ticket, in their order.
    """

    drawn: int
    tickets: Mapping[int, int]
    holders: Mapping[int, tuple[FrozenTrial, ...]]

    @staticmethod
    def of(trials: Sequence[FrozenTrial]) -> Ledger:
        tickets: dict[int, int] = {}
        holders: dict[int, list[FrozenTrial]] = {}
        drawn = 0
        for trial in sorted(trials, key=lambda t: t.number):
            ticket = trial.user_attrs.get(RETRY)
            if ticket is None:
                ticket, drawn = drawn, drawn + 1
            tickets[trial.number] = ticket
            holders.setdefault(ticket, []).append(trial)
        return Ledger(drawn, tickets, {k: tuple(v) for k, v in holders.items()})

    def done(self, ticket: int) -> FrozenTrial | None:
        """Returns the trial that finished the ticket, the earliest."""
        return next((t for t in self.holders.get(ticket, ()) if is_done(t)), None)

    def live(self, ticket: int) -> bool:
        """Returns whether a trial that holds the ticket is running or waits."""
        return any(not t.state.is_finished() for t in self.holders.get(ticket, ()))

    def count_done(self, total: int) -> int:
        """Returns how many of the study's tickets are done."""
        return sum(self.done(ticket) is not None for ticket in range(total))

    def given_back(self, total: int) -> list[int]:
        """Returns the tickets that were drawn for and are neither done nor held."""
        drawn = min(self.drawn, total)
        return [t for t in range(drawn) if not self.live(t) and self.done(t) is None]

    def losses(self, ticket: int) -> int:
        """Returns how many workers died over the ticket."""
        return sum(LOST in t.user_attrs for t in self.holders.get(ticket, ()))


def is_done(trial: FrozenTrial) -> bool:
    """Returns whether the trial came to an end that counts."""
    from optuna.trial import TrialState

    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or (
        trial.state == TrialState.FAIL and REASON in trial.user_attrs
    )


@dataclass(slots=True)
class Claims:
    """One worker's view of a study: takes tickets, and gives back those of the dead."""

    study: Study
    storage: BaseStorage
    total: int
    beat_seconds: float
    _seen: dict[int, tuple[object, float]] = field(default_factory=dict)

    def ledger(self) -> Ledger:
        """Returns the tickets now."""
        return Ledger.of(self.study.get_trials(deepcopy=False))

    def take(self) -> tuple[Trial, int] | None:
        """Returns a trial to do, and its ticket; None when all are done.

        Waits while other workers hold the last ones: they may yet die.
        """
        pause = 0.05
        while True:
            ledger = self.ledger()
            if ledger.count_done(self.total) == self.total:
                return None
            self._fail_dead(ledger)
            ledger = self.ledger()
            back = ledger.given_back(self.total)
            waiting = any(t.state.name == "WAITING" for h in ledger.holders.values() for t in h)
            if back and not waiting:
                self._retry(ledger, back[0])
                waiting = True
            if waiting or ledger.drawn < self.total:
                claimed = self._claim()
                if claimed is not None:
                    return claimed
                continue
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    def _claim(self) -> tuple[Trial, int] | None:
        from optuna.exceptions import UpdateFinishedTrialError

        trial = self.study.ask()
        try:
            trial.set_user_attr(WORKER, this_worker())
        except UpdateFinishedTrialError:
            # It took so long to sign that another worker took it for dead.
            return None
        ledger = self.ledger()
        ticket = ledger.tickets[trial.number]
        before = [t for t in ledger.holders[ticket] if t.number < trial.number]
        if ticket >= self.total or any(is_done(t) or not t.state.is_finished() for t in before):
            self.fail(trial.number)
            return None
        if ledger.losses(ticket) >= _MOST_LOSSES:
            reason = f"{_MOST_LOSSES} workers died over it"
            trial.set_user_attr(REASON, reason)
            self.fail(trial.number)
            return None
        return trial, ticket

    def fail(self, number: int) -> None:
        """Ends a trial without a result; its ticket is given back unless it says REASON."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        except (UpdateFinishedTrialError, ValueError):
            # Another worker was faster; ended is ended.
            return

    def _retry(self, ledger: Ledger, ticket: int) -> None:
        *_, last = ledger.holders[ticket]
        self.study.enqueue_trial(dict(last.params), user_attrs={RETRY: ticket})

    def _fail_dead(self, ledger: Ledger) -> None:
        now = time.monotonic()
        for holders in ledger.holders.values():
            for trial in holders:
                if trial.state.name == "RUNNING" and self._is_dead(trial, now):
                    self._mark_lost(trial)
                    self.fail(trial.number)

    def _mark_lost(self, trial: FrozenTrial) -> None:
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            self.storage.set_trial_user_attr(trial._trial_id, LOST, True)
        except UpdateFinishedTrialError:
            return

    def _is_dead(self, trial: FrozenTrial, now: float) -> bool:
        alive = process_lives(trial.user_attrs.get(WORKER))
        if alive is not None:
            return not alive
        beat = trial.user_attrs.get(BEAT)
        old, since = self._seen.get(trial.number, (None, now))
        if trial.number not in self._seen or old != beat:
            self._seen[trial.number] = (beat, now)
            return False
        return now - since > _GRACE_BEATS * self.beat_seconds


@contextmanager
def heartbeat(trial: Trial, seconds: float) -> Iterator[None]:
    """Counts up in the trial, every so many seconds, while the body runs."""
    stop = threading.Event()

    def beat() -> None:
        count = 0
        while not stop.wait(seconds):
            count += 1
            try:
                trial.set_user_attr(BEAT, count)
            except Exception:
                # Failed by another worker, or the storage is away for a moment: the trial's own end
                # will tell.
                continue

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def this_worker() -> dict[str, Any]:
    """Returns what tells this process from every other one: machine, number, start."""
    return {"host": _host(), "pid": os.getpid(), "start": _start(os.getpid())}


def process_lives(worker: object) -> bool | None:
    """Returns whether a worker's process lives; None where it is not this machine's."""
    if not isinstance(worker, dict) or worker.get("host") != _host():
        return None
    pid = int(worker["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _start(pid) == worker.get("start")


def _host() -> str:
    """Returns a name of this machine; of containers on one machine, one each."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()} {os.uname().nodename}"


def _start(pid: int) -> str:
    """Returns when a process started, in the kernel's ticks; "" for one that is no more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]
