"""What the configuration of a training algorithm may say, and when its stages come."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from chop.config.parse import parse_section

if TYPE_CHECKING:
    from chop.nn.quantizer import Moment

__all__ = ["AlgorithmOptions", "Positive", "Stages", "parse_options"]

Positive = Annotated[float, Field(gt=0)]


class AlgorithmOptions(BaseModel):
    """Base of every algorithm's options: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Chosen = TypeVar("Chosen", bound=AlgorithmOptions)


def parse_options(cls: type[Chosen], values: Mapping[str, Any], algorithm: str) -> Chosen:
    """Returns the checked options. Raises ConfigError with one line for the first fault."""
    return parse_section(cls, values, f"training algorithm '{algorithm}'")


class Stages(AlgorithmOptions):
    """Fractions of the weights that are quantised, stage after stage.

    Attributes:
        fractions: in (0, 1], rising, the last one 1.
        at: when each stage begins, rising, the first one at 0 or later; empty spreads them evenly.
        unit: what `at` counts: the share of the training in 0..1, epochs, or steps.
    """

    fractions: list[float]
    at: list[float] = []
    unit: Literal["progress", "epoch", "step"] = "progress"

    @model_validator(mode="after")
    def _rising(self) -> Stages:
        fractions, at = self.fractions, self.at
        if not fractions or fractions[-1] != 1 or fractions[0] <= 0 or not _rises(fractions):
            raise ValueError(f"must have fractions rising in (0, 1] up to 1, got {fractions}")
        if at and (len(at) != len(fractions) or at[0] < 0 or not _rises(at)):
            raise ValueError(
                f"must have {len(fractions)} rising numbers in at, one per fraction, got {at}"
            )
        if not at and self.unit != "progress":
            raise ValueError(f"must have at when unit is {self.unit!r}, got none")
        return self

    def reached(self, moment: Moment) -> int:
        """Returns how many stages have begun."""
        now = {"progress": moment.progress, "epoch": moment.epoch, "step": moment.step}[self.unit]
        starts = self.at or [i / len(self.fractions) for i in range(len(self.fractions))]
        return sum(start <= now for start in starts)


def _rises(values: list[float]) -> bool:
    return all(a < b for a, b in pairwise(values))
