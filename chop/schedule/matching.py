"""Lanes that match: the fewest multipliers with which every stream keeps the interval.

The fewest multipliers of each unit alone may have lanes that no neighbour has a divisor of in
common: the stream between them would need more cycles than the interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chop.ir.meta import Folding
from chop.schedule.pacing import edge_between
from chop.schedule.units import Dataflow, Unit

__all__ = ["Choice", "matching_foldings", "stream_beats"]

# Lanes of open streams that are followed at once.
_MOST_STATES = 512


@dataclass(frozen=True, slots=True)
class Choice:
    """A folding and what it costs: multipliers, and then LUTs where those count (buffers)."""

    folding: Folding
    luts: int = 0

    @property
    def price(self) -> tuple[int, int]:
        return self.folding.price, self.luts


@dataclass(frozen=True, slots=True)
class _State:
    """Lanes of the streams that are still to be read, and the cheapest way to have them."""

    price: tuple[int, int]
    lanes: Mapping[str, int]
    before: _State | None
    folding: Folding | None


def stream_beats(elements: int, lanes: int, wanted: int) -> int:
    """Returns the cycles that a sample's elements take on the way to a reader of other lanes."""
    return elements // (lanes // edge_between(lanes, wanted).narrow)


def matching_foldings(
    dataflow: Dataflow, choices: Mapping[str, Sequence[Choice]], interval: int
) -> dict[str, Folding] | str:
    """Returns foldings with which every stream keeps the interval, at the least price in all.

    Else the name of the unit at which no lanes are left. Exact while no more than `_MOST_STATES`
    combinations of lanes are open at once; beyond that the cheapest are followed.
    """
    states = [_State((0, 0), {}, None, None)]
    last = {source: unit.node for unit in dataflow.units for source in unit.sources}
    kept = set(dataflow.outputs.values())
    for unit in dataflow.units:
        grown: dict[tuple[int, ...], _State] = {}
        closed = {s for s in unit.sources if last[s] == unit.node and s not in kept}
        for state in states:
            for choice in choices[unit.node]:
                lanes = _read(state.lanes, dataflow, unit, choice.folding, interval)
                if lanes is None:
                    continue
                (m, luts), (more, extra) = state.price, choice.price
                price = (m + more, luts + extra)
                if unit.node in last:
                    lanes[unit.node] = choice.folding.out_lanes
                lanes = {name: n for name, n in lanes.items() if name not in closed}
                key = tuple(lanes.values())
                if key not in grown or price < grown[key].price:
                    grown[key] = _State(price, lanes, state, choice.folding)
        if not grown:
            return unit.node
        states = sorted(grown.values(), key=lambda state: state.price)[:_MOST_STATES]
    found: list[Folding] = []
    at: _State | None = states[0]
    while at is not None and at.folding is not None:
        found.append(at.folding)
        at = at.before
    return {u.node: f for u, f in zip(dataflow.units, reversed(found), strict=True)}


def _read(
    before: Mapping[str, int], dataflow: Dataflow, unit: Unit, folding: Folding, interval: int
) -> dict[str, int] | None:
    """Returns the open lanes with those of the ports read; None where a stream is too slow."""
    lanes = dict(before)
    for source in unit.sources:
        if source in dataflow.inputs:
            # A port has the lanes of its widest reader.
            lanes[source] = max(lanes.get(source, 1), folding.in_lanes)
        elements = dataflow.stream_type(source).elements
        if stream_beats(elements, lanes[source], folding.in_lanes) > interval:
            return None
    return lanes
