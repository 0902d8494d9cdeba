"""The design under back pressure: who waits for whom, so that every queue is as short as it can be.

In the free run (plan.py) every beat moves as soon as it can, and queues up wherever its reader is
slower for a while. Here the same outputs come in the same cycles, but every beat moves only when
its reader has a place for it. Two bounds are carried from the outputs to the inputs:

- `latest`: the last cycles in which a stream's beats may be offered for nothing behind to change;
- `wanted`: the cycles from which their reader, with its least buffer, has a place for them.

A unit that can wait *holds* its beats until `wanted`, or for less where it could not catch up: the
minimum of two runs that keep its distances keeps them too (difference constraints are closed under
minimum). Elements before an operator are mostly fewer than behind it, and a port holds them for
nothing. Other units *follow*: their beats move as soon as their inputs come. So does the branch of
a join that must wait for the other one: there the FIFO at the join is the place to wait.

All queues are as deep as this run fills them. So it is a schedule of the design with finite queues,
and the hardware, a timed event graph, is at least as fast; it is no faster than the free run, whose
outputs this one has. Interval and latency are therefore those predicted, and nothing can deadlock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from chop.errors import VerifyError
from chop.formats.rounding import Ints
from chop.ops.timing import Flow, occupancy, serial
from chop.schedule.pacing import Edge, edge_between, narrowed, pass_edge

if TYPE_CHECKING:
    from chop.schedule.plan import Run, UnitRun
    from chop.schedule.units import Unit

__all__ = ["Depths", "waiting_depths"]


@dataclass(frozen=True, slots=True)
class Depths:
    """How deep the queues of a unit are, 0 for a FIFO that is not there."""

    in_depth: int
    out_depth: int
    fifo: int
    in_fifos: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Bounds:
    """Of a stream: see the module. `wanted` is None where all readers have a place at any time."""

    latest: Ints
    wanted: Ints | None


@dataclass(slots=True)
class _Waiting:
    """A run under back pressure in the making; `valid` are the beats at a FIFO's entrance."""

    run: Run
    at_last: bool
    bounds: dict[str, _Bounds] = field(default_factory=dict)
    offered: dict[str, Ints] = field(default_factory=dict)
    valid: dict[str, Ints] = field(default_factory=dict)
    waiters: set[str] = field(default_factory=set)


def waiting_depths(run: Run, at_last: bool) -> dict[str, Depths] | None:
    """Returns the depths of every unit's queues under back pressure.

    `run` is a periodic free run. With `at_last` beats are held until `latest`, whatever is wanted:
    better where a fast branch waits for slower ones with time to spare. None where the run has too
    few samples to show the depths.
    """
    waiting = _Waiting(run, at_last)
    _backward(waiting)
    _forward(waiting)
    row = _periodic_row(waiting)
    if row is None:
        return None
    return _depths(waiting, row)


# ---- From the outputs to the inputs ----


def _backward(waiting: _Waiting) -> None:
    run = waiting.run
    asked: dict[str, list[_Bounds]] = {name: [] for name in run.streams}
    for stream in run.dataflow.outputs.values():
        asked[stream].append(_Bounds(run.offered[stream], run.offered[stream]))
    for unit in reversed(run.dataflow.units):
        name = unit.node
        waiting.bounds[name] = _joined(waiting, name, asked[name])
        _hold(waiting, unit)
        for source, bounds in zip(unit.sources, _asked(waiting, unit), strict=True):
            asked[source].append(_before_edge(bounds, _edge(run, source, unit)))
    for name in run.dataflow.inputs:
        waiting.bounds[name] = _joined(waiting, name, asked[name])
        steps = np.arange(len(run.offered[name]), dtype=np.int64)
        slowest = _slowest(run, name)
        given = _chosen(run.streams[name].valid, waiting.bounds[name], steps)
        waiting.offered[name] = serial(given, slowest)


def _joined(waiting: _Waiting, name: str, asked: list[_Bounds]) -> _Bounds:
    """Returns what all readers of a stream ask for; a beat leaves when the last has taken it."""
    latest = np.minimum.reduce([bounds.latest for bounds in asked])
    ramp = np.arange(len(latest), dtype=np.int64) * _slowest(waiting.run, name)
    latest = np.minimum.accumulate((latest - ramp)[::-1])[::-1] + ramp
    wanted = [bounds.wanted for bounds in asked if bounds.wanted is not None]
    if wanted and (waiting.at_last or len(wanted) < len(asked)):
        # A FIFO beside holds every beat until the other reader is through with it.
        return _Bounds(latest, latest)
    return _Bounds(latest, np.maximum.reduce(wanted) if wanted else None)


def _hold(waiting: _Waiting, unit: Unit) -> None:
    """Chooses when the beats of a unit that can wait are offered."""
    run, name = waiting.run, unit.node
    flow, bounds = run.flows[name].flow, waiting.bounds[name]
    slowest, valid = _slowest(run, name), run.streams[name].valid
    if flow.wait is None or flow.steps is None or name in run.fifos or bounds.wanted is None:
        return
    if flow.reserved is not None:
        # The steps may run ahead of the converter, into the queue.
        given = _chosen(flow.valid, bounds, flow.steps)
        waiting.valid[name] = given
        waiting.offered[name] = serial(given, slowest)
        waiting.waiters.add(name)
        return
    steps = flow.steps + np.arange(len(valid), dtype=np.int64) * (slowest - 1)
    given = _chosen(valid, bounds, steps)
    made = flow.wait(run.flows[name].seen[0], given, slowest)
    if (made.valid <= given).all():
        waiting.offered[name] = given
        waiting.waiters.add(name)


def _chosen(earliest: Ints, bounds: _Bounds, steps: Ints) -> Ints:
    """Returns the run nearest to what is wanted; `steps` are the least distances, summed up."""
    latest = np.minimum.accumulate((bounds.latest - steps)[::-1])[::-1] + steps
    if bounds.wanted is None:
        return latest
    wanted = np.maximum.accumulate(np.maximum(earliest, bounds.wanted) - steps) + steps
    return np.minimum(wanted, latest)


def _asked(waiting: _Waiting, unit: Unit) -> list[_Bounds]:
    """Returns what a unit asks of its inputs, in beats of its own lanes."""
    run, name = waiting.run, unit.node
    done, bounds = run.flows[name], waiting.bounds[name]
    flow = done.flow
    if name in waiting.waiters and flow.wait is not None:
        made = flow.wait(done.seen[0], _held(waiting, name), _slowest(run, name))
        assert made.needed is not None
        return [_Bounds(made.needed, made.places)]
    if not _follows(waiting, unit):
        # It moves as in the free run.
        return [
            _Bounds(taken - fifo, taken - 2 * fifo)
            for taken, fifo in zip(flow.taken, _fifos(done), strict=True)
        ]
    latest = bounds.latest - (name in run.fifos)
    if flow.wait is not None:
        assert flow.steps is not None
        slowest = 1 if name in run.fifos else _slowest(run, name)
        steps = flow.steps
        if flow.reserved is None:
            steps = steps + np.arange(len(steps), dtype=np.int64) * (slowest - 1)
        given = _chosen(flow.valid, _Bounds(latest, None), steps)
        made = flow.wait(done.seen[0], given, slowest)
        assert made.needed is not None
        return [_Bounds(made.needed, None)]
    assert flow.delay is not None
    # A beat that goes into a FIFO is in it for a cycle at least.
    fifo = any(_fifos(done))
    latest = latest - flow.delay - fifo
    ramp = np.arange(len(latest), dtype=np.int64)
    latest = np.minimum.accumulate((latest - ramp)[::-1])[::-1] + ramp
    wanted = bounds.wanted
    if wanted is not None:
        wanted = wanted - flow.delay - fifo - (name in run.fifos)
    # The inputs that come last wait for the reader behind; the others wait in their FIFOs.
    least = min(done.in_fifo_depths)
    return [_Bounds(latest, wanted if depth == least else None) for depth in done.in_fifo_depths]


def _before_edge(bounds: _Bounds, edge: Edge) -> _Bounds:
    """Returns what is asked of a stream before its converters."""
    latest: Ints = bounds.latest
    wanted: Ints | None = bounds.wanted
    # The parts come one a cycle at most, and the last a cycle before the whole.
    parts = np.arange(-edge.widen, 0, dtype=np.int64)
    slices = np.arange(edge.narrow, dtype=np.int64)
    if edge.widen > 1:
        latest = (latest[:, None] + parts).reshape(-1)
        wanted = None if wanted is None else (wanted[:, None] + parts).reshape(-1)
    if edge.narrow > 1:
        latest = (latest.reshape(-1, edge.narrow) - slices).min(axis=1)
        wanted = None if wanted is None else (wanted.reshape(-1, edge.narrow) - slices).max(axis=1)
    return _Bounds(latest, wanted)


# ---- From the inputs to the outputs ----


def _forward(waiting: _Waiting) -> None:
    run = waiting.run
    for unit in run.dataflow.units:
        name, done = unit.node, run.flows[unit.node]
        seen = _seen(waiting, unit, waiting.offered)
        if name not in waiting.waiters:
            valid = run.streams[name].valid
            if _follows(waiting, unit):
                valid = _follow(run, unit, seen, run.samples).valid
            waiting.valid[name] = waiting.offered[name] = valid
            if name in run.fifos:
                slowest, bounds = _slowest(run, name), waiting.bounds[name]
                steps = np.arange(len(valid), dtype=np.int64) * slowest
                waiting.offered[name] = _chosen(valid + 1, bounds, steps)
            elif done.flow.reserved is not None:
                waiting.offered[name] = serial(valid, _slowest(run, name))
        if (waiting.offered[name] > waiting.bounds[name].latest).any():
            raise VerifyError(f"schedule: node '{name}' comes too late (a bug of chop)")


def _periodic_row(waiting: _Waiting) -> int | None:
    """Returns the last sample that every stream repeats; None: there is none."""
    run = waiting.run
    repeats = np.ones(run.samples - 1, dtype=bool)
    for streams in (waiting.offered, waiting.valid):
        for times in streams.values():
            samples = times.reshape(run.samples, -1)
            repeats &= (np.diff(samples, axis=0) == run.interval).all(axis=1)
    rows = np.flatnonzero(repeats)
    return int(rows[-1]) + 1 if len(rows) else None


def _depths(waiting: _Waiting, row: int) -> dict[str, Depths]:
    """Returns what the queues hold in the run that goes on like the sample `row`."""
    run = waiting.run
    last = max(int(t.reshape(run.samples, -1)[row].max()) for t in waiting.offered.values())
    first = min(
        int(waiting.offered[name].reshape(run.samples, -1)[row].min())
        for name in run.dataflow.inputs
    )
    # As many samples more as are in flight at once.
    samples = row + 2 + (last - first) // run.interval
    goes_on = _continuation(run, row, samples)
    offered = {name: goes_on(times) for name, times in waiting.offered.items()}
    left = {name: times + _slowest(run, name) - 1 for name, times in offered.items()}
    found: dict[str, Depths] = {}
    claims: dict[str, Ints] = {}
    for unit in run.dataflow.units:
        name, done = unit.node, run.flows[unit.node]
        seen, flow = _seen(waiting, unit, offered), done.flow
        in_depth, reserved = flow.in_depth, flow.reserved
        taken = [goes_on(times) for times in flow.taken]
        if flow.wait is not None and name in waiting.waiters:
            held = offered[name] if reserved is None else goes_on(waiting.valid[name])
            flow = flow.wait(seen[0], held, _slowest(run, name))
            in_depth, reserved, taken = flow.in_depth, flow.reserved, seen
            if reserved is None and (flow.valid > offered[name]).any():
                raise VerifyError(f"schedule: node '{name}' is late (a bug of chop)")
        elif _follows(waiting, unit):
            flow = _follow(run, unit, seen, samples)
            in_depth, reserved, taken = flow.in_depth, flow.reserved, list(flow.taken)
        else:
            in_depth = flow.patient_depth if done.patient else flow.in_depth
            reserved = None if reserved is None else goes_on(reserved)
        out_depth = 1
        if reserved is not None:
            out_depth = occupancy(reserved, left[name] + 1)
            claims[name] = reserved[out_depth:]
        fifo = 0
        if name in run.fifos:
            fifo = occupancy(goes_on(waiting.valid[name]), left[name] + 1)
        pushed = [
            _pushed(run, source, unit, times, t, claims)
            for source, times, t in zip(unit.sources, seen, taken, strict=True)
        ]
        in_fifos = tuple(
            occupancy(p, t + 1) if fifo_there else 0
            for p, t, fifo_there in zip(pushed, taken, _fifos(done), strict=True)
        )
        found[name] = Depths(in_depth, out_depth, fifo, in_fifos)
    return found


def _pushed(
    run: Run, source: str, unit: Unit, seen: Ints, taken: Ints, claims: Mapping[str, Ints]
) -> Ints:
    """Returns when beats come into the FIFO before an input, at the latest.

    They may stay with their maker as long as it has nothing better to do: in its queue until the
    slot is claimed anew (`claims`), in a register, or at a fork, until the next beat comes.
    """
    maker = run.flows.get(source)
    straight = _slowest(run, source) == 1 and _edge(run, source, unit) == Edge(1, 1)
    if not straight or source in run.fifos:
        return seen
    latest = taken - 1
    if maker is not None and source in claims:
        again = claims[source]
        latest[: len(again)] = np.minimum(latest[: len(again)], again - 1)
    elif maker is not None and maker.flow.delay is None:
        return seen
    if source not in claims or run.dataflow.readers(source) > 1:
        latest[:-1] = np.minimum(latest[:-1], seen[1:] - 1)
    return np.maximum(seen, latest)


def _continuation(run: Run, row: int, samples: int) -> Callable[[Ints], Ints]:
    after = (np.arange(1, samples - row, dtype=np.int64) * run.interval)[:, None]

    def goes_on(times: Ints) -> Ints:
        rows = times.reshape(run.samples, -1)[: row + 1]
        return np.concatenate([rows, rows[row] + after]).reshape(-1)

    return goes_on


# ---- Small things ----


def _held(waiting: _Waiting, name: str) -> Ints:
    """Returns when a waiting unit's beats are given: into its queue, if it has one."""
    return waiting.valid.get(name, waiting.offered[name])


def _fifos(done: UnitRun) -> list[bool]:
    return [depth > 0 for depth in done.in_fifo_depths]


def _follows(waiting: _Waiting, unit: Unit) -> bool:
    """Whether a unit hands on its beats as soon as its inputs come, whenever that is."""
    done = waiting.run.flows[unit.node]
    if done.flow.wait is not None:
        wanted = waiting.bounds[unit.node].wanted
        return unit.node not in waiting.waiters and wanted is None
    return done.flow.delay is not None and (len(unit.sources) == 1 or all(_fifos(done)))


def _follow(run: Run, unit: Unit, seen: list[Ints], samples: int) -> Flow:
    """Returns the flow of a unit that follows; `valid` are the cycles in which beats are given."""
    name, done = unit.node, run.flows[unit.node]
    times = [t + fifo for t, fifo in zip(seen, _fifos(done), strict=True)]
    flow, slowest = unit.op.flow(unit.site, done.build, times, samples), _slowest(run, name)
    if name not in run.waiting or slowest == 1:
        return flow

    def stalled(left: Ints) -> Flow:
        return unit.op.stalled_flow(unit.site, done.build, times, samples, left)

    found = narrowed(flow, slowest, stalled)
    if found is None:
        raise VerifyError(f"schedule: node '{name}': its beats never settle (a bug of chop)")
    return replace(found.flow, valid=found.left - slowest + 1)


def _edge(run: Run, source: str, unit: Unit) -> Edge:
    return edge_between(run.streams[source].lanes, run.flows[unit.node].build.folding.in_lanes)


def _slowest(run: Run, name: str) -> int:
    return run.slowest[name]


def _seen(waiting: _Waiting, unit: Unit, offered: Mapping[str, Ints]) -> list[Ints]:
    return [pass_edge(offered[s], _edge(waiting.run, s, unit)) for s in unit.sources]
