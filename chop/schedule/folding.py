"""Which lanes every layer gets: fewest multipliers for the interval, then least latency."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from chop.errors import ConfigError
from chop.formats.rounding import Ints
from chop.ir.meta import Cost, Folding
from chop.ops.base import Build, RomOptions
from chop.ops.timing import serial
from chop.schedule.matching import Choice, matching_foldings, stream_beats
from chop.schedule.options import HardwareOptions
from chop.schedule.pacing import edge_between, pass_edge
from chop.schedule.units import Dataflow, Unit

__all__ = ["choose_foldings", "intervals", "least_cost"]

_DEFAULT_MULTIPLIERS = 64
# Partial schedules kept per number of lanes on the last stream.
_BEAM = 3


@dataclass(frozen=True, slots=True)
class _Tail:
    """The first sample's beats on a stream: valid times, lanes, and whether the maker can wait."""

    valid: Ints
    lanes: int
    queued: bool


@dataclass(frozen=True, slots=True)
class _Partial:
    """The foldings chosen so far, the streams that are still to be read, the LUTs spent."""

    foldings: Mapping[str, Folding]
    tails: Mapping[str, _Tail]
    luts: int
    first: int


def choose_foldings(
    dataflow: Dataflow,
    options: HardwareOptions,
    rom: RomOptions,
    uneven: Collection[tuple[str, Folding]] = (),
) -> dict[str, Folding]:
    """Returns a folding for every unit, none of those that were found `uneven`.

    Every unit gets the fewest multipliers that keep the interval, and among those foldings the
    design's first output comes as early as possible (beam search over the exact timing of the first
    sample, LUTs as the tie-break). Raises ConfigError when the options cannot be met.
    """
    candidates = {
        unit.node: tuple(f for f in _candidates(unit, options) if (unit.node, f) not in uneven)
        for unit in dataflow.units
    }
    for node, found in candidates.items():
        if not found:
            raise ConfigError(
                f"hardware: node '{node}': its samples would take turns, one early and the next "
                "late, with all lanes that it may have; use other lanes or another interval"
            )
    _check_names(dataflow, options)
    pinned = {unit.node for unit in dataflow.units if _wanted(unit, options)}
    # No unit needs to be faster than the slowest can be.
    floor = max((min(f.cycles for f in found) for found in candidates.values()), default=1)
    interval = max(_interval(candidates, options, pinned), floor)
    chosen = {
        unit.node: _thrifty(unit, _cheapest(candidates[unit.node], interval), rom)
        for unit in dataflow.units
    }
    best = _quickest(dataflow, chosen, rom, interval)
    return _matched(dataflow, candidates, options, rom, interval) if best is None else best


def _quickest(
    dataflow: Dataflow, chosen: Mapping[str, Sequence[Folding]], rom: RomOptions, interval: int
) -> dict[str, Folding] | None:
    """Returns the choice whose first output comes first; None where no streams keep up."""
    states = [_Partial({}, {}, 0, 0)]
    for unit in dataflow.units:
        grown = [
            _extend(state, dataflow, unit, folding, rom, interval)
            for state in states
            for folding in chosen[unit.node]
        ]
        states = _prune([state for state in grown if state is not None], unit.node)
    best = min(states, key=lambda s: (s.first, _finished(s), s.luts), default=None)
    return None if best is None else dict(best.foldings)


def _matched(
    dataflow: Dataflow,
    candidates: Mapping[str, tuple[Folding, ...]],
    options: HardwareOptions,
    rom: RomOptions,
    interval: int,
) -> dict[str, Folding]:
    """Returns foldings with as few multipliers more as neighbours need to have lanes that match.

    Where that is too much for the budget, of the shortest interval for which it is not.
    """
    budget = options.max_multipliers
    if options.target_initiation_interval is None:
        fewest = (min(f.price for f in found) for found in candidates.values())
        budget = budget or max(_DEFAULT_MULTIPLIERS, sum(fewest))
        later = {f.cycles for found in candidates.values() for f in found if f.cycles > interval}
        # A stream of one lane takes as many cycles as it has elements.
        later |= {unit.site.output.elements for unit in dataflow.units}
        tries = [interval, *sorted(n for n in later if n > interval)]
    else:
        tries = [interval]
    stuck, used = "", 0
    for now in tries:
        choices = {
            unit.node: _choices(unit, candidates[unit.node], now, rom) for unit in dataflow.units
        }
        found = matching_foldings(dataflow, choices, now)
        if isinstance(found, str):
            stuck = stuck or found
            continue
        used = sum(folding.price for folding in found.values())
        if budget is None or used <= budget:
            as_many = {
                unit.node: [
                    choice.folding
                    for choice in choices[unit.node]
                    if choice.folding.price == found[unit.node].price
                    and (not unit.op.is_buffer or choice.folding == found[unit.node])
                ]
                for unit in dataflow.units
            }
            exact = {name: [folding] for name, folding in found.items()}
            best = _quickest(dataflow, as_many, rom, now) or _quickest(dataflow, exact, rom, now)
            return found if best is None else best
    if used:
        raise ConfigError(
            f"hardware: an interval of {interval} cycles takes {used} multipliers in lanes that "
            f"match, more than max_multipliers = {budget}; raise one of the two"
        )
    raise ConfigError(
        f"hardware: node '{stuck}': no lanes keep an interval of {interval} cycles; "
        "use a larger target_initiation_interval or other lanes"
    )


def _choices(unit: Unit, found: Iterable[Folding], interval: int, rom: RomOptions) -> list[Choice]:
    keeping = [folding for folding in found if folding.cycles <= interval]
    if not unit.op.is_buffer:
        return [Choice(folding) for folding in keeping]
    return [Choice(f, unit.op.cost(unit.site, Build(f, rom)).luts) for f in keeping]


def intervals(dataflow: Dataflow, options: HardwareOptions) -> list[int]:
    """Returns the intervals that differ in multipliers, shortest first, within `max_multipliers`.

    Raises ConfigError where no folding has so few multipliers.
    """
    candidates = {unit.node: _candidates(unit, options) for unit in dataflow.units}
    every = sorted({f.cycles for found in candidates.values() for f in found})
    least = max((min(f.cycles for f in found) for found in candidates.values()), default=1)
    if options.max_multipliers is not None:
        least = max(least, _fastest(candidates, options.max_multipliers))
    found, used = [], -1
    for interval in (cycles for cycles in every if cycles >= least):
        multipliers = _multipliers(candidates, interval)
        if multipliers != used:
            found.append(interval)
        used = multipliers
    return found or [least]


def least_cost(
    dataflow: Dataflow, options: HardwareOptions, rom: RomOptions, interval: int
) -> Cost:
    """Returns what the units take at least at an interval, resource by resource, without queues."""
    total = Cost()
    for unit in dataflow.units:
        costs = [
            unit.op.cost(unit.site, Build(folding, rom))
            for folding in _cheapest(_candidates(unit, options), interval)
        ]
        total += Cost(
            min(cost.luts for cost in costs),
            min(cost.ffs for cost in costs),
            min(cost.dsps for cost in costs),
            min(cost.brams for cost in costs),
        )
    return total


def _candidates(unit: Unit, options: HardwareOptions) -> tuple[Folding, ...]:
    found = _kernels(unit, options)
    wanted = _wanted(unit, options)
    if wanted is None:
        return found
    for what, value, possible in (
        ("in_lanes", wanted[0], {f.in_lanes for f in found}),
        ("out_lanes", wanted[1], {f.out_lanes for f in found}),
    ):
        if value is not None and value not in possible:
            last, *rest = sorted(possible, reverse=True)
            listed = f"{', '.join(map(str, sorted(rest)))} or {last}" if rest else str(last)
            raise ConfigError(
                f"node '{unit.node}': {what} must divide {last}, got {value}; use {listed}"
            )
    pinned = tuple(
        f for f in found if wanted[0] in (None, f.in_lanes) and wanted[1] in (None, f.out_lanes)
    )
    if not pinned:
        raise ConfigError(
            f"node '{unit.node}': in_lanes and out_lanes must be equal for "
            f"'{unit.op.name}', got {wanted[0]} and {wanted[1]}; use one number for both"
        )
    return pinned


def _kernels(unit: Unit, options: HardwareOptions) -> tuple[Folding, ...]:
    """Returns the foldings with multipliers, those with an adder graph, or both, as is asked."""
    own = options.kernels.get(unit.node) or options.kernels.get(unit.path)
    kernel = own or options.kernel
    found = unit.op.foldings(unit.site)
    if kernel == "multipliers":
        return found
    graphs = unit.op.adder_foldings(unit.site)
    if own == "adders" and not graphs:
        raise ConfigError(
            f"node '{unit.node}': operator '{unit.op.name}' has no adder graph here; "
            'use kernel "multipliers"'
        )
    return graphs if graphs and kernel == "adders" else (*found, *graphs)


def _wanted(unit: Unit, options: HardwareOptions) -> tuple[int | None, int | None] | None:
    """Returns the lanes asked for a unit, by its node or by the path of its module."""
    return options.lanes.get(unit.node) or options.lanes.get(unit.path)


def _check_names(dataflow: Dataflow, options: HardwareOptions) -> None:
    names = [unit.node for unit in dataflow.units]
    paths = {unit.path for unit in dataflow.units}
    for table, name in (
        *(("lanes", name) for name in options.lanes),
        *(("kernels", name) for name in options.kernels),
    ):
        if name not in names and name not in paths:
            raise ConfigError(
                f"hardware.{table}: no node '{name}' with hardware of its own; "
                f"use one of {', '.join(names)}"
            )


def _interval(
    candidates: Mapping[str, tuple[Folding, ...]], options: HardwareOptions, pinned: Set[str]
) -> int:
    target = options.target_initiation_interval
    fewest = {name: min(f.price for f in found) for name, found in candidates.items()}
    budget = options.max_multipliers
    if target is None:
        budget = budget or max(_DEFAULT_MULTIPLIERS, sum(fewest.values()))
        return _fastest(candidates, budget)
    for name, found in candidates.items():
        least = min(f.cycles for f in found)
        if least > target and name not in pinned:
            raise ConfigError(
                f"hardware: node '{name}' takes at least {least} cycles, more than "
                f"target_initiation_interval = {target}; use {least} or more"
            )
    used = _multipliers(candidates, target)
    if budget is not None and used > budget:
        raise ConfigError(
            f"hardware: target_initiation_interval = {target} takes {used} multipliers, more than "
            f"max_multipliers = {budget}; raise one of the two"
        )
    return target


def _fastest(candidates: Mapping[str, tuple[Folding, ...]], budget: int) -> int:
    """Returns the shortest interval within the budget of multipliers."""
    intervals = sorted({f.cycles for found in candidates.values() for f in found})
    low, high = 0, len(intervals) - 1
    if not intervals:
        return 1
    least = _multipliers(candidates, intervals[high])
    if least > budget:
        raise ConfigError(
            f"hardware: max_multipliers = {budget} is too few; every layer takes at least one, "
            f"{least} in all"
        )
    while low < high:
        middle = (low + high) // 2
        if _multipliers(candidates, intervals[middle]) <= budget:
            high = middle
        else:
            low = middle + 1
    return intervals[low]


def _multipliers(candidates: Mapping[str, tuple[Folding, ...]], interval: int) -> int:
    return sum(_cheapest(found, interval)[0].price for found in candidates.values())


def _cheapest(found: Iterable[Folding], interval: int) -> list[Folding]:
    """Returns the foldings of fewest multipliers that keep the interval, else the fastest."""
    every = list(found)
    keeping = [f for f in every if f.cycles <= interval]
    if not keeping:
        least = min(f.cycles for f in every)
        keeping = [f for f in every if f.cycles == least]
    fewest = min(f.price for f in keeping)
    return [f for f in keeping if f.price == fewest]


def _thrifty(unit: Unit, found: list[Folding], rom: RomOptions) -> list[Folding]:
    """Returns, of a buffer's foldings, those that cost at most half as much again as the least."""
    if not unit.op.is_buffer:
        return found
    luts = [unit.op.cost(unit.site, Build(folding, rom)).luts for folding in found]
    return [f for f, cost in zip(found, luts, strict=True) if 2 * cost <= 3 * min(luts)]


def _extend(
    state: _Partial,
    dataflow: Dataflow,
    unit: Unit,
    folding: Folding,
    rom: RomOptions,
    interval: int,
) -> _Partial | None:
    tails = dict(state.tails)
    seen = []
    for source in unit.sources:
        if source in dataflow.inputs and source not in tails:
            beats = dataflow.inputs[source].elements // folding.in_lanes
            tails[source] = _Tail(np.arange(beats, dtype=np.int64), folding.in_lanes, True)
        tail = tails[source]
        edge = edge_between(tail.lanes, folding.in_lanes)
        if (
            stream_beats(dataflow.stream_type(source).elements, tail.lanes, folding.in_lanes)
            > interval
        ):
            return None
        held = tail.valid if tail.queued or edge.narrow == 1 else tail.valid + 1
        seen.append(pass_edge(serial(held, edge.narrow), edge))
    build = Build(folding, rom)
    flow = unit.op.flow(unit.site, build, seen, 1)
    tails[unit.node] = _Tail(
        flow.valid, folding.out_lanes, flow.reserved is not None or unit.op.is_buffer
    )
    shown = [int(tails[s].valid[0]) for s in dataflow.outputs.values() if s in tails]
    final = Build(folding, rom, flow.in_depth, 1)
    return _Partial(
        {**state.foldings, unit.node: folding},
        tails,
        state.luts + unit.op.cost(unit.site, final).luts,
        min(shown, default=0),
    )


def _finished(state: _Partial) -> int:
    return max((int(tail.valid[-1]) for tail in state.tails.values()), default=0)


def _prune(states: list[_Partial], node: str) -> list[_Partial]:
    """Keeps the best few for every number of lanes on the newest stream."""
    groups: dict[int, list[_Partial]] = {}
    for state in states:
        groups.setdefault(state.tails[node].lanes, []).append(state)
    kept = []
    for lanes in sorted(groups):
        ranked = sorted(
            groups[lanes],
            key=lambda s: (int(s.tails[node].valid[-1]), int(s.tails[node].valid[0]), s.luts),
        )
        kept += ranked[:_BEAM]
    return kept
