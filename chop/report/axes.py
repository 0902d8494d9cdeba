"""Axes: which numbers stand at the ticks, and where a value lies between the ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Axis", "Scale", "Tick", "number", "scale_of"]


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis shows.

    `unit` is set behind the numbers of the ticks ("%"). `low` and `high` are ends that the values
    need not reach; `whole` keeps ticks at integers; `ticks` are names of 0, 1, ... in their place.
    """

    label: str
    log: bool = False
    unit: str = ""
    low: float | None = None
    high: float | None = None
    whole: bool = False
    ticks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tick:
    """A value and how it is written."""

    value: float
    text: str


@dataclass(frozen=True, slots=True)
class Scale:
    """The ends of an axis and its ticks."""

    low: float
    high: float
    log: bool
    ticks: tuple[Tick, ...]

    def holds(self, value: float) -> bool:
        """Whether the value can be shown."""
        return math.isfinite(value) and (value > 0 or not self.log)

    def share(self, value: float) -> float:
        """Returns the place of a value: 0 at the low end, 1 at the high one."""
        if self.log:
            low, high = math.log10(self.low), math.log10(self.high)
            return (math.log10(value) - low) / (high - low)
        return (value - self.low) / (self.high - self.low)


def scale_of(axis: Axis, values: Sequence[float], count: float) -> Scale:
    """Returns a scale that holds the values, with about `count` ticks at round numbers."""
    known = [v for v in values if math.isfinite(v) and (v > 0 or not axis.log)]
    known += [end for end in (axis.low, axis.high) if end is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if axis.ticks:
        ticks = tuple(Tick(float(i), text) for i, text in enumerate(axis.ticks))
        return Scale(low, max(high, low + 1), False, ticks)
    if axis.log:
        return _logarithmic(low, high, axis.unit, count)
    if low == high:
        low, high = (low - 0.5, high + 0.5) if low else (0.0, 1.0)
    step = _round_step((high - low) / max(2.0, count))
    step = max(1.0, step) if axis.whole else step
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    # A step of 2.5 needs a place more than its size tells.
    places += abs(step * 10**places - round(step * 10**places)) > 1e-9
    ticks = tuple(
        Tick(i * step, f"{i * step:,.{places}f}{axis.unit}") for i in range(first, last + 1)
    )
    return Scale(first * step, last * step, False, ticks)


def _logarithmic(low: float, high: float, unit: str, count: float) -> Scale:
    if not low > 0:
        low, high = 1.0, 10.0
    for factors in ((1, 2, 5), (1, 3), (1,)):
        places = [
            f * 10.0**e
            for e in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
            for f in factors
        ]
        first = max(v for v in places if v <= low * (1 + 1e-9))
        last = min(v for v in places if v >= high * (1 - 1e-9) and v > first)
        ticks = [v for v in places if first <= v <= last]
        if len(ticks) <= max(3.0, count):
            break
    return Scale(first, last, True, tuple(Tick(v, f"{number(v)}{unit}") for v in ticks))


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= step * (1 - 1e-9))


def number(value: float) -> str:
    """Returns a number as a person writes it: whole with commas, else four digits that count."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"
