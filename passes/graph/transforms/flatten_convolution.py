"""flatten_convolution: windows as a row of pixels, columns and rows: three one-dimensional sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from pydantic import Field
from torch import nn

from chop.ir.graph import MaseGraph
from chop.ops.factoring import Factoring
from chop.passes.contract import PassArguments, transform_pass
from chop.passes.entries import EntryArguments
from chop.passes.factoring import factor_layers, relative_error
from chop.passes.graph.transforms.refresh import refresh_metadata

__all__ = ["flatten_convolution_transform_pass"]

_NAME = "flatten_convolution"
# Alternating least squares: sweeps at most, and the gain in the error that ends them.
_SWEEPS, _GAIN = 200, 1e-9

Factors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class FlattenConfig(PassArguments):
    """`rank`: how many products of one-dimensional filters make up a filter, at most.

    With `error`, the fewest with which |W' - W| <= error |W| (Frobenius).
    """

    rank: int = Field(default=1, ge=1)
    error: float | None = Field(default=None, ge=0)


@dataclass(frozen=True, slots=True)
class _Row:
    """One convolution; `rank` 0: it stays, for the reason in `skipped`.

    `error` is |W' - W| / |W| (Frobenius).
    """

    node: str
    rank: int = 0
    error: float = 0.0
    weights_before: int = 0
    weights_after: int = 0
    skipped: str = ""


@transform_pass(_NAME, EntryArguments, ("add_common_metadata",))
def flatten_convolution_transform_pass(graph: MaseGraph, arguments: EntryArguments) -> MaseGraph:
    """Returns a graph whose chosen convolutions, c x y x x each, are three in a row.

    A filter becomes the sum of `rank` products a[c] b[y] g[x]: single pixels onto rank channels for
    each output, columns of each, rows of each and their sum. The factors are the best that
    alternating least squares finds from the leading singular vectors, one product after the other
    and then all together. Where the factors have no fewer weights than the filters, or a kernel is
    of one pixel, the convolution stays. `info["flatten_convolution"]` has a row for each.

    Raises ConfigError as entries do, PassOrderError where a chosen layer is quantised.
    """
    factor_layers(graph, arguments, _NAME, FlattenConfig, _factored)
    refresh_metadata(graph)
    return graph


def _factored(
    name: str, found: Factoring, config: FlattenConfig
) -> tuple[dict[str, Any], Sequence[nn.Module]] | None:
    if found.filters is None or found.in_three is None:
        return None
    row, factors = _flattened(name, found.filters.double(), config)
    return asdict(row), () if factors is None else found.in_three(*factors)


def _flattened(
    name: str, filters: torch.Tensor, config: FlattenConfig
) -> tuple[_Row, Factors | None]:
    outputs, channels, height, width = filters.shape
    before, each = filters.numel(), outputs * (channels + height + width)
    stays = _Row(name, weights_before=before, weights_after=before)
    if height * width == 1:
        return _because(stays, "its kernel is of one pixel"), None
    most = min(config.rank, (before - 1) // each)
    if most == 0:
        return _because(stays, f"rank 1 takes {each} weights, it has {before}"), None
    factors: Factors | None = None
    error = 1.0
    rank = 0
    while rank < most and (config.error is None or rank == 0 or error > config.error):
        factors = _one_more(filters, factors)
        error = relative_error(_filters(factors), filters)
        rank += 1
    if config.error is not None and error > config.error:
        return _because(stays, f"rank {most}, the most of use, has an error of {error:.3g}"), None
    return _Row(name, rank, error, before, rank * each), factors


def _because(row: _Row, reason: str) -> _Row:
    return _Row(row.node, 0, 0.0, row.weights_before, row.weights_after, reason)


def _filters(factors: Factors) -> torch.Tensor:
    return torch.einsum("okc,oky,okx->ocyx", *factors)


def _one_more(filters: torch.Tensor, factors: Factors | None) -> Factors:
    """Returns factors [outputs, rank, axis] of one rank more, refined together."""
    rest = filters if factors is None else filters - _filters(factors)
    # Of every unfolding the leading singular vector.
    lead = []
    for axis in (1, 2, 3):
        unfolded = rest.movedim(axis, 1).flatten(2)
        lead.append(torch.linalg.svd(unfolded, full_matrices=False)[0][:, None, :, 0])
    size = torch.einsum("ocyx,okc,oky,okx->ok", rest, *lead)
    new: Factors = (lead[0] * size[..., None], lead[1], lead[2])
    if factors is None:
        return _refined(filters, new)
    joined = [torch.cat([old, more], 1) for old, more in zip(factors, new, strict=True)]
    return _refined(filters, (joined[0], joined[1], joined[2]))


def _refined(filters: torch.Tensor, factors: Factors) -> Factors:
    """Alternating least squares; no sweep makes the error larger."""
    best, error = factors, relative_error(_filters(factors), filters)
    for _ in range(_SWEEPS):
        a, b, g = best
        a = _solved(torch.einsum("ocyx,oky,okx->okc", filters, b, g), b, g)
        b = _solved(torch.einsum("ocyx,okc,okx->oky", filters, a, g), a, g)
        g = _solved(torch.einsum("ocyx,okc,oky->okx", filters, a, b), a, b)
        made = _even(a, b, g)
        now = relative_error(_filters(made), filters)
        if now > error - _GAIN:
            return made if now < error else best
        best, error = made, now
    return best


def _solved(products: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Returns the least-squares factor along one axis, given those along the two others."""
    gram = (first @ first.mT) * (second @ second.mT)
    solved: torch.Tensor = torch.linalg.pinv(gram, hermitian=True) @ products
    return solved


def _even(a: torch.Tensor, b: torch.Tensor, g: torch.Tensor) -> Factors:
    """Returns the factors with equal norms: numbers of like sizes quantise best."""
    sizes = [torch.linalg.vector_norm(x, dim=2, keepdim=True) for x in (a, b, g)]
    mean = (sizes[0] * sizes[1] * sizes[2]) ** (1 / 3)
    even = [x * mean / size.clamp(min=1e-150) for x, size in zip((a, b, g), sizes, strict=True)]
    return even[0], even[1], even[2]
