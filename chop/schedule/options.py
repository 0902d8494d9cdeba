"""What a user may ask of the hardware."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["HardwareOptions"]


_LANES = ("in_lanes", "out_lanes")


def _lanes(value: object) -> object:
    if isinstance(value, int):
        return (value, value)
    if isinstance(value, Mapping):
        if not value or set(value) - set(_LANES):
            raise ValueError(f"takes in_lanes and out_lanes, got {dict(value)!r}")
        return tuple(value.get(name) for name in _LANES)
    return value


# None: left to the scheduler.
Lanes = Annotated[tuple[int | None, int | None], BeforeValidator(_lanes)]


Kernel = Literal["auto", "multipliers", "adders"]


class HardwareOptions(BaseModel):
    """The table [hardware].

    `target_initiation_interval`: cycles per sample that no layer may exceed. Otherwise the interval
    is made as short as the budgets allow: `max_multipliers`, `max_luts`, and what `device` (a
    target of `chop synthesize`) has of LUTs, flip-flops, DSPs and block RAM, by the compiler's
    estimate. With none of them, the budget is 64 multipliers.
    `lanes` overrides both for a node (or the path of a module): [in, out], a table of `in_lanes`
    and `out_lanes` of which one may be left out, or one number for both. `rounding` is the design's
    one mode.
    `kernel` is what linear layers and convolutions are made of: "multipliers", "adders" (one graph
    of shared additions per layer, a vector every few cycles, where there is one), or "auto",
    whichever takes fewer LUTs, a multiplier being counted as those it would take. `kernels`
    overrides it, as `lanes` does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    target_initiation_interval: int | None = Field(default=None, ge=1)
    max_multipliers: int | None = Field(default=None, ge=1)
    max_luts: int | None = Field(default=None, ge=1)
    device: str | None = None
    lanes: Mapping[str, Lanes] = Field(default_factory=dict)
    kernel: Kernel = "multipliers"
    kernels: Mapping[str, Kernel] = Field(default_factory=dict)
    rom_style: Literal["auto", "logic", "distributed", "block"] = "auto"
    rounding: Literal["half_up", "floor", "half_even"] = "half_up"
