"""k-means of numbers: a codebook for the weights of a layer."""

from __future__ import annotations

from typing import Literal

import numpy as np

from chop.formats.rounding import Floats

__all__ = ["Start", "cluster"]

Start = Literal["linear", "density", "random"]


def cluster(
    values: Floats, clusters: int, start: Start = "linear", iterations: int = 100, seed: int = 0
) -> Floats:
    """Returns the centroid of every value's cluster, in the values' order: Lloyd's algorithm.

    Centroids start evenly on [min, max] ("linear"), at even quantiles ("density") or at values
    drawn from the seed ("random"). Clusters that lose all values are gone, so that there are at
    most so many different centroids; up to that many different values are left as they are. Each
    iteration needs but the borders between clusters in the sorted values.
    """
    distinct = np.unique(values)
    if len(distinct) <= clusters:
        return values.copy()
    ordered = np.sort(values.astype(np.float64))
    sums = np.concatenate(([0.0], np.cumsum(ordered)))
    centroids = np.unique(_first(ordered, distinct, clusters, start, seed))
    for _ in range(iterations):
        borders = _borders(ordered, centroids)
        counts = np.diff(borders)
        there = counts > 0
        means = np.diff(sums[borders])[there] / counts[there]
        if len(means) == len(centroids) and np.array_equal(means, centroids):
            break
        centroids = means
    middles = (centroids[1:] + centroids[:-1]) / 2
    found: Floats = centroids[np.searchsorted(middles, values, side="left")]
    return found


def _first(ordered: Floats, distinct: Floats, clusters: int, start: Start, seed: int) -> Floats:
    if start == "linear":
        return np.linspace(ordered[0], ordered[-1], clusters)
    if start == "density":
        return np.quantile(ordered, (np.arange(clusters) + 0.5) / clusters)
    rng = np.random.default_rng(seed)
    return rng.choice(distinct.astype(np.float64), clusters, replace=False)


def _borders(ordered: Floats, centroids: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Returns where each cluster begins in the sorted values, and their number behind these."""
    middles = (centroids[1:] + centroids[:-1]) / 2
    inner = np.searchsorted(ordered, middles, side="right")
    return np.concatenate(([0], inner, [len(ordered)]))
