"""Names of a graph as SystemVerilog identifiers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chop.schedule.identifiers import identifiers

_LEGAL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SOME_KEYWORDS = ("module", "reg", "output", "wire", "logic", "input", "always", "endmodule", "bit")


@pytest.mark.parametrize("name", ["x", "fc1", "layers_0_1", "a_b", "_x"])
def test_a_legal_name_stays(name: str) -> None:
    assert identifiers([name]) == {name: name}


@pytest.mark.parametrize("name", _SOME_KEYWORDS)
def test_a_keyword_gets_a_suffix_in_any_case(name: str) -> None:
    assert identifiers([name]) == {name: f"{name}_node"}
    assert identifiers([name.upper()]) == {name.upper(): f"{name.upper()}_node"}


@pytest.mark.parametrize(("name", "expected"), [("u_fc", "nu_fc"), ("U_x", "nU_x"), ("us", "us")])
def test_the_prefix_of_instances_is_theirs(name: str, expected: str) -> None:
    assert identifiers([name]) == {name: expected}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.b", "a_b"], ["a_b", "a_b_2"]),
        (["a_b", "a.b", "a-b"], ["a_b", "a_b_2", "a_b_3"]),
        (["x", "X"], ["x", "X_2"]),
        (["reg", "reg_node"], ["reg_node", "reg_node_2"]),
        (["0", "_0", "n0"], ["n0", "n0_2", "n0_3"]),
        (["", "_", "é"], ["n", "n_2", "n_3"]),
    ],
)
def test_names_that_clash_are_numbered(names: list[str], expected: list[str]) -> None:
    assert list(identifiers(names).values()) == expected


def test_reserved_words_are_left_alone() -> None:
    assert identifiers(["top", "CLK_I", "y"], ["clk_i", "rst_ni", "top"]) == {
        "top": "top_2",
        "CLK_I": "CLK_I_2",
        "y": "y",
    }


@given(st.lists(st.text(max_size=6), unique=True, max_size=12))
def test_identifiers_are_legal_and_differ_by_more_than_case(names: list[str]) -> None:
    found = identifiers(names, ["clk_i"])
    assert list(found) == names
    assert all(_LEGAL.fullmatch(word) for word in found.values())
    lowered = [word.lower() for word in found.values()]
    assert len({*lowered, "clk_i"}) == len(names) + 1
