"""An emitted folder stands alone: `make sim` and `make lint` work where chop is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from chop.ir.manifest import Manifest
from chop.sim.build import execute, find_toolchain
from chop.sim.runner import sources
from chop.sim.testbench import write_vectors
from tests.rtl.tiny_design import MID, emit, samples


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs make in an emitted folder, with a Python that cannot import chop."""
    blocked = folder / "blocked"
    (blocked / "chop").mkdir(parents=True, exist_ok=True)
    (blocked / "chop" / "__init__.py").write_text("raise ImportError('chop')\n", encoding="utf-8")
    python = f"env PYTHONPATH={blocked} {sys.executable}"
    command = ["make", *words, f"PYTHON={python}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_the_folder_simulates_without_chop(tmp_path: Path) -> None:
    folder = emit(tmp_path / "d")
    manifest = Manifest.load(folder)
    x = samples()
    write_vectors(manifest, folder, {"x": x, "mid": x, "y": x})

    done = make(folder, "sim")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "tiny_top: PASS\n"
        "  samples     6 / 6\n"
        "  mismatches  0\n"
        "  cycles      27\n"
        "  interval    4 (predicted 4)\n"
        "  latency     2 (predicted 2)\n"
        "\n"
        "  stream  node          beats    mismatches\n"
        "  x       n_x   input   24 / 24  0\n"
        "  y       n_y   output  24 / 24  0\n"
    )

    done = make(folder, "sim", "STALL=0.3", "SEED=1", "SAMPLES=2", "DEBUG=1")
    assert done.returncode == 0, done.stderr
    assert "  mid     n_mid  internal  8 / 8  0\n" in done.stdout

    (folder / "tb" / "vectors" / "mid.hex").unlink()
    done = make(folder, "sim", "SAMPLES=100", "DEBUG=1")
    assert done.returncode == 0, done.stderr
    assert "  samples     6 / 6\n" in done.stdout
    assert "  mid     n_mid  internal  24 / -   not compared\n" in done.stdout


def test_the_folder_fails_on_a_wrong_element_and_without_vectors(tmp_path: Path) -> None:
    folder = emit(tmp_path / "d")
    manifest = Manifest.load(folder)
    x = samples()
    wrong = x.copy()
    wrong[4, 3] += -1 if x[4, 3] > 0 else 1
    write_vectors(manifest, folder, {"x": x, "y": wrong})
    done = make(folder, "sim")
    assert done.returncode != 0
    assert done.stdout.startswith("tiny_top: FAIL\n  samples     6 / 6\n  mismatches  1\n")
    assert f"sample 4 element 3: expected {wrong[4, 3]}, got {x[4, 3]}\n" in done.stdout

    (folder / "tb" / "vectors" / "y.hex").unlink()
    done = make(folder, "sim")
    assert done.returncode != 0
    assert f"error: vector file '{folder}/tb/vectors/y.hex' is missing" in done.stderr


def test_the_folder_reports_a_deadlock(tmp_path: Path) -> None:
    folder = emit(tmp_path / "d", head="assign x_ready_o = first_ready && count < 16'd6;")
    write_vectors(Manifest.load(folder), folder, {"x": samples(), "y": samples()})
    done = make(folder, "sim")
    assert done.returncode != 0
    assert done.stdout.startswith("tiny_top: FAIL (deadlock)\n  samples     1 / 6\n")
    assert "input stream 'x' (node 'n_x') is valid and waits for ready in sample 1, beat 2\n" in (
        done.stdout
    )


def test_the_folder_lints(tmp_path: Path) -> None:
    done = make(emit(tmp_path / "d"), "lint")
    assert (done.returncode, done.stdout) == (0, "tiny_top: no warnings\n")
    done = make(emit(tmp_path / "w", mid=MID + " logic nobody;"), "lint")
    assert done.returncode != 0
    assert "UNUSEDSIGNAL" in done.stdout


def test_the_test_bench_has_no_warnings(tmp_path: Path) -> None:
    folder = emit(tmp_path / "d")
    tools = find_toolchain()
    # tb.sv holds a second module, the part that a batch repeats.
    options = [
        "--lint-only",
        "--quiet",
        "--timing",
        "-Wall",
        "-Wno-DECLFILENAME",
        "-DCHOP_CHECK_STREAMS",
    ]
    command = [str(tools.verilator), *options, "--top-module", "tb"]
    files = sources(json.loads((folder / "design.json").read_text(encoding="utf-8")), folder)
    ordered = sorted(files, key=lambda path: path.stem != "chop_sim_pkg")
    environment = {"VERILATOR_ROOT": str(tools.root)}
    assert execute([*command, *map(str, ordered)], folder, 60, environment) == (0, "")


def test_the_test_bench_is_listed_and_byte_stable(tmp_path: Path) -> None:
    first, second = emit(tmp_path / "a"), emit(tmp_path / "b")
    listed = Manifest.load(first).testbench
    found = [p for p in first.rglob("*") if p.is_file() and p.parent.name != "rtl"]
    assert sorted(listed) == sorted(
        str(p.relative_to(first)) for p in found if p.name != "design.json"
    )
    for name in listed:
        assert (first / name).read_bytes() == (second / name).read_bytes()
