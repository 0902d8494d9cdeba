"""What a call of torch that only moves elements does: found by running it on labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import fx

from chop.formats.rounding import Ints
from chop.integer.record import Value, record
from chop.integer.run import run
from chop.ops.base import Call
from chop.ops.channels import Axes, Ties, reshaped

__all__ = ["Move", "Order", "Pick", "View", "moved", "read_move"]

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class View:
    """The same elements in another shape."""

    shape: Shape


@dataclass(frozen=True, slots=True)
class Pick:
    """The entries of these indices along an axis; -1 stands for the constant."""

    axis: int
    index: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """The axes in another order."""

    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """How one sample of a tensor becomes the result: steps in order, and the constant if any."""

    steps: tuple[View | Pick | Order, ...]
    constant: Fraction | None = None

    def write(self, x: Value, fill: int = 0) -> Value:
        """Returns the result as a part of a program; `fill` is the constant's integer."""
        for step in self.steps:
            match step:
                case View(shape):
                    x = x.reshape(shape)
                case Pick(axis, index):
                    x = x.take(axis, index, fill)
                case Order(axes):
                    x = x.permute(axes)
        return x

    def labels(self, x: Axes, ties: Ties) -> Axes:
        """Returns the labels of the result's axes; what is put in has a fixed size."""
        for step in self.steps:
            match step:
                case View(shape):
                    x = reshaped(x, shape, ties)
                case Pick(axis, index):
                    places = np.asarray(index, np.int64)
                    picked = np.where(places < 0, 0, x[axis][places])
                    x = (*x[:axis], picked, *x[axis + 1 :])
                case Order(axes):
                    x = tuple(x[axis] for axis in axes)
        return x


def moved(move: Move, x: Ints) -> Ints:
    """Returns the result for one sample [*shape], with -1 in the place of the constant."""
    program = record(lambda values: move.write(values[0], -1), [(x.shape, 0, max(x.size, 1))])
    result: Ints = run(program, [x[None]])[0]
    return result


def read_move(
    call: Call, splits: tuple[Shape, Shape] | None = None, remedy: str = "write it another way"
) -> Move:
    """Returns what a call on one tensor does to a sample of it.

    `splits` are shapes of input and result in which every axis of the result follows one axis of
    the input, where that is not so as they are. Raises UnsupportedOpError for a call that computes
    new values, mixes samples, or moves elements otherwise.
    """
    places, constant = _places(call, remedy)
    shape, view = (call.input_shapes[0], call.output_shape) if splits is None else splits
    steps = _steps(places.reshape(view), shape or (1,))
    if steps is None:
        raise call.refuse(
            f"'{call.spelling}' moves elements along several axes at once",
            "use slices, permutations and reshapes one after the other",
        )
    move = Move(
        _without_idle((View(shape or (1,)), *steps, View(call.output_shape)), call), constant
    )
    expected = moved(move, np.arange(math.prod(shape)).reshape(call.input_shapes[0]))
    assert np.array_equal(expected, places), f"{call.node.name}: {move}"
    return move


def _places(call: Call, remedy: str) -> tuple[Ints, Fraction | None]:
    """Returns the row-major index that every element of the result comes from, -1: the constant."""
    shape, batch = call.input_shapes[0], call.batch
    size = math.prod(shape)
    total = batch * size
    # Labels without a pattern: a mean of some of them is hardly another one.
    labels = np.random.default_rng(size).permutation(total)
    x = torch.from_numpy(labels.astype(np.float64)).reshape(batch, *shape)
    first, second = (_replayed(call, x + offset).numpy() for offset in (0, total))
    fixed = first == second
    if first.shape[:1] != (batch,):
        raise call.refuse(
            f"'{call.spelling}' makes another number of samples", "keep dimension 0 as it is"
        )
    if not (fixed | (second - np.where(fixed, 0, first) == total)).all() or fixed.all():
        raise call.refuse(f"'{call.spelling}' computes new values in this form", remedy)
    where = np.empty(total, np.int64)
    where[labels] = np.arange(total)
    inside = np.where(fixed, 0, first)
    if not np.array_equal(inside, np.clip(np.round(inside), 0, total - 1)):
        raise call.refuse(f"'{call.spelling}' computes new values in this form", remedy)
    starts = np.arange(batch).reshape(-1, *([1] * (first.ndim - 1))) * size
    places: Ints = np.where(fixed, -1, where[inside.astype(np.int64)] - starts)
    if not (places == places[:1]).all() or places.max() >= size or places.min() < -1:
        raise call.refuse(
            f"'{call.spelling}' moves elements from one sample of the batch to another",
            "keep dimension 0 as it is",
        )
    found = np.unique(first[fixed])
    if len(found) > 1:
        raise call.refuse(f"'{call.spelling}' puts in {len(found)} different numbers", remedy)
    return places[0], _exact(call, float(found[0])) if len(found) else None


def _exact(call: Call, value: float) -> Fraction:
    if not math.isfinite(value) or Fraction(value).denominator > 1 << 16:
        raise call.refuse(
            f"the constant must be a multiple of 2^-16, got {value:g}", "round it to one"
        )
    return Fraction(value)


def _replayed(call: Call, x: torch.Tensor) -> torch.Tensor:
    """Returns what the call makes of another tensor in the place of its only one."""

    def given(argument: fx.Node) -> Any:
        return x.clone()

    args: tuple[Any, ...] = tuple(fx.node.map_arg(call.args, given))
    kwargs: dict[str, Any] = dict(fx.node.map_arg(dict(call.kwargs), given))
    if call.module is not None:
        result = call.module(*args, **kwargs)
    elif isinstance(call.node.target, str):
        result = getattr(args[0], call.node.target)(*args[1:], **kwargs)
    else:
        result = call.node.target(*args, **kwargs)
    assert isinstance(result, torch.Tensor)
    return result.detach()


def _steps(places: Ints, shape: Shape) -> tuple[View | Pick | Order, ...] | None:
    """Returns the steps from a shape, where each axis of the result follows at most one of it."""
    filled = [
        (places < 0).all(axis=tuple(a for a in range(places.ndim) if a != axis))
        for axis in range(places.ndim)
    ]
    core = places[np.ix_(*(~f for f in filled))] if places.ndim else places
    if (core < 0).any():
        return None
    picks: list[Pick] = []
    follows: dict[int, int] = {}
    for axis, numbers in enumerate(np.unravel_index(core, shape)):
        varies = [a for a in range(core.ndim) if np.ptp(numbers, axis=a).any()]
        if len(varies) > 1 or varies[0] in follows if varies else False:
            return None
        line = numbers.reshape(-1)[:1]
        if varies:
            follows[varies[0]] = axis
            line = np.moveaxis(numbers, varies[0], 0).reshape(numbers.shape[varies[0]], -1)[:, 0]
        picks.append(Pick(axis, _spread(line, filled[varies[0]] if varies else None)))
    unread = [axis for axis in range(len(shape)) if axis not in follows.values()]
    order = Order((*unread, *(follows[axis] for axis in sorted(follows))))
    middle = View(tuple(n if a in follows else 1 for a, n in enumerate(places.shape)))
    repeats = [
        Pick(axis, _spread(np.zeros(core.shape[axis], np.int64), filled[axis]))
        for axis in range(places.ndim)
        if axis not in follows
    ]
    return (*picks, order, middle, *repeats)


def _spread(line: Ints, filled: Any) -> tuple[int, ...]:
    """Returns the indices with -1 where the constant stands between them."""
    if filled is None or not filled.any():
        return tuple(line.tolist())
    index = np.full(len(filled), -1, np.int64)
    index[~filled] = line
    return tuple(index.tolist())


def _without_idle(
    steps: Sequence[View | Pick | Order], call: Call
) -> tuple[View | Pick | Order, ...]:
    """Leaves out the steps that change nothing."""
    kept: list[View | Pick | Order] = []
    shape = call.input_shapes[0]
    for step in steps:
        before = shape
        match step:
            case View(new):
                shape = new
                idle = new == before
            case Pick(axis, index):
                shape = (*shape[:axis], len(index), *shape[axis + 1 :])
                idle = index == tuple(range(before[axis]))
            case Order(axes):
                shape = tuple(shape[axis] for axis in axes)
                idle = axes == tuple(range(len(axes)))
        if not idle:
            kept.append(step)
    return tuple(kept)
