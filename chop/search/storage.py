"""Where a study is kept: SQLite, a journal file, PostgreSQL or MySQL, through Optuna's storages."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from chop.config.search import SearchConfig
from chop.errors import ConfigError, did_you_mean
from chop.flows.places import run_directory

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

__all__ = ["open_storage", "quiet_optuna", "storage_url"]

_JOURNAL = "journal"
_BACKENDS = ("sqlite", "postgresql", "mysql")
# What pip calls a driver, where that is not its own name.
_PACKAGES = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "mysqldb": "mysqlclient"}
_DEFAULT_DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql"}
# SQLite takes one writer at a time; others wait this long for it.
_BUSY_SECONDS = 120


def storage_url(search: SearchConfig, name: str) -> str:
    """Returns the storage as one text: a URL of SQLAlchemy, or the path of a journal file."""
    given = search.storage
    if given is None:
        return f"sqlite:///{run_directory(name) / 'search.db'}"
    if given == _JOURNAL:
        return str(run_directory(name) / "search.journal")
    if "://" not in given:
        return given
    scheme, rest = given.split("://", 1)
    backend, plus, _ = scheme.partition("+")
    if backend == "postgres":
        backend = "postgresql"
    if backend not in _BACKENDS:
        raise ConfigError(
            f"storage '{_hidden(given)}': unknown kind '{backend}'"
            f"{did_you_mean(backend, (*_BACKENDS, _JOURNAL))}"
        )
    if not plus and backend in _DEFAULT_DRIVERS:
        return f"{backend}+{_DEFAULT_DRIVERS[backend]}://{rest}"
    return given


def open_storage(search: SearchConfig, name: str) -> BaseStorage:
    """Returns the storage, made where there is none.

    Raises ConfigError where it cannot be reached, or its driver is not installed.
    """
    quiet_optuna()
    url = storage_url(search, name)
    if "://" not in url:
        return _journal(Path(url))
    from optuna.storages import RDBStorage, get_storage
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    who = f"storage '{_hidden(url)}'"
    options: dict[str, object] = {}
    if url.startswith("sqlite"):
        path = Path(url.split(":///", 1)[-1])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{who}: {error}") from error
        options["connect_args"] = {"timeout": _BUSY_SECONDS}
    else:
        options["pool_pre_ping"] = True
    try:
        return get_storage(RDBStorage(url, engine_kwargs=options))
    except ImportError as error:
        driver = url.split("://", 1)[0].partition("+")[2] or "its driver"
        raise ConfigError(
            f"{who}: the driver '{driver}' is not installed; "
            f"pip install '{_PACKAGES.get(driver, driver)}'"
        ) from error
    except (SQLAlchemyError, ArgumentError, ValueError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()
        raise ConfigError(
            f"{who}: cannot be opened: {reason[0] if reason else type(error).__name__}; "
            "is the server running, and does the database exist?"
        ) from error


def _journal(path: Path) -> BaseStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(path)))
    except OSError as error:
        raise ConfigError(f"storage '{path}': cannot be opened: {error}") from error


def _hidden(url: str) -> str:
    """Returns the URL without its password."""
    head, at, tail = url.rpartition("@")
    scheme, colon, credentials = head.partition("://")
    user = credentials.partition(":")[0]
    return f"{scheme}{colon}{user}{at}{tail}" if at else url


def quiet_optuna() -> None:
    """Optuna tells of every trial, and warns of what is experimental and chosen here."""
    import optuna
    from optuna.exceptions import ExperimentalWarning

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    warnings.filterwarnings("ignore", module="optuna")
