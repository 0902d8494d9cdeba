"""Workers of this machine: processes that share a study through its storage."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from chop.errors import ToolError

if TYPE_CHECKING:
    from chop.search.session import Standing

__all__ = ["run_workers"]

_POLL_SECONDS = 0.5
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run_workers(
    config: Path,
    count: int,
    standing: Callable[[], Standing],
    watch: Callable[[Standing], None],
) -> None:
    """Runs `chop search --worker` so many times until the study is done.

    A worker that dies is one less: the others do its trial again. Raises ToolError with the last
    words of one where none is left and the study is not done.
    """
    command = [sys.executable, "-m", "chop.cli", "search", "--worker", "--config", str(config)]
    environment = {**os.environ, **dict.fromkeys(_THREADS, "1")}
    with tempfile.TemporaryDirectory(prefix="chop-") as scratch:
        logs = [Path(scratch) / f"{number}.log" for number in range(count)]
        processes = []
        for log in logs:
            with log.open("wb") as file:
                processes.append(
                    subprocess.Popen(command, env=environment, stdout=file, stderr=file)
                )
        try:
            while any(process.poll() is None for process in processes):
                watch(standing())
                time.sleep(_POLL_SECONDS)
        except BaseException:
            for process in processes:
                process.terminate()
            raise
        finally:
            for process in processes:
                process.wait()
        now = standing()
        watch(now)
        if now.done == now.total:
            return
        tails = [log.read_text(encoding="utf-8", errors="replace").strip() for log in logs]
        last = next((tail.splitlines()[-1] for tail in tails if tail), "it was killed")
        raise ToolError(
            f"search: all {count} workers ended after {now.done} of {now.total} trials: "
            f"{last.removeprefix('error: ')}; go on by --resume"
        )
