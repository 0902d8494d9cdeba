"""Data that a pass is given: a mapping of tensors, or a loader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch

from chop.errors import ConfigError, ShapeError

__all__ = ["batches_of"]

# Samples of a mapping that go through the network at once.
_MOST_AT_ONCE = 1024


def batches_of(
    who: str, names: tuple[str, ...], data: object, most_samples: int | None = None
) -> Iterator[dict[str, torch.Tensor]]:
    """Yields batches by input name, `most_samples` samples in all.

    `data` is a mapping of input names to tensors [N, *shape] (the tensor alone where there is one
    input), or an iterable of batches: each a tensor, or a sequence that starts with the inputs
    (labels may follow), or a mapping. Raises ConfigError when it is something else or yields
    nothing, ShapeError for a missing input.
    """
    left = most_samples
    empty = True
    for batch in _raw(who, names, data):
        count = _count(who, batch)
        taken = count if left is None else min(count, left)
        if taken:
            empty = False
            yield {name: x[:taken].detach() for name, x in batch.items()}
        if left is not None:
            left -= taken
            if left == 0:
                return
    if empty:
        raise ConfigError(f"{who}: the data have no samples; give at least one")


def _raw(who: str, names: tuple[str, ...], data: object) -> Iterator[dict[str, torch.Tensor]]:
    if isinstance(data, torch.Tensor) and len(names) == 1:
        data = {names[0]: data}
    if isinstance(data, Mapping):
        whole = _named(who, names, data)
        for start in range(0, _count(who, whole), _MOST_AT_ONCE):
            yield {name: x[start : start + _MOST_AT_ONCE] for name, x in whole.items()}
        return
    if isinstance(data, torch.Tensor) or not isinstance(data, Iterable):
        raise ConfigError(
            f"{who}: data must be a mapping of input names to tensors, or a loader of batches, "
            f"got {type(data).__name__}"
        )
    for batch in data:
        yield _named(who, names, batch)


def _named(who: str, names: tuple[str, ...], batch: object) -> dict[str, torch.Tensor]:
    if isinstance(batch, torch.Tensor):
        batch = (batch,)
    if not isinstance(batch, Mapping):
        tensors = tuple(batch) if isinstance(batch, Iterable) else ()
        batch = dict(zip(names, tensors, strict=False))
    found = {}
    for name in names:
        value = batch.get(name)
        if not isinstance(value, torch.Tensor):
            raise ShapeError(
                f"{who}: input '{name}' is missing from the data; give a tensor for each of: "
                f"{', '.join(names)}"
            )
        found[name] = value
    return found


def _count(who: str, batch: Mapping[str, torch.Tensor]) -> int:
    counts = {name: len(x) if x.dim() else 0 for name, x in batch.items()}
    if len(set(counts.values())) != 1:
        sizes = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ShapeError(f"{who}: the inputs have different batch sizes ({sizes}); make them equal")
    return next(iter(counts.values()))
