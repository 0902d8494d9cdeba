"""Which channels belong together: labels on the axes of tensors, and what resizes a layer.

Every index along every axis of a sample has a label. 0 says that the size of the axis is fixed; any
other label is that of a channel which some layer makes. Channels whose labels are tied are there
all together or not at all: those that are added, that a depthwise convolution reads and gives, ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from chop.formats.rounding import Ints

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "Axes",
    "Resize",
    "Ties",
    "along",
    "broadcast",
    "reshaped",
    "resized_parameters",
    "zeros",
]

# One label per index, for each axis of a sample.
Axes = tuple[Ints, ...]


@dataclass(frozen=True, slots=True)
class Resize:
    """How the parameters of a layer follow from other channels before and after it.

    `parameters` has for each axis of a parameter or buffer the old index that each new index takes
    its values from, or None where the axis stays. `sizes` are the layer's own attributes. `summed`
    names the axis along which a parameter meets the channels that it adds up.
    """

    parameters: Mapping[str, tuple[Ints | None, ...]]
    sizes: Mapping[str, int] = field(default_factory=dict)
    summed: Mapping[str, int] = field(default_factory=dict)


class Ties:
    """Labels of channels, as sets that were tied together; those in the set of 0 are fixed.

    `node` is the node that is being read: what it ties or fixes is said to be its doing.
    """

    def __init__(self) -> None:
        self.node = ""
        self.made: dict[str, Ints] = {}
        self._parents = [0]
        # Every reason to be fixed is a set of its own, so that a channel can tell it.
        self._reasons: dict[int, str] = {0: "its size is that of an input"}
        self._numbers: dict[str, int] = {}

    def fresh(self, count: int) -> Ints:
        """Returns labels for the channels that the node makes."""
        labels = np.arange(count, dtype=np.int64) + len(self._parents)
        self._parents.extend(labels.tolist())
        self.made[self.node] = labels
        return labels

    def roots(self, labels: Ints) -> Ints:
        """Returns for each label the one that stands for all that are tied to it; 0: fixed."""
        found = (self._root(label) for label in labels.tolist())
        return np.fromiter((0 if n in self._reasons else n for n in found), np.int64, len(labels))

    def reason(self, label: int) -> str:
        """Returns why a channel is fixed ("": it is not)."""
        return self._reasons.get(self._root(label), "")

    def tie(self, first: Ints, second: Ints) -> None:
        """Ties labels pair by pair."""
        self._tie(first, second, "joins it with what has a fixed size")

    def fix(self, labels: Ints, why: str) -> None:
        """Says that these channels stay; `why` is what the node does, as in "counts them"."""
        self._tie(labels, np.zeros_like(labels), why)

    def _tie(self, first: Ints, second: Ints, why: str) -> None:
        for a, b in zip(first.tolist(), second.tolist(), strict=True):
            low, high = sorted((self._root(a), self._root(b)))
            if low in self._reasons or high in self._reasons:
                self._fix(low, high, why)
            else:
                self._parents[high] = low

    def _fix(self, a: int, b: int, why: str) -> None:
        free = b if a in self._reasons else a
        if free in self._reasons:
            return
        fixed = a if free == b else b
        reason = f"node '{self.node}' {why}"
        if fixed == 0:
            fixed = self._numbers.setdefault(reason, len(self._parents))
            if fixed == len(self._parents):
                self._parents.append(fixed)
                self._reasons[fixed] = reason
        self._parents[free] = fixed

    def _root(self, label: int) -> int:
        while self._parents[label] != label:
            self._parents[label] = self._parents[self._parents[label]]
            label = self._parents[label]
        return label


def resized_parameters(
    layer: nn.Module,
    parameters: Mapping[str, tuple[Ints | None, ...]],
    sizes: Mapping[str, int],
    summed: int | None = None,
) -> Resize:
    """Returns the resizing of those parameters that the layer has.

    Axes after those given stay. `summed`: the axis of the weight along which inputs are added up.
    """
    found = {}
    for name, axes in parameters.items():
        value = getattr(layer, name, None)
        if value is not None:
            found[name] = (*axes, *[None] * (value.dim() - len(axes)))
    return Resize(found, sizes, {} if summed is None else {"weight": summed})


def along(shape: Sequence[int], axes: Axes) -> tuple[Ints | None, ...]:
    """Returns the axes of a constant of that shape, which is broadcast against a tensor."""
    places: tuple[Ints | None, ...] = (None, *axes)
    return tuple(
        None if size == 1 else places[axis - len(shape)] for axis, size in enumerate(shape)
    )


def zeros(shape: Sequence[int]) -> Axes:
    """Returns the labels of a tensor of fixed size."""
    return tuple(np.zeros(size, np.int64) for size in shape)


def broadcast(inputs: Sequence[Axes], shape: Sequence[int], ties: Ties) -> Axes:
    """Returns the labels of what an element-wise operator makes of tensors of one rank.

    Channels that meet are tied; one that is broadcast stays one.
    """
    result = []
    for axis, size in enumerate(shape):
        labels: Ints | None = None
        for axes in inputs:
            mine = axes[axis]
            if len(mine) != size:
                ties.fix(mine, "repeats it along an axis")
            elif labels is None:
                labels = mine
            else:
                ties.tie(labels, mine)
        assert labels is not None, f"{ties.node}: {shape}"
        result.append(labels)
    return tuple(result)


def reshaped(axes: Axes, shape: Sequence[int], ties: Ties) -> Axes:
    """Returns the labels of the same elements in another shape.

    Where an axis of channels is cut in two, one of the parts has the channels, and those along
    the other are tied. Two axes of channels that become one are fixed.
    """
    result: list[Ints] = []
    for block, sizes in _blocks([len(labels) for labels in axes], list(shape)):
        parts = [axes[k] for k in block]
        if len(parts) == len(sizes) == 1:
            result.append(parts[0])
        else:
            result.extend(_cut(_merged(parts, ties), sizes, ties))
    return tuple(result)


def _blocks(old: list[int], new: list[int]) -> list[tuple[list[int], list[int]]]:
    """Returns the smallest runs of old axes, and the sizes of the new ones that they become."""
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        block, sizes = [i], new[j : j + 1]
        if new[j : j + 1] == [1] != old[i : i + 1]:
            block = []
        elif old[i : i + 1] == [1] != new[j : j + 1]:
            sizes = []
        i, j = i + len(block), j + len(sizes)
        while (held := prod(old[k] for k in block)) != prod(sizes):
            if held < prod(sizes):
                block.append(i)
                i += 1
            else:
                sizes.append(new[j])
                j += 1
        found.append((block, sizes))
    return found


def _merged(parts: Sequence[Ints], ties: Ties) -> Ints:
    """Returns the labels along one axis in the place of several."""
    shape = tuple(len(part) for part in parts)
    merged = np.zeros(shape, np.int64)
    for axis, part in enumerate(parts):
        mine = np.broadcast_to(
            ties.roots(part).reshape([-1] + [1] * (len(parts) - axis - 1)), shape
        )
        both = (merged != 0) & (mine != 0)
        for labels in (np.unique(merged[both]), np.unique(mine[both])):
            ties.fix(labels, "makes one axis of two axes of channels")
        merged = np.where(both, 0, merged + mine)
    return merged.reshape(-1)


def _cut(labels: Ints, sizes: Sequence[int], ties: Ties) -> list[Ints]:
    """Returns the labels along several axes in the place of one."""
    labels = ties.roots(labels).reshape(sizes)
    if not len(sizes):
        ties.fix(labels.reshape(-1), "drops the axis")
        return []

    def line(axis: int) -> Ints:
        return np.moveaxis(labels, axis, 0).reshape(sizes[axis], -1)

    lines = [line(axis) for axis in range(len(sizes))]
    carrying = [axis for axis, rows in enumerate(lines) if (rows == rows[:, :1]).all()]
    # Any would do where all are fixed; the first of the largest where the channels are cut.
    choice = max(carrying or range(len(sizes)), key=lambda axis: sizes[axis])
    rows = lines[choice]
    for column in range(1, rows.shape[1]):
        ties.tie(rows[:, 0], rows[:, column])
    result = [np.zeros(size, np.int64) for size in sizes]
    result[choice] = rows[:, 0].copy()
    return result
