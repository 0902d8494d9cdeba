"""The commands one after the other, on a small job, in an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chop.cli.main import main

CONFIG = """
name = "small"

[model]
path = "net.py:make_model"

[dataset]
name = "iris"
batch_size = 16

[train]
epochs = 30
learning_rate = 0.02

[[passes]]
name = "fold_batch_norm"

[[passes]]
name = "quantize"
by = "type"
[passes.default.config]
name = "integer"
data_in_width = 8
data_in_frac_width = "auto"
weight_width = 8
weight_frac_width = "auto"
bias_width = 16
bias_frac_width = "auto"

[hardware]
target_initiation_interval = 8

[simulate]
stall_probability = 0.5
check_streams = true
"""

NET = """
from chop.models import mlp

def make_model():
    return mlp([4, 8, 3], batch_norm=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `chop transform` has run; its report is in report.json."""
    place = tmp_path_factory.mktemp("job")
    (place / "small.toml").write_text(CONFIG)
    (place / "net.py").write_text(NET)
    done = subprocess.run(
        [sys.executable, "-m", "chop.cli", "transform", "--config", "small.toml"],
        cwd=place,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (place / "shown.txt").write_text(done.stdout)
    return place


@pytest.fixture(autouse=True)
def _inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


def test_transform_reports_a_design_that_equals_its_reference() -> None:
    report = json.loads(Path("runs/small/report.json").read_text())
    free, stalled = report["simulations"]
    assert (free["stall_probability"], stalled["stall_probability"]) == (0.0, 0.5)
    for run in (free, stalled):
        assert (run["mismatches"], run["deadlock"], run["elements"]) == (0, False, 38 * 3)
    assert report["ideal_initiation_interval"] == 8
    assert free["initiation_interval"] == report["predicted_initiation_interval"] == 8
    assert free["latency_cycles"] == report["predicted_latency_cycles"]
    assert stalled["cycles"] > free["cycles"]
    accuracy = report["accuracy"]
    assert accuracy["samples"] == 38
    assert accuracy["float_accuracy"] > 0.9
    assert [layer["node"] for layer in report["layers"]] == ["fc1", "act1", "fc2"]
    assert report["synthesis"] is None


def test_transform_shows_its_report(folder: Path) -> None:
    shown = Path("shown.txt").read_text()
    report = json.loads(Path("runs/small/report.json").read_text())
    assert max(map(len, shown.splitlines())) <= 100
    for text in (
        "fc1",
        "act1",
        "0 mismatches in 114 outputs",
        "ideal 8, predicted 8, measured 8",
        f"{100 * report['accuracy']['float_accuracy']:.2f} %",
        "build/small",
        "runs/small/report.html",
    ):
        assert text in shown
    page = Path("runs/small/report.html").read_text()
    assert "RTL equal to the integer reference: 228 outputs in 2 simulations" in page
    assert f"{100 * report['accuracy']['integer_accuracy']:.2f} %" in page


def test_trained_weights_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("runs/small/last.ckpt").stat().st_mtime_ns
    design = Path("build/small/design.json").read_bytes()
    assert main(["emit", "--config", "small.toml"]) == 0
    assert capsys.readouterr().out == "emitted build/small\n"
    assert Path("runs/small/last.ckpt").stat().st_mtime_ns == before
    assert Path("build/small/design.json").read_bytes() == design


def test_eval_measures_what_transform_did(capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads(Path("runs/small/report.json").read_text())
    assert _json(capsys, "eval", "--config", "small.toml") == report["accuracy"]


def test_an_override_reaches_the_hardware(capsys: pytest.CaptureFixture[str]) -> None:
    manifest = _json(
        capsys,
        *("emit", "--config", "small.toml", "--build", "build/narrow"),
        *("--set", "passes.quantize.default.config.weight_width=4"),
        *("--set", "hardware.target_initiation_interval=32"),
    )
    assert manifest["predicted_initiation_interval"] == 32
    assert Path("build/.last").read_text() == "build/narrow\n"
    assert manifest["weights_hash"] != json.loads(Path("build/small/design.json").read_text())


def test_simulate_takes_an_emitted_folder(capsys: pytest.CaptureFixture[str]) -> None:
    runs = _json(
        capsys,
        *("simulate", "--build", "build/small"),
        *("--set", "simulate.samples=20", "--set", "simulate.stall_probability=0.7"),
    )
    assert [(run["stall_probability"], run["mismatches"]) for run in runs] == [(0.0, 0), (0.7, 0)]
    assert [run["samples"] for run in runs] == [20, 20]


def test_simulate_reports_a_rom_that_was_changed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    subprocess.run(["cp", "-r", str(folder / "build/small"), str(broken)], check=True)
    rom = sorted((broken / "rom").glob("*weight*"))[0]
    lines = rom.read_text().split("\n")
    lines[0] = lines[0][:-1] + ("0" if lines[0][-1] != "0" else "1")
    rom.write_text("\n".join(lines))
    assert main(["simulate", "--build", str(broken)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: design 'small' at stall probability 0: ")
    assert " elements of the RTL differ from the integer reference: node 'fc2', " in error
    assert error.count("\n") == 1


def test_synthesize_takes_an_emitted_folder(capsys: pytest.CaptureFixture[str]) -> None:
    report = _json(
        capsys,
        *("synthesize", "--build", "build/small", "--target", "xc7"),
        *("--set", "synthesize.place_and_route=false", "--layers"),
    )
    assert report["target"] == "xc7"
    assert report["luts"] > 0
    assert report["fmax_mhz"] is None
    layers = [row for row in report["layers"] if row["node"] is not None]
    assert [row["operator"] for row in layers if row["operator"] == "linear"] == ["linear"] * 2
    for row in layers:
        assert row["measured"]["dsps"] == row["estimate"]["dsps"]
        assert row["measured"]["ffs"] > 0


def test_train_resumes(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--config", "small.toml", "--set", "name=other")
    _json(capsys, "train", *options, "--set", "train.epochs=2")
    metrics = _json(capsys, "train", *options, "--set", "train.epochs=3", "--resume")
    assert metrics["epochs"] == 3
    assert main(["train", *options, "--set", "train.epochs=3"]) == 0
    assert "runs/other/last.ckpt" in capsys.readouterr().out


def test_a_saved_graph_is_a_model(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    import torch

    from chop.ir.graph import MaseGraph
    from chop.ir.serialize import save_graph
    from chop.models import mlp

    torch.manual_seed(0)
    save_graph(MaseGraph(mlp([6, 4])), folder / "saved.pt")
    report = _json(
        capsys,
        *("transform", "--model", "saved.pt", "--set", "model.inputs=[[6]]"),
        *("--set", "simulate.samples=10"),
    )
    assert report["name"] == "saved"
    assert report["accuracy"] is None
    assert [run["mismatches"] for run in report["simulations"]] == [0, 0]
