"""Where jobs keep what they make: build/<name> for emitted folders, runs/<name> for trainings."""

from __future__ import annotations

from pathlib import Path

from chop.errors import DataError

__all__ = ["build_directory", "chosen_build", "record_build", "run_directory"]

_BUILD = Path("build")
_RUNS = Path("runs")
_LAST = _BUILD / ".last"


def build_directory(name: str) -> Path:
    """Returns build/<name>, relative to the working directory."""
    return _BUILD / name


def run_directory(name: str) -> Path:
    """Returns runs/<name>, relative to the working directory."""
    return _RUNS / name


def record_build(directory: Path) -> None:
    """Remembers the folder as the one emitted last (`make sim` reads it)."""
    _LAST.parent.mkdir(parents=True, exist_ok=True)
    _LAST.write_text(f"{directory}\n", encoding="utf-8")


def chosen_build(given: Path | None, name: str | None) -> Path:
    """Returns the folder that was given, else that of the job's name, else the one emitted last.

    Raises DataError when there is none of the three.
    """
    if given is not None:
        return given
    if name is not None:
        return build_directory(name)
    try:
        return Path(_LAST.read_text(encoding="utf-8").strip())
    except FileNotFoundError as error:
        raise DataError(
            "no design was emitted here yet; run 'chop emit', or name a folder with --build"
        ) from error
