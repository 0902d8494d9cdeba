"""Closed-form timing against the modules of docs/streams.md, simulated cycle by cycle."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chop.ops.timing import Flow, elastic, folded, join, occupancy, serial, widen
from chop.schedule.pacing import Edge, edge_between, pass_edge

# Cycles between one beat's becoming valid and the next one's.
GAPS = st.lists(st.integers(1, 9), min_size=1, max_size=40)


def _times(gaps: Sequence[int]) -> list[int]:
    return list(itertools.accumulate([0, *gaps[1:]]))


@dataclass(slots=True)
class _Linear:
    """chop_linear as docs/streams.md has it; the consumer takes every beat at once."""

    beats: int
    groups: int
    input_stationary: bool
    latency: int
    in_depth: int
    out_depth: int
    taken: list[int] = field(default_factory=list)
    given: list[int] = field(default_factory=list)
    steps: int = 0

    def run(self, valid: Sequence[int]) -> None:
        samples = len(valid) // self.beats
        cycle, held = 0, 0
        while len(self.given) < samples * self.groups:
            beat, last_use, completes = self._step()
            stored = beat < len(self.taken) and self.taken[beat] < cycle
            # A credit comes back in the cycle after the handshake at y.
            out = sum(given >= cycle for given in self.given)
            issues = stored and not (completes and out >= self.out_depth)
            if issues:
                self.steps += 1
                if completes:
                    self.given.append(cycle + self.latency)
            offered = len(self.taken) < len(valid) and valid[len(self.taken)] <= cycle
            if offered and (held < self.in_depth or (issues and last_use)):
                self.taken.append(cycle)
                held += 1
            held -= issues and last_use
            cycle += 1

    def _step(self) -> tuple[int, bool, bool]:
        """Returns the next step's beat, whether it is its last use, and completes a group."""
        sample, step = divmod(self.steps, self.beats * self.groups)
        if self.input_stationary:
            beat, group = divmod(step, self.groups)
        else:
            group, beat = divmod(step, self.beats)
        last_use, completes = group == self.groups - 1, beat == self.beats - 1
        return sample * self.beats + beat, last_use, completes


@st.composite
def _layers(draw: st.DrawFn) -> tuple[list[int], int, int, int, bool, int]:
    """Returns valid times, samples, beats, groups, input_stationary, latency."""
    samples, beats, groups = (
        draw(st.integers(1, 4)),
        draw(st.integers(1, 5)),
        draw(st.integers(1, 5)),
    )
    size = samples * beats
    gaps = draw(st.lists(st.integers(1, 9), min_size=size, max_size=size))
    return _times(gaps), samples, beats, groups, draw(st.booleans()), draw(st.integers(3, 7))


def _simulated(
    valid: Sequence[int],
    beats: int,
    groups: int,
    stationary: bool,
    latency: int,
    depths: tuple[int, int],
) -> _Linear:
    layer = _Linear(beats, groups, stationary, latency, *depths)
    layer.run(valid)
    return layer


@given(_layers())
def test_folded_is_what_the_layer_does(case: tuple[list[int], int, int, int, bool, int]) -> None:
    valid, samples, beats, groups, stationary, latency = case
    flow = folded(np.array(valid), samples, beats, groups, stationary, latency)
    layer = _simulated(valid, beats, groups, stationary, latency, (len(valid), len(valid) * groups))
    assert layer.given == flow.valid.tolist()
    assert [layer.taken] == [times.tolist() for times in flow.taken]


@given(_layers())
def test_the_computed_depths_suffice_and_are_the_least(
    case: tuple[list[int], int, int, int, bool, int],
) -> None:
    valid, samples, beats, groups, stationary, latency = case
    flow = folded(np.array(valid), samples, beats, groups, stationary, latency)
    assert flow.reserved is not None
    out_depth = occupancy(flow.reserved, flow.valid + 1)
    depths = flow.in_depth, out_depth
    layer = _simulated(valid, beats, groups, stationary, latency, depths)
    assert (layer.taken, layer.given) == (flow.taken[0].tolist(), flow.valid.tolist())
    if flow.in_depth > (1 if stationary else beats):
        less = _simulated(valid, beats, groups, stationary, latency, (flow.in_depth - 1, out_depth))
        assert less.taken != layer.taken
    if out_depth > 1:
        less = _simulated(valid, beats, groups, stationary, latency, (flow.in_depth, out_depth - 1))
        assert less.given != layer.given


@given(_layers())
def test_a_patient_sender_loses_nothing_with_the_least_buffer(
    case: tuple[list[int], int, int, int, bool, int],
) -> None:
    """A port that offers a beat a cycle and waits: the steps never pause."""
    _, samples, beats, groups, stationary, latency = case
    valid = list(range(samples * beats))
    flow = folded(np.array(valid), samples, beats, groups, stationary, latency)
    depths = flow.patient_depth, len(valid) * groups
    layer = _simulated(valid, beats, groups, stationary, latency, depths)
    steps = samples * beats * groups
    assert layer.given[-1] == steps + latency
    assert layer.given == flow.valid.tolist()


@given(GAPS, st.integers(1, 4), st.integers(0, 20))
def test_serial_keeps_its_distance(gaps: list[int], step: int, start: int) -> None:
    earliest = _times(gaps)
    expected: list[int] = []
    for time in earliest:
        expected.append(max(time, expected[-1] + step if expected else start))
    assert serial(np.array(earliest), step, start).tolist() == expected


@given(GAPS, st.lists(st.integers(0, 12), min_size=40, max_size=40))
def test_occupancy_counts_the_slots_in_use(gaps: list[int], holds: list[int]) -> None:
    claimed = _times(gaps)
    freed = np.maximum.accumulate([c + h for c, h in zip(claimed, holds, strict=False)]).tolist()
    in_use = [
        sum(c <= time < f for c, f in zip(claimed, freed, strict=True))
        for time in range(max(freed) + 1)
    ]
    assert occupancy(np.array(claimed), np.array(freed)) == max(1, *in_use, 1)


@given(GAPS, st.integers(1, 3))
def test_an_elastic_pipeline_delays(gaps: list[int], latency: int) -> None:
    flow = elastic(np.array(_times(gaps)), latency)
    assert flow.valid.tolist() == [time + latency for time in _times(gaps)]


@given(GAPS, GAPS)
def test_a_join_waits_for_both(first: list[int], second: list[int]) -> None:
    count = min(len(first), len(second))
    a, b = _times(first)[:count], _times(second)[:count]
    flow: Flow = join([np.array(a), np.array(b)], 1)
    taken = [max(pair) for pair in zip(a, b, strict=True)]
    assert [times.tolist() for times in flow.taken] == [taken, taken]
    assert flow.valid.tolist() == [time + 1 for time in taken]


@given(st.integers(1, 24), st.integers(1, 24))
def test_an_edge_goes_through_the_largest_common_lanes(given_: int, wanted: int) -> None:
    edge = edge_between(given_, wanted)
    assert given_ % edge.narrow == 0
    assert given_ // edge.narrow * edge.widen == wanted
    if max(given_, wanted) % min(given_, wanted) == 0:
        assert 1 in (edge.narrow, edge.widen)


@given(GAPS, st.integers(1, 4), st.integers(1, 4))
def test_pass_edge_is_what_the_converters_do(gaps: list[int], narrow: int, ratio: int) -> None:
    """A narrowing converter shows a slice a cycle; a widening one a beat after its last part."""
    beats = [narrow * time for time in _times(gaps)]
    beats = beats[: len(beats) // ratio * ratio]
    slices = [beat + part for beat in beats for part in range(narrow)]
    parts = [slices[i : i + ratio] for i in range(0, len(slices), ratio)]
    expected = [group[-1] + 1 for group in parts] if ratio > 1 else slices
    assert pass_edge(np.array(beats, np.int64), Edge(narrow, ratio)).tolist() == expected
    if ratio > 1:
        assert widen(np.array(slices, np.int64), ratio).tolist() == expected
