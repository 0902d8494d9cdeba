"""svd_low_rank: a layer as two thin ones, from the singular values of its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import nn

from chop.ir.graph import MaseGraph
from chop.ops.factoring import Factoring
from chop.passes.contract import PassArguments, transform_pass
from chop.passes.entries import EntryArguments
from chop.passes.factoring import factor_layers, relative_error
from chop.passes.graph.transforms.refresh import refresh_metadata

__all__ = ["svd_low_rank_transform_pass"]

_NAME = "svd_low_rank"
# Of the largest: singular values nearer than this to a limit are taken to be on it.
_ROUNDING = 1e-12


class LowRankConfig(PassArguments):
    """How many singular values stay: one of the three.

    `rank`: so many. `energy`: the fewest whose squares make up this share of all. `error`: the
    fewest so that the next one is at most this share of the largest.
    """

    rank: int | None = Field(default=None, ge=1)
    energy: float | None = Field(default=None, gt=0, le=1)
    error: float | None = Field(default=None, ge=0, lt=1)

    @model_validator(mode="after")
    def _one(self) -> LowRankConfig:
        given = [n for n in ("rank", "energy", "error") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(
                "must have one of rank, energy and error, "
                f"got {' and '.join(given) if given else 'none'}"
            )
        return self

    def rank_of(self, singular: torch.Tensor) -> int:
        """Returns how many of the singular values, largest first, stay."""
        if self.rank is not None:
            return min(self.rank, len(singular))
        if self.energy is not None:
            share = singular.square().cumsum(0) / singular.square().sum().clamp(min=1e-300)
            return int((share < self.energy - _ROUNDING).sum()) + 1
        assert self.error is not None, "one of the three is given"
        return max(int((singular > (self.error + _ROUNDING) * singular[0]).sum()), 1)


@dataclass(frozen=True, slots=True)
class _Row:
    """One layer of m x n weights; `rank` 0: it stays, for the reason in `skipped`.

    For any input vector x, |W' x - W x| <= bound |x|: the first singular value left out. `error`
    is |W' - W| / |W| (Frobenius), `energy` the share of the squares of the singular values kept.
    """

    node: str
    outputs: int
    inputs: int
    rank: int = 0
    energy: float = 1.0
    bound: float = 0.0
    error: float = 0.0
    weights_before: int = 0
    weights_after: int = 0
    skipped: str = ""


@transform_pass(_NAME, EntryArguments, ("add_common_metadata",))
def svd_low_rank_transform_pass(graph: MaseGraph, arguments: EntryArguments) -> MaseGraph:
    """Returns a graph whose chosen layers are two: n -> t without a bias, then t -> m.

    W = U S V^T is cut to its t largest singular values, which the factors share out, sqrt(S) V^T
    and U sqrt(S): t (m + n) weights in the place of m n. Where t (m + n + 1) < m n does not hold
    the layer stays. A convolution is the matrix [outputs, weights of a window]: windows onto t
    channels, then a convolution of single pixels. `info["svd_low_rank"]` has a row per layer.

    Raises ConfigError as entries do, PassOrderError where a chosen layer is quantised.
    """
    factor_layers(graph, arguments, _NAME, LowRankConfig, _factored)
    refresh_metadata(graph)
    return graph


def _factored(
    name: str, found: Factoring, config: LowRankConfig
) -> tuple[dict[str, Any], Sequence[nn.Module]]:
    matrix = found.matrix.double()
    m, n = matrix.shape
    u, singular, vt = torch.linalg.svd(matrix, full_matrices=False)
    rank = config.rank_of(singular)
    if rank * (m + n + 1) >= m * n:
        reason = f"rank {rank}: {rank} x ({m} + {n} + 1) is not below {m} x {n}"
        row = _Row(name, m, n, weights_before=m * n, weights_after=m * n, skipped=reason)
        return asdict(row), ()
    roots = singular[:rank].sqrt()
    first, second = roots[:, None] * vt[:rank], u[:, :rank] * roots
    squares = singular.square()
    row = _Row(
        name,
        m,
        n,
        rank,
        energy=float(squares[:rank].sum() / squares.sum().clamp(min=1e-300)),
        bound=float(singular[rank]) if rank < len(singular) else 0.0,
        error=relative_error(second @ first, matrix),
        weights_before=m * n,
        weights_after=rank * (m + n),
    )
    return asdict(row), found.in_two(first, second)
