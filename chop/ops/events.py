"""The handshakes of a design as a timed event graph, which finite queues are part of.

Every unit's cycles are fixed, so that whatever moves is one of these: event k of a sequence is no
earlier than event i of another one and some cycles more. `chop/ops/timing.py` says when beats move
if no queue is ever full; here capacities count. The graph has the events of one sample, those of
every other sample are an interval apart: its least solution is where a design ends up that is given
a sample every interval.

An index beyond a sequence's end, or before its beginning, is one of the sample after or before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from chop.formats.rounding import Ints

__all__ = ["Arc", "EventGraph", "Offer", "Sequence_"]


@dataclass(frozen=True, slots=True, eq=False)
class Arc:
    """Event `to[k]` of a sequence is `cycles[k]` after event `of[k]` of the sequence `source`.

    Or later. `to` is None for all of them, in order.
    """

    to: Ints | None
    source: int
    of: Ints
    cycles: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Sequence_:
    """Events at least as far apart as their `steps`, with the arcs that lead to them."""

    steps: Ints
    earliest: Ints | None = None
    arcs: list[Arc] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True, slots=True, eq=False)
class Offer:
    """A stream that nobody takes yet: `count` beats a sample.

    `bounds` (beats, source, events, cycles): these beats are valid so long after these events.
    `claims` (sequence, events, beats, cycles): these events wait for the handshakes of these beats.
    """

    count: int
    bounds: tuple[tuple[Ints, int, Ints, int], ...]
    claims: tuple[tuple[int, Ints, Ints, int], ...]


class EventGraph:
    """Sequences of events; the ones of makers stand before those of readers, mostly."""

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.sequences: list[Sequence_] = []
        # Of every FIFO: the handshakes into it and out of it.
        self.fifos: dict[tuple[str, int], tuple[int, int]] = {}

    def add(self, steps: Ints | int, earliest: Ints | None = None) -> int:
        """Returns a new sequence, of so many events a cycle apart or of events at these steps."""
        if isinstance(steps, int):
            steps = np.arange(steps, dtype=np.int64)
        self.sequences.append(Sequence_(steps, earliest))
        return len(self.sequences) - 1

    def after(self, sequence: int, to: Ints | None, source: int, of: Ints, cycles: int = 0) -> None:
        """Says that events come so many cycles after others, or later."""
        sample, place = np.divmod(of, len(self.sequences[source]))
        arc = Arc(to, source, place, cycles + sample * self.interval)
        self.sequences[sequence].arcs.append(arc)

    def source(self, count: int) -> Offer:
        """Returns a port, which offers a beat a cycle from cycle 0 on."""
        here = self.add(count, np.arange(count, dtype=np.int64))
        beats = np.arange(count, dtype=np.int64)
        return Offer(count, ((beats, here, beats, 0),), ())

    def take(self, offer: Offer, into: int | None = None, at: Ints | None = None) -> int:
        """Returns the sequence of the stream's handshakes: a new one, or these events `at` of one.

        What is said of `into` besides is when the beats can be taken.
        """
        if into is None:
            into = self.add(offer.count)
        size = len(self.sequences[into])
        for beats, source, of, cycles in offer.bounds:
            self.after(into, beats if at is None else at[beats], source, of, cycles)
        for sequence, to, beats, cycles in offer.claims:
            sample, place = np.divmod(beats, offer.count)
            place = place if at is None else at[place]
            self.after(sequence, to, into, place + sample * size, cycles)
        return into

    def offered(
        self, sequence: int, of: Ints, latency: int, capacity: int | None = None, wait: int = 0
    ) -> Offer:
        """Returns a stream whose beats are valid `latency` cycles after the events `of`.

        With a capacity, each of these waits until the beat so many before it has left, and `wait`
        cycles more.
        """
        beats = np.arange(len(of), dtype=np.int64)
        claims = () if capacity is None else ((sequence, of, beats - capacity, wait),)
        return Offer(len(of), ((beats, sequence, of, latency),), claims)

    def elastic(self, inputs: Sequence[Offer], latency: int) -> Offer:
        """Returns what leaves an elastic pipeline that takes a beat of every input at once."""
        taken = self.take(inputs[0])
        for offer in inputs[1:]:
            self.take(offer, taken)
        return self.offered(taken, np.arange(inputs[0].count, dtype=np.int64), latency, latency)

    def fifo(self, offer: Offer, key: tuple[str, int]) -> Offer:
        """Returns what comes out of a FIFO whose depth is said later, by its key."""
        into = self.take(offer)
        out = self.add(offer.count)
        beats = np.arange(offer.count, dtype=np.int64)
        self.fifos[key] = (into, out)
        return Offer(offer.count, ((beats, into, beats, 1),), ((out, beats, beats, 0),))

    def fork(self, offer: Offer, branches: int) -> list[Offer]:
        """Returns the branches of an eager fork."""
        if branches == 1:
            return [offer]
        taken = self.take(offer)
        beats = np.arange(offer.count, dtype=np.int64)
        bounds = (*offer.bounds, (beats, taken, beats - 1, 1))
        return [Offer(offer.count, bounds, ((taken, beats, beats, 0),))] * branches

    def narrow(self, offer: Offer, parts: int) -> Offer:
        """Returns the slices that a converter cuts beats into."""
        if parts == 1:
            return offer
        taken, count = self.take(offer), offer.count * parts
        first = np.arange(offer.count, dtype=np.int64)
        bounds = [(beats * parts, s, of, cycles) for beats, s, of, cycles in offer.bounds]
        bounds.append((first * parts, taken, first - 1, 1))
        return Offer(count, tuple(bounds), ((taken, first, first * parts + parts - 1, 0),))

    def widen(self, offer: Offer, parts: int) -> Offer:
        """Returns the beats that a converter puts parts together to."""
        if parts == 1:
            return offer
        taken = self.take(offer)
        beats = np.arange(offer.count // parts, dtype=np.int64)
        bounds = ((beats, taken, beats * parts + parts - 1, 1),)
        # The next beat's first part waits until the register is free.
        return Offer(len(beats), bounds, ((taken, beats * parts, beats - 1, 0),))


def folded_events(
    graph: EventGraph,
    offer: Offer,
    sizes: tuple[int, int, int],
    input_stationary: bool,
    latency: int,
    depths: tuple[int, int],
) -> Offer:
    """Returns the result of `chop_linear`: `sizes` are vectors, input beats and output groups.

    `depths` are those of its input buffer and of its output queue.
    """
    vectors, beats, groups = sizes
    starts = np.arange(vectors, dtype=np.int64)[:, None] * (beats * groups)
    inner, group = np.arange(beats, dtype=np.int64), np.arange(groups, dtype=np.int64)
    if input_stationary:
        first, last, ends = (
            inner * groups,
            inner * groups + groups - 1,
            (beats - 1) * groups + group,
        )
    else:
        first, last, ends = inner, (groups - 1) * beats + inner, (group + 1) * beats - 1
    first, last, ends = ((starts + own).reshape(-1) for own in (first, last, ends))
    return _stepped(graph, offer, (first, last, ends), latency, depths)


def repeated_events(
    graph: EventGraph, offer: Offer, steps: int, latency: int, depths: tuple[int, int]
) -> Offer:
    """Returns the result of `chop_adder_shell`: every beat takes so many steps, and gives one."""
    first = np.arange(offer.count, dtype=np.int64) * steps
    last = first + steps - 1
    return _stepped(graph, offer, (first, last, last), latency, depths)


def _stepped(
    graph: EventGraph,
    offer: Offer,
    uses_and_ends: tuple[Ints, Ints, Ints],
    latency: int,
    depths: tuple[int, int],
) -> Offer:
    """Returns the result of a unit that does a step a cycle.

    Of the steps, every beat's first and last use are said, and those that complete a result.
    """
    (first, last, ends), (in_depth, out_depth) = uses_and_ends, depths
    # What happens at the other steps follows from these.
    steps = np.unique(np.concatenate([first, last, ends]))
    taken, made = graph.take(offer), graph.add(steps)
    numbers = np.arange(offer.count, dtype=np.int64)
    graph.after(made, np.searchsorted(steps, first), taken, numbers, 1)
    sample, place = np.divmod(numbers - in_depth, offer.count)
    uses = np.searchsorted(steps, last)[place] + sample * len(steps)
    graph.after(taken, None, made, uses)
    return graph.offered(made, np.searchsorted(steps, ends), latency, out_depth, 1)
