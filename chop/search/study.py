"""A whole study: set up once, worked on by any number of processes, collected into a result."""

from __future__ import annotations

import time

from chop.config.schema import Config
from chop.flows.progress import Progress, SilentProgress
from chop.search.result import StudyResult
from chop.search.session import Session, Standing, Watch

__all__ = ["Standing", "Watch", "join_search", "search"]


def search(
    config: Config,
    *,
    resume: bool = False,
    restart: bool = False,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> StudyResult:
    """Runs the study of a configuration to its end and returns what it found.

    Writes runs/<name>/search.json, and best.toml and pareto/*.toml beside it, each of which
    `chop transform --config` takes; what is there after an interrupt is written too. With `resume`
    a study that is there goes on, up to search.trials in all; with `restart` it is deleted first.
    Raises ConfigError where one is there and neither is said, and for whatever of [search] does not
    fit.
    """
    started = time.monotonic()
    session = Session(config, progress or SilentProgress())
    session.set_up(resume, restart)
    try:
        if session.search.workers > 1:
            session.run_locally(watch or _unwatched)
        else:
            session.work(watch or _unwatched)
    except BaseException:
        session.write(time.monotonic() - started)
        raise
    session.measure_front()
    return session.write(time.monotonic() - started)


def join_search(
    config: Config, progress: Progress | None = None, watch: Watch | None = None
) -> int:
    """Works on a study until it is done, and returns how many trials this process did.

    Sets the study up where nobody has yet. Raises ConfigError as `search`.
    """
    session = Session(config, progress or SilentProgress())
    session.set_up(True, False)
    return session.work(watch or _unwatched)


def _unwatched(standing: Standing) -> None:
    """Looks away."""
