"""How a flow tells what it is doing; the command line shows it as bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

__all__ = ["Advance", "Progress", "SilentProgress"]

Advance = Callable[[int], None]


class Progress(Protocol):
    """Shows one task at a time."""

    def task(self, text: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Shows `text` until the block ends; the value it yields adds steps out of `total`."""


class SilentProgress:
    """Shows nothing."""

    @contextmanager
    def task(self, text: str, total: int | None = None) -> Iterator[Advance]:
        """Yields a function that does nothing."""
        yield lambda steps: None
