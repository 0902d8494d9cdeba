"""Which trials of several objectives are the best."""

from __future__ import annotations

import math
from collections.abc import Sequence

from chop.search.result import Direction, TrialResult

__all__ = ["best_of", "front_of", "nearest_of"]


def _losses(trial: TrialResult, directions: Sequence[Direction]) -> tuple[float, ...]:
    """Returns the values such that less is better."""
    return tuple(
        -value if direction == "maximize" else value
        for value, direction in zip(trial.values, directions, strict=True)
    )


def front_of(
    trials: Sequence[TrialResult], directions: Sequence[Direction]
) -> tuple[TrialResult, ...]:
    """Returns the feasible trials that none dominates, the best of the first objective first.

    Of trials with the same values, only those of different parameters are kept, the earliest each.
    """
    found: list[tuple[tuple[float, ...], TrialResult]] = []
    for trial in sorted(trials, key=lambda t: t.number):
        if not trial.feasible:
            continue
        losses = _losses(trial, directions)
        if any(_dominates(other, losses) for other, _ in found):
            continue
        same = [t.parameters for other, t in found if other == losses]
        if trial.parameters in same:
            continue
        found = [(o, t) for o, t in found if not _dominates(losses, o)]
        found.append((losses, trial))
    return tuple(t for _, t in sorted(found, key=lambda pair: (pair[0], pair[1].number)))


def _dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


def best_of(front: Sequence[TrialResult], directions: Sequence[Direction]) -> TrialResult | None:
    """Returns the trial of the front that is nearest to the best of every objective.

    Distances are Euclidean, each objective scaled to its range over the front; the earliest of
    equals. None of an empty front.
    """
    if not front:
        return None
    losses = {t.number: _losses(t, directions) for t in front}
    columns = list(zip(*losses.values(), strict=True))
    lows = [min(column) for column in columns]
    spans = [max(column) - low or 1.0 for column, low in zip(columns, lows, strict=True)]

    def distance(trial: TrialResult) -> float:
        terms = zip(losses[trial.number], lows, spans, strict=True)
        return math.fsum(((value - low) / span) ** 2 for value, low, span in terms)

    return min(front, key=lambda t: (distance(t), t.number))


def nearest_of(trials: Sequence[TrialResult]) -> TrialResult | None:
    """Returns the complete trial that misses the constraints least."""
    complete = [t for t in trials if t.state == "complete"]
    return min(complete, key=lambda t: (t.violation, t.number), default=None)
