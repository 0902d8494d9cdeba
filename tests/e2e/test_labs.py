"""The labs: what their pages show is there and up to date, and their scripts run, made small."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
LABS = ("lab3_search", "lab4_channels", "lab4_hardware")
REGION = re.compile(r"<!-- begin ([\w-]+) -->\n(.*?)<!-- end \1 -->", re.S)


def _regions(page: Path) -> dict[str, str]:
    return dict(REGION.findall(page.read_text(encoding="utf-8")))


def _load(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Returns a lab's run.py as a module of its own."""
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "simulate", raising=False)
    spec = importlib.util.spec_from_file_location(f"run_{folder.name}", folder / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def _small(lab: str, place: Path, changes: dict[str, dict[str, str]]) -> Path:
    """Returns a copy of a lab without its figures, and with texts of its files replaced."""
    folder = place / lab
    shutil.copytree(EXAMPLES / lab, folder, ignore=shutil.ignore_patterns("*.svg", "__pycache__"))
    page = folder / "README.md"
    text = REGION.sub(r"<!-- begin \1 -->\n<!-- end \1 -->", page.read_text(encoding="utf-8"))
    page.write_text(text, encoding="utf-8")
    for name, table in changes.items():
        text = (folder / name).read_text(encoding="utf-8")
        for old, new in table.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def _check_page(folder: Path) -> None:
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert all(text.strip() for text in _regions(folder / "README.md").values())
    for name in re.findall(r"\]\(([^)]+)\)", page):
        assert (folder / name).is_file(), name
    plots = re.findall(r"!\[[^]]+\]\((\w+\.svg)\)", page)
    assert sorted(plots) == sorted(path.name for path in folder.glob("*.svg"))
    for name in plots:
        text = (folder / name).read_text(encoding="utf-8")
        assert len(list(ElementTree.fromstring(text).iter())) > 20
        assert "prefers-color-scheme" in text


@pytest.mark.parametrize("lab", LABS)
def test_a_page_has_its_tables_and_plots(lab: str) -> None:
    _check_page(EXAMPLES / lab)
    assert f"examples/{lab}/run.py" in (EXAMPLES.parent / "Makefile").read_text(encoding="utf-8")


def test_what_is_cheap_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    channels = _load(EXAMPLES / "lab4_channels", monkeypatch)
    shown = _regions(EXAMPLES / "lab4_channels/README.md")["pass"]
    assert shown == channels.by_the_pass()
    assert "| 16 to 32 |" in shown
    assert "| 32 to 64 |" in shown
    hardware = _load(EXAMPLES / "lab4_hardware", monkeypatch)
    regions = _regions(EXAMPLES / "lab4_hardware/README.md")
    for shape in hardware.SIMULATED:
        promised = hardware.promised(shape)
        cells = (*shape, shape[0] * shape[1], promised, promised, "all equal")
        assert f"| {' | '.join(map(str, cells))} |" in regions["tests"]
    text = (EXAMPLES / "lab4_hardware/fc_layer.sv").read_text(encoding="utf-8")
    for name, right, wrong in hardware.FAULTS:
        assert f"| {name} |" in regions["faults"]
        assert right in text
        assert right != wrong
    assert len(re.findall(r"^\| \d", regions["sweep"], re.M)) == len(hardware.SHAPES)


def test_the_search_lab_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {
        "search.toml": {
            "epochs = 12": "epochs = 3",
            "weight_width = [2, 3, 4, 6]": "weight_width = [3, 6]",
            "data_in_width = [4, 5, 6, 8]": "data_in_width = [8]",
            "float - 1 point": "float - 5 points",
        },
        "run.py": {"TRIALS = 40": "TRIALS = 20", "SEEDS = (0, 1, 2, 3)": "SEEDS = (0,)"},
    }
    folder = _small("lab3_search", tmp_path, changes)
    _load(folder, monkeypatch).main()
    _check_page(folder)
    regions = _regions(folder / "README.md")
    assert "8 settings in all" in regions["facts"]
    # TPE does not leave out one of 8 settings in 20 trials.
    assert re.search(r"\| Bayesian \(TPE\) \| 0 \|.* 1\.00 x \| \d+ \|", regions["strategies"])


def test_the_channel_lab_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {
        "widths.toml": {
            "epochs = 8": "epochs = 1",
            "channel_multiplier = [0.5, 1.0, 2.0, 3.0]": "channel_multiplier = [0.5, 1.0]",
        },
        "nas.toml": {"epochs = 8": "epochs = 1", "trials = 24": "trials = 4"},
        "run.py": {"{(8, 8): 4, (16, 16): 1, (48, 48): 2}": "{(8, 8): 4, (16, 16): 1}"},
    }
    folder = _small("lab4_channels", tmp_path, changes)
    _load(folder, monkeypatch).main()
    _check_page(folder)
    regions = _regions(folder / "README.md")
    assert regions["grid"].count(" k |") == 4
    assert "16-16-16-5, as it is" in regions["best"]


def test_the_bench_tells_right_from_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    hardware = _load(EXAMPLES / "lab4_hardware", monkeypatch)
    right = hardware.test_by_hand((8, 2))
    assert (right.failed, right.cycles) == ((), hardware.promised((8, 2)))
    (fault,) = (
        fault for fault in hardware.FAULTS if fault[0] == "output not held until it is taken"
    )
    assert hardware.test_fault(fault).failed == ("with_stalls",)
