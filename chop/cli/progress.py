"""Progress on standard error: a spinner or a bar per task, gone when it ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from chop.flows.progress import Advance, Progress, SilentProgress

__all__ = ["make_progress"]


class _BarProgress:
    @contextmanager
    def task(self, text: str, total: int | None = None) -> Iterator[Advance]:
        """Shows `text` with a bar where the total is known, a spinner elsewhere."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        columns = [SpinnerColumn(), TextColumn("{task.description}")]
        if total is not None:
            columns += [BarColumn(), MofNCompleteColumn()]
        console = Console(stderr=True)
        with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bars:
            task = bars.add_task(text, total=total)
            yield lambda steps: bars.advance(task, steps)


def make_progress(as_json: bool) -> Progress:
    """Returns bars when a person watches standard error, silence otherwise."""
    return _BarProgress() if sys.stderr.isatty() and not as_json else SilentProgress()
