"""What a tested module is: parameters, memory contents, test bench wiring and model."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.rtl.rtl_models import Model, round_saturate

HARDWARE = Path(__file__).parents[2] / "hw"
FOLDERS = ("arith", "memory", "stream", "layers")
PACKAGE = HARDWARE / "arith" / "chop_pkg.sv"
SOURCES = tuple(
    sorted(p for folder in FOLDERS for p in (HARDWARE / folder).glob("*.sv") if p != PACKAGE)
)
FILES = (PACKAGE, *SOURCES)

Parameters = Mapping[str, int | str]


@dataclass(frozen=True)
class Signal:
    """A stream or a plain signal: `lanes` elements of `width` bits."""

    name: str
    lanes: int = 1
    width: int = 1

    @property
    def bits(self) -> int:
        return self.lanes * self.width


@dataclass(frozen=True)
class Case:
    """A module with parameters.

    Attributes:
        sources, sinks: streams, as <name>_valid, <name>_ready, <name>_data in the test bench.
        randoms: signals that change at random in every cycle.
        wires: further signals of the test bench.
        ports: every port but clk_i and rst_ni -> expression over those signals.
        model: makes the module's model in its state after reset.
        roms: file name -> text.
    """

    module: str
    parameters: Parameters
    model: Callable[[], Model]
    ports: Mapping[str, str]
    sources: tuple[Signal, ...] = ()
    sinks: tuple[Signal, ...] = ()
    randoms: tuple[Signal, ...] = ()
    wires: tuple[Signal, ...] = ()
    roms: Mapping[str, str] = field(default_factory=dict)
    clocked: bool = True
    resettable: bool = True

    def __str__(self) -> str:
        shown = ",".join(f"{k}={v}" for k, v in self.parameters.items() if not k.endswith("File"))
        return f"{self.module}[{shown}]"


RANDOM = random.Random(2026)


def _rom(words: list[int], bits: int) -> str:
    return "".join(f"{word:0{-(-bits // 4)}x}\n" for word in words)


def rom_file(kind: str, words: list[int], bits: int) -> tuple[str, dict[str, str]]:
    """Returns the name of a file of these words, unique in a run, and its contents by name."""
    name = f"{kind}{RANDOM.getrandbits(40):010x}.mem"
    return name, {name: _rom(words, bits)}


def element(width: int, signed: bool) -> int:
    low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if signed else (0, (1 << width) - 1)
    return RANDOM.choice([low, high, 0, *[RANDOM.randint(low, high) for _ in range(5)]])


@dataclass(frozen=True)
class Cast:
    """Number formats of an element-wise layer: x, y, shifts, rounding."""

    in_width: int
    in_signed: bool
    out_width: int
    out_signed: bool
    right: int = 0
    left: int = 0
    rounding: int = 0

    def parameters(self) -> dict[str, int]:
        return {
            "InWidth": self.in_width,
            "InSigned": int(self.in_signed),
            "OutWidth": self.out_width,
            "OutSigned": int(self.out_signed),
            "ShiftRight": self.right,
            "ShiftLeft": self.left,
            "Rounding": self.rounding,
        }

    def finish(self, value: int) -> int:
        """Returns the output element of an exact value."""
        return round_saturate(
            value, self.right, self.left, self.rounding, self.out_width, self.out_signed
        )


def layer_ports(sources: str = "x") -> dict[str, str]:
    ports: dict[str, str] = {}
    for name in (*sources, "y"):
        own, other = ("o", "i") if name == "y" else ("i", "o")
        ports |= {
            f"{name}_data_{own}": f"{name}_data",
            f"{name}_valid_{own}": f"{name}_valid",
            f"{name}_ready_{other}": f"{name}_ready",
        }
    return ports
