"""The least and the greatest times of an event graph, found sequence by sequence.

From times that are too early, sequences are moved to where the others put them, in the order of the
streams and against it, until nothing moves: that is the least solution. From times that are too
late, the other way round, the greatest one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from chop.formats.rounding import Ints
from chop.ops.events import EventGraph

__all__ = ["NEVER", "Solver", "Times"]

# Of every sequence.
Times = list[Ints]
# Before and after any cycle.
_EVER = -(np.int64(1) << 60)
NEVER = np.int64(1) << 60
# How often the graph is gone through before it counts as one without a solution.
_MOST_SWEEPS = 1000


class Solver:
    """Solves a graph for given depths of its FIFOs, again and again."""

    def __init__(self, graph: EventGraph) -> None:
        self._interval = graph.interval
        self._sequences = graph.sequences
        self._limits = {into: (key, out) for key, (into, out) in graph.fifos.items()}
        # Of every sequence those with arcs from it, those with arcs to it, and the latter arcs.
        count = len(graph.sequences)
        self._readers: list[set[int]] = [set() for _ in range(count)]
        self._makers: list[set[int]] = [set() for _ in range(count)]
        self._from: list[list[tuple[int, Ints | None, Ints, Ints]]] = [[] for _ in range(count)]
        for number, sequence in enumerate(graph.sequences):
            for arc in sequence.arcs:
                self._connect(arc.source, number)
                self._from[arc.source].append((number, arc.to, arc.of, arc.cycles))
        for into, out in graph.fifos.values():
            self._connect(out, into)

    def earliest(
        self,
        depths: Mapping[tuple[str, int], int],
        latest: Times,
        start: Times | None = None,
        changed: Iterable[int] | None = None,
    ) -> Times | None:
        """Returns the least times; None where an event would be later than `latest`, or never is.

        `start` are times that none of them is before, of which all but those of the sequences
        `changed` agree with what leads to them.
        """
        times = list(start) if start is not None else self._idle()
        dirty = set(range(len(times))) if changed is None else set(changed)
        for _ in range(_MOST_SWEEPS):
            for number in self._there_and_back():
                if number not in dirty:
                    continue
                dirty.discard(number)
                found = self._moved_later(number, times, depths)
                if np.array_equal(found, times[number]):
                    continue
                if (found > latest[number]).any():
                    return None
                times[number] = found
                dirty |= self._readers[number]
            if not dirty:
                return times
        return None

    def latest(self, depths: Mapping[tuple[str, int], int], ends: Mapping[int, Ints]) -> Times:
        """Returns the greatest times with which these sequences are not later than these times.

        There must be a solution. Events from which nothing leads to an end may be at any time.
        """
        times = [np.full(len(s), NEVER) for s in self._sequences]
        for number, own in ends.items():
            times[number] = own.copy()
        dirty = set(range(len(times)))
        for _ in range(_MOST_SWEEPS):
            for number in self._there_and_back(back_first=True):
                if number not in dirty:
                    continue
                dirty.discard(number)
                found = self._moved_earlier(number, times, depths)
                if not np.array_equal(found, times[number]):
                    times[number] = found
                    dirty |= self._makers[number]
            if not dirty:
                break
        return times

    def _idle(self) -> Times:
        return [
            np.full(len(s), _EVER) if s.earliest is None else s.earliest.copy()
            for s in self._sequences
        ]

    def _connect(self, source: int, reader: int) -> None:
        self._readers[source].add(reader)
        self._makers[reader].add(source)

    def _there_and_back(self, back_first: bool = False) -> Iterable[int]:
        there = range(len(self._sequences))
        return (*reversed(there), *there) if back_first else (*there, *reversed(there))

    def _moved_later(
        self, number: int, times: Times, depths: Mapping[tuple[str, int], int]
    ) -> Ints:
        sequence, found = self._sequences[number], times[number].copy()
        for arc in sequence.arcs:
            bound = times[arc.source][arc.of] + arc.cycles
            if arc.to is None:
                np.maximum(found, bound, out=found)
            else:
                found[arc.to] = np.maximum(found[arc.to], bound)
        if number in self._limits:
            key, out = self._limits[number]
            np.maximum(found, self._shifted(times[out], -depths[key]) + 1, out=found)
        return self._apart(found, sequence.steps)

    def _moved_earlier(
        self, number: int, times: Times, depths: Mapping[tuple[str, int], int]
    ) -> Ints:
        found = times[number].copy()
        for reader, to, of, cycles in self._from[number]:
            bound = (times[reader] if to is None else times[reader][to]) - cycles
            np.minimum.at(found, of, bound)
        for into, (key, out) in self._limits.items():
            if out == number:
                np.minimum(found, self._shifted(times[into], depths[key]) - 1, out=found)
        # The same backwards in time.
        steps = self._sequences[number].steps
        return -self._apart(-found[::-1], (steps[-1] - steps)[::-1])[::-1]

    def _apart(self, found: Ints, steps: Ints) -> Ints:
        """Returns the times with the steps between them, the sample before included."""
        found = np.maximum.accumulate(found - steps) + steps
        first = found[-1] + 1 - self._interval
        if found[0] < first:
            found[0] = first
            found = np.maximum.accumulate(found - steps) + steps
        return found

    def _shifted(self, times: Ints, by: int) -> Ints:
        """Returns the times of the events so many later, in other samples too."""
        sample, place = np.divmod(np.arange(len(times), dtype=np.int64) + by, len(times))
        found: Ints = times[place] + sample * self._interval
        return found
