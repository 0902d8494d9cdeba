"""Which weights go: scores by magnitude or by lot, and the masks that follow from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch

__all__ = ["SCHEDULES", "Criterion", "Method", "Pattern", "choose_masks", "scores_along"]

Method = Literal["random", "l1-norm", "l2-norm"]


@dataclass(frozen=True, slots=True)
class Pattern:
    """At most `kept` of every `group` weights that follow each other in an output's weights."""

    kept: int
    group: int


@dataclass(frozen=True, slots=True)
class Criterion:
    """How weights are chosen: by their magnitude or by lot.

    Attributes:
        sparsity: the share in 0..1 that goes; None where there is a threshold or a pattern.
        threshold: what has a smaller score goes.
        pattern: what stays of every few weights.
        is_global: one ranking over all layers instead of one in each.
    """

    method: Method = "l1-norm"
    sparsity: float | None = None
    threshold: float | None = None
    pattern: Pattern | None = None
    is_global: bool = False


def _cubic(done: float) -> float:
    return 1 - (1 - done) ** 3


# The share of the final sparsity that is reached when a share of the schedule is done. The cubic
# one: Zhu, Gupta, "To prune, or not to prune", 2017.
SCHEDULES: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {"cubic": _cubic, "linear": lambda done: done, "constant": lambda done: 1.0}
)


def choose_masks(
    weights: Mapping[str, torch.Tensor], criterion: Criterion, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Returns a boolean mask per weight, true where an element is kept.

    Exactly round(sparsity * n) of n elements go, over all weights together with a global criterion;
    among equal scores the first go. Random scores follow from the seed and the order of the
    weights.
    """
    generator = torch.Generator().manual_seed(seed)
    scores = {name: _scores(w, criterion.method, generator) for name, w in weights.items()}
    if criterion.pattern is not None:
        return {name: _pattern_mask(score, criterion.pattern) for name, score in scores.items()}
    if criterion.threshold is not None:
        return {name: score >= criterion.threshold for name, score in scores.items()}
    assert criterion.sparsity is not None, "a criterion says how much"
    return _smallest_out(scores, criterion.sparsity, criterion.is_global)


def scores_along(
    weight: torch.Tensor, axis: int, method: Method, generator: torch.Generator
) -> torch.Tensor:
    """Returns a score per index of an axis: the mean magnitude ("l1-norm") or the root mean square
    ("l2-norm") of the weights there, so that layers of different sizes can be compared."""
    if method == "random":
        return torch.rand(weight.shape[axis], generator=generator)
    rows = weight.detach().movedim(axis, 0).flatten(1)
    return rows.abs().mean(dim=1) if method == "l1-norm" else rows.square().mean(dim=1).sqrt()


def _scores(weight: torch.Tensor, method: Method, generator: torch.Generator) -> torch.Tensor:
    if method == "random":
        return torch.rand(weight.shape, generator=generator)
    return weight.detach().abs()


def _smallest_out(
    scores: Mapping[str, torch.Tensor], sparsity: float, is_global: bool
) -> dict[str, torch.Tensor]:
    if not is_global:
        return {name: _without_smallest(score, sparsity) for name, score in scores.items()}
    flat = torch.cat([score.reshape(-1) for score in scores.values()])
    parts = torch.split(
        _without_smallest(flat, sparsity), [score.numel() for score in scores.values()]
    )
    return {n: part.view_as(s) for (n, s), part in zip(scores.items(), parts, strict=True)}


def _without_smallest(score: torch.Tensor, sparsity: float) -> torch.Tensor:
    kept = torch.ones(score.numel(), dtype=torch.bool)
    order = torch.argsort(score.reshape(-1), stable=True)
    kept[order[: round(sparsity * score.numel())]] = False
    return kept.view_as(score)


def _pattern_mask(score: torch.Tensor, pattern: Pattern) -> torch.Tensor:
    """Keeps the largest scores of every group; a shorter last group keeps as many."""
    rows = score.reshape(len(score), -1)
    width = math.ceil(rows.shape[1] / pattern.group) * pattern.group
    padded = torch.full((len(rows), width), -1.0, dtype=rows.dtype)
    padded[:, : rows.shape[1]] = rows
    groups = padded.view(len(rows), -1, pattern.group)
    order = torch.argsort(groups, dim=2, descending=True, stable=True)
    kept = torch.zeros_like(groups, dtype=torch.bool)
    kept.scatter_(2, order[:, :, : pattern.kept], True)
    return kept.view(len(rows), width)[:, : rows.shape[1]].reshape(score.shape)
