"""Constraints as people write them: "accuracy >= float - 1 point", "luts <= 60 % of baseline"."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from chop.errors import ConfigError
from chop.search.metrics import Metric, find_metric
from chop.search.result import ConstraintEntry

__all__ = ["Constraint", "entry_of", "parse_constraint", "violation_of", "violations"]

_NUMBER = r"\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?"
_WHOLE = re.compile(r"\s*(?P<metric>\w+)\s*(?P<sense><=|>=)\s*(?P<bound>.+?)\s*")
_PLAIN = re.compile(rf"(?P<number>{_NUMBER})\s*(?P<unit>%|points?)?")
_SHIFTED = re.compile(
    rf"(?P<reference>float|baseline)(?:\s*(?P<sign>[+-])\s*(?P<number>{_NUMBER})"
    r"\s*(?P<unit>%|points?)?)?"
)
_SCALED = re.compile(
    rf"(?P<number>{_NUMBER})\s*(?:(?P<percent>%)\s+of|\*)\s*(?P<reference>float|baseline)"
)
_FORMS = (
    "write '<metric> <= <number>' or '>=', where the number may be '97 %', 'float - 1 point', "
    "'baseline + 100' or '60 % of baseline'"
)

Reference = Literal["", "float", "baseline"]


@dataclass(frozen=True, slots=True)
class Constraint:
    """`metric` `sense` `factor` * reference + `offset`; without a reference the offset alone."""

    text: str
    metric: Metric
    sense: Literal["<=", ">="]
    reference: Reference
    factor: float
    offset: float

    def bound(self, references: Mapping[str, Mapping[str, float]]) -> float:
        """Returns the number it comes to; references by name, each of metrics by name.

        Raises ConfigError where the reference has no such metric.
        """
        if not self.reference:
            return self.offset
        values = references.get(self.reference, {})
        if self.metric.name not in values:
            raise ConfigError(
                f"constraint '{self.text}': {self.reference} has no '{self.metric.name}' (a "
                "baseline is the configuration itself, refused or not measured); write a number"
            )
        return self.factor * values[self.metric.name] + self.offset


def parse_constraint(text: str) -> Constraint:
    """Returns the constraint that a text means. Raises ConfigError for any other text."""
    who = f"constraint '{text}'"
    whole = _WHOLE.fullmatch(text)
    if whole is None:
        raise ConfigError(f"{who}: is not understood; {_FORMS}")
    metric = find_metric(whole["metric"], who)
    sense: Literal["<=", ">="] = "<=" if whole["sense"] == "<=" else ">="
    bound = whole["bound"]
    if plain := _PLAIN.fullmatch(bound):
        number = _amount(plain["number"], plain["unit"], metric, who)
        return Constraint(text, metric, sense, "", 0.0, number)
    if scaled := _SCALED.fullmatch(bound):
        factor = float(scaled["number"]) / (100 if scaled["percent"] else 1)
        return Constraint(
            text, metric, sense, _reference(scaled["reference"], metric, who), factor, 0.0
        )
    shifted = _SHIFTED.fullmatch(bound)
    if shifted is None:
        raise ConfigError(f"{who}: '{bound}' is not understood; {_FORMS}")
    reference = _reference(shifted["reference"], metric, who)
    offset = 0.0
    if shifted["number"]:
        offset = _amount(shifted["number"], shifted["unit"], metric, who)
        offset = -offset if shifted["sign"] == "-" else offset
    return Constraint(text, metric, sense, reference, 1.0, offset)


def _amount(number: str, unit: str | None, metric: Metric, who: str) -> float:
    value = float(number)
    if unit and not metric.share:
        raise ConfigError(
            f"{who}: '{unit}' is for accuracies, not for '{metric.name}'; write a number, "
            "or '60 % of baseline'"
        )
    value = value / 100 if unit else value
    if metric.share and value > 1:
        raise ConfigError(
            f"{who}: an accuracy is a share in 0..1, got {number}; write '{number} %' or points"
        )
    return value


def _reference(name: str, metric: Metric, who: str) -> Reference:
    if name == "float" and metric.source not in ("labels", "rtl"):
        raise ConfigError(
            f"{who}: the float network has no '{metric.name}'; write a number or 'baseline'"
        )
    return "float" if name == "float" else "baseline"


def entry_of(
    constraint: Constraint, references: Mapping[str, Mapping[str, float]]
) -> ConstraintEntry:
    """Returns the constraint with its number."""
    bound = constraint.bound(references)
    return ConstraintEntry(constraint.text, constraint.metric.name, constraint.sense, bound)


def violation_of(entry: ConstraintEntry, value: float) -> float:
    """Returns by how much of its bound the value misses the constraint; not above 0 if kept."""
    over = value - entry.bound if entry.sense == "<=" else entry.bound - value
    return over / max(abs(entry.bound), 1e-9)


def violations(
    entries: Sequence[ConstraintEntry], metrics: Mapping[str, float]
) -> tuple[float, ...]:
    """Returns the violation of each constraint."""
    return tuple(violation_of(entry, metrics[entry.metric]) for entry in entries)
