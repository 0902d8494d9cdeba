"""docs/operators.md: up to date, and complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chop.cli.main import main
from chop.cli.operator_page import operator_page
from chop.ops.base import Op
from chop.ops.registry import operators

_ROOT = Path(__file__).parents[2]


def test_the_page_is_up_to_date() -> None:
    written = (_ROOT / "docs" / "operators.md").read_text(encoding="utf-8")
    assert written == operator_page(), "run 'make docs'"


def test_the_command_prints_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "operators", "--markdown"]) == 0
    assert capsys.readouterr().out == operator_page()
    assert main(["list", "models", "--markdown"]) == 2
    assert capsys.readouterr().err == (
        "error: list models: --markdown is for operators, without --json\n"
    )


@pytest.mark.parametrize("op", operators(), ids=lambda op: str(op.name))
def test_an_operator_with_a_timing_of_its_own_says_it(op: Op[Any]) -> None:
    own = type(op).flow is not Op.flow or type(op).stages is not Op.stages
    if own and (op.module or op.modules):
        assert op.cycles != Op.cycles, f"operator '{op.name}': add `cycles` beside its summary"


def test_the_page_tells_what_operators_are_called_by() -> None:
    page = operator_page()
    for op in operators():
        assert f"\n### {op.name}\n" in page
    sections = {part.split("\n")[0]: part for part in page.split("\n### ")}
    relu = sections["relu"]
    assert "- Spellings: `nn.ReLU`, `functional.relu[_]`, `torch.relu`, `x.relu[_]`" in relu
    assert "- RTL: `chop_relu`\n- Cycles: elements / lanes; latency 1\n" in relu
    assert "- Streams: all formats but mxint\n" in relu
    assert "- Streams: all formats\n" in sections["linear"]
    assert "- Streams: all formats but mxint\n" in sections["clamp"]
    assert "- RTL: none: wires\n- Cycles: none\n" in sections["reshape"]
    assert "    y = saturate(round(max(x, 0)" in sections["`chop_relu`"]
    assert "`torch._C" not in page
    assert "`None." not in page
