"""What the README and the examples show runs as shown."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_python_example_of_the_readme_runs() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## From Python\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("    ") or not line]
    code = textwrap.dedent("\n".join(lines)).strip()
    assert code.startswith("import torch\nimport chop\n")
    assert len(code.splitlines()) <= 20
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    intervals, resources = done.stdout.splitlines()
    assert intervals == "32.0 32"
    luts, _, dsps, fmax = resources.split()
    assert int(luts) > 0
    assert int(dsps) > 0
    assert float(fmax) > 0


def test_the_files_that_the_readme_links_to_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in [part.partition(")")[0] for part in text.split("](")[1:]]:
        assert (ROOT / target).is_file(), target


def test_the_example_of_passes_emits_a_design(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / "passes.py"))
    assert "emitted build/jsc_by_hand" in capsys.readouterr().out
    done = subprocess.run(
        ["make", "-C", "build/jsc_by_hand", "sim", f"PYTHON={sys.executable}"],
        capture_output=True,
        text=True,
        env={key: value for key, value in os.environ.items() if key != "MAKEFLAGS"},
    )
    assert done.returncode == 0, done.stderr
    assert "jsc_by_hand: PASS" in done.stdout
    assert "mismatches  0" in done.stdout
