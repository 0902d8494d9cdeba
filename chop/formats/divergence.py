"""Where to clip so that the least information is lost: histograms against their quantised selves.

After Migacz, 8-bit Inference with TensorRT (GTC 2017): the histogram of magnitudes up to a
threshold, what lies beyond added to its last bin, against the same bins merged into as many as
there are levels and spread out again over those that are not empty.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chop.formats.rounding import Floats, Ints

__all__ = ["divergences", "thresholds"]

_BINS = 2048
# Thresholds tried between as many bins as levels and all of them: for a tensor, for many channels.
_TRIED, _TRIED_EACH = 64, 16
# What an empty bin of the quantised histogram counts, in shares of the values.
_EMPTY = 1e-4


def thresholds(magnitudes: Floats, levels: int) -> Floats:
    """Returns, per row of magnitudes [rows, n], the threshold of the least divergence.

    Of equal divergences the larger threshold wins. With as many levels as bins, or more, it is the
    largest value.
    """
    largest = np.asarray(magnitudes.max(axis=1, initial=0.0), np.float64)
    if levels >= _BINS or not magnitudes.shape[1]:
        return largest
    shares = np.linspace(1.0, levels / _BINS, _TRIED if len(largest) == 1 else _TRIED_EACH)
    best = divergences(magnitudes, shares.tolist(), [levels] * len(shares)).argmin(axis=0)
    result: Floats = largest * shares[best]
    return result


def divergences(magnitudes: Floats, shares: Sequence[float], levels: Sequence[int]) -> Floats:
    """Returns the Kullback-Leibler divergence [shares, rows] of clipping magnitudes [rows, n].

    `shares` are the thresholds in shares of the largest value, `levels` how many levels lie below
    each of them.
    """
    histogram = _histogram(magnitudes)
    kept = [max(round(share * _BINS), 1) for share in shares]
    return np.stack([_divergence(histogram, k, n) for k, n in zip(kept, levels, strict=True)])


def _histogram(magnitudes: Floats) -> Floats:
    """Returns the counts [rows, bins] of equal bins up to the largest value of every row."""
    rows = len(magnitudes)
    largest = magnitudes.max(axis=1, initial=0.0)
    per_bin = np.where(largest > 0, largest, 1.0)[:, np.newaxis] / _BINS
    index: Ints = np.minimum((magnitudes / per_bin).astype(np.int64), _BINS - 1)
    index += np.arange(rows, dtype=np.int64)[:, np.newaxis] * _BINS
    counts = np.bincount(index.reshape(-1), minlength=rows * _BINS).reshape(rows, _BINS)
    histogram: Floats = counts.astype(np.float64)
    # Exact zeros (half of what a ReLU gives) are on a level however it is scaled.
    histogram[:, 0] = np.minimum(histogram[:, 0], histogram[:, 1])
    return histogram


def _divergence(histogram: Floats, kept: int, levels: int) -> Floats:
    inside = histogram[:, :kept]
    total = np.maximum(histogram.sum(axis=1, keepdims=True), 1.0)
    reference = inside.copy()
    reference[:, -1] += histogram[:, kept:].sum(axis=1)
    # Bin i belongs to level floor(i * levels / kept); every level has at least one.
    level = np.arange(kept) * min(levels, kept) // kept
    starts = np.flatnonzero(np.diff(level, prepend=-1))
    sums = np.add.reduceat(inside, starts, axis=1)
    filled = np.add.reduceat((inside > 0).astype(np.float64), starts, axis=1)
    mean = sums / np.maximum(filled, 1.0)
    spread = np.where(inside > 0, mean[:, level], 0.0)
    spread /= np.maximum(spread.sum(axis=1, keepdims=True), 1.0)
    reference /= total
    present = reference > 0
    ratio = np.where(present, reference, 1.0) / np.where(spread > 0, spread, _EMPTY / kept)
    result: Floats = (reference * np.log(np.where(present, ratio, 1.0))).sum(axis=1)
    return result
