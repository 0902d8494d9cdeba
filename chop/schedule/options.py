"""What a user may ask of the hardware."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["HardwareOptions"]


class HardwareOptions(BaseModel):
    """The table [hardware].

    `target_initiation_interval`: cycles per sample that no layer may exceed; `max_multipliers`: the
    budget within which the interval is made as short as possible. With neither, the budget is 64.
    `lanes`: node -> [in, out] lanes, overriding both. `rounding` is the design's one mode.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    target_initiation_interval: int | None = Field(default=None, ge=1)
    max_multipliers: int | None = Field(default=None, ge=1)
    lanes: Mapping[str, tuple[int, int]] = Field(default_factory=dict)
    rom_style: Literal["auto", "logic", "distributed", "block"] = "auto"
    rounding: Literal["half_up", "floor", "half_even"] = "half_up"
