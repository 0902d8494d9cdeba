"""Every exception class that a user may meet.

Wording of a message: who, the rule, the offending value, what to do. The command line prints one as
one line and exits with 2; any other exception is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = [
    "CaptureError",
    "ChopError",
    "ConfigError",
    "DataError",
    "FormatError",
    "PassOrderError",
    "ShapeError",
    "SimulationError",
    "ToolError",
    "UnsupportedOpError",
    "VerifyError",
    "did_you_mean",
]


class ChopError(Exception):
    """Base of every error that is the input's fault, not ours."""


class ConfigError(ChopError):
    """A configuration value that is unknown, ill-typed or inconsistent."""


class DataError(ChopError):
    """A data set or file that is missing or malformed."""


class UnsupportedOpError(ChopError):
    """A torch operation, or a form of one, that has no exact hardware meaning."""


class CaptureError(ChopError):
    """A model whose forward cannot be captured as a static graph."""


class ShapeError(ChopError):
    """Tensors whose shapes do not fit the graph."""


class FormatError(ChopError):
    """A number format that cannot hold what it is asked to hold."""


class PassOrderError(ChopError):
    """A pass that was asked for before one that it depends on."""


class VerifyError(ChopError):
    """Something that was checked and found unequal or inconsistent."""


class SimulationError(ChopError):
    """A simulation that could not be run to its end."""


class ToolError(ChopError):
    """An external tool that failed or is missing.

    Attributes:
        command: the argument vector that was run.
        returncode: its exit status, or None when it never started or ran out of time.
        tail: the last lines that it printed.
    """

    def __init__(
        self,
        message: str,
        command: Sequence[str] = (),
        returncode: int | None = None,
        tail: str = "",
    ) -> None:
        super().__init__(message)
        self.command = tuple(command)
        self.returncode = returncode
        self.tail = tail


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for the known word nearest to value, else the known words."""
    words = sorted(known)
    near = difflib.get_close_matches(value, words, n=1)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; use {', '.join(words)}" if words else ""
