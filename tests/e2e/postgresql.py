"""A PostgreSQL server of a test's own: Debian's, in a temporary folder, on a free port."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["find_server", "running_server"]


def find_server() -> Path | None:
    """Returns the folder of the newest server's programs; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def _version(program: Path) -> float:
    return float(program.parts[-3])


@contextmanager
def running_server(programs: Path) -> Iterator[str]:
    """Yields the URL of a database of a server that lives as long as the body."""
    # Not pytest's folder: root's, where the server, which refuses to be root, could not enter.
    folder = Path(tempfile.mkdtemp(prefix="chop-postgresql-"))
    user = None
    if os.getuid() == 0:
        user = "nobody"
        shutil.chown(folder, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"

    def run(*command: str) -> None:
        subprocess.run(
            command, user=user, cwd=folder, check=True, timeout=60, stdout=subprocess.DEVNULL
        )

    try:
        run(str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "chop", "--no-sync")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        control = (str(programs / "pg_ctl"), "-D", str(data), "-w")
        run(*control, "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql://chop@127.0.0.1:{port}/postgres"
        finally:
            run(*control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
