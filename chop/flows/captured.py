"""Whether a captured graph computes what its model does: what a trace can miss shows here."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.utils import _pytree as pytree

from chop.errors import CaptureError
from chop.ir.graph import MaseGraph
from chop.ir.modes import evaluating

__all__ = ["check_captured"]

# Both run the same operators; weights that are computed may differ in their last bits.
_RELATIVE, _ABSOLUTE = 1e-3, 1e-5


def check_captured(model: nn.Module, graph: MaseGraph, examples: Sequence[torch.Tensor]) -> None:
    """Runs the model and its graph in evaluation mode on a batch of another size.

    Raises CaptureError where they differ: a number that was drawn while the forward pass was traced
    is a constant of the graph, as is the size of the batch, and a proxy is no torch.Tensor.
    """
    batch = [_resized(x) for x in examples]
    try:
        with evaluating(model):
            wanted = _tensors(model(*(x.clone() for x in batch)))
    except (RuntimeError, TypeError, ValueError, IndexError):
        # It wants the batch that it was given: whoever reads its shapes says so.
        return
    with evaluating(graph.model):
        found = _tensors(graph.model(*(x.clone() for x in batch)))
    if len(wanted) != len(found):
        raise _error(model, f"has another number of results ({len(found)})")
    for number, (a, b) in enumerate(zip(wanted, found, strict=True)):
        if a.shape != b.shape:
            raise _error(model, f"gives result {number} another shape ({list(b.shape)})")
        a, b = a.double(), b.double()
        if not torch.allclose(a, b, _RELATIVE, _ABSOLUTE * float(a.abs().amax()), equal_nan=True):
            raise _error(model, f"gives result {number} other values")


def _resized(x: torch.Tensor) -> torch.Tensor:
    """Returns some of the samples, more or fewer than there are."""
    size = 2 if len(x) == 3 else 3
    return x.repeat(size, *[1] * (x.dim() - 1))[:size]


def _tensors(result: object) -> list[torch.Tensor]:
    return [x for x in pytree.tree_leaves(result) if isinstance(x, torch.Tensor)]


def _error(model: nn.Module, difference: str) -> CaptureError:
    return CaptureError(
        f"model '{type(model).__name__}': its graph {difference} than the model in evaluation; "
        "its forward pass must not draw random numbers, use the size of the batch as a number, or "
        "branch on a tensor's type or on the mode (call model.eval() before the compilation)"
    )
