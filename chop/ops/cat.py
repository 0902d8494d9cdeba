"""cat: tensors one after the other along an axis; stack is cat along a new one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import gcd, prod

import numpy as np
import torch
from torch import fx, nn

from chop.errors import UnsupportedOpError
from chop.formats.rounding import Ints
from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.meta import Cost, Folding
from chop.ir.tensor_type import FREE_LAYOUT, Layout, TensorType, stream_permutation
from chop.ops.base import Binding, Build, Call, Case, Op, Site
from chop.ops.channels import Axes, Ties, broadcast
from chop.ops.events import EventGraph, Offer
from chop.ops.passage import can_reorder, layouts_of, likes_channels, literal
from chop.ops.timing import Flow, serial

__all__ = ["Cat"]

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CatAttributes:
    """The axis of the result, without the batch, and whether it is a new one."""

    axis: int
    is_new: bool


class Cat(Op[CatAttributes]):
    name = "cat"
    summary = "tensors one after the other along any axis but the batch: cat, stack"
    targets = (torch.cat, torch.concat, torch.concatenate, torch.hstack, torch.stack)
    arity = None
    module = "chop_concat"
    cycles = "elements / lanes of the result; latency 1"
    limits = (
        "no constants among the tensors; not along the batch; quantize casts several scales to one"
    )
    moves_elements = True
    hands_on_order = True

    def read(self, call: Call) -> CatAttributes:
        tensors = call.argument(0, "tensors")
        if not call.input_shapes or not isinstance(tensors, list | tuple):
            raise call.refuse(
                "the tensors to join are one value", "unpack it first: a, b = x.chunk(2, 1)"
            )
        if not all(isinstance(tensor, fx.Node) for tensor in tensors):
            raise call.refuse(
                "one of the tensors is a constant", "use torch.nn.functional.pad, or an input"
            )
        default = call.kwargs.get("axis", 0)
        dim = 1 if call.spelling == "hstack" else call.argument(1, "dim", default)
        axis = dim % (len(call.output_shape) + 1) - 1
        if axis < 0:
            raise call.refuse("joins the samples of batches", "use another axis than 0")
        return CatAttributes(axis, call.spelling == "stack")

    def commutes_with_casts(self, attributes: CatAttributes) -> bool:
        return True

    def tie_channels(
        self, attributes: CatAttributes, inputs: Sequence[Axes], shape: tuple[int, ...], ties: Ties
    ) -> Axes:
        axis = attributes.axis
        if attributes.is_new:
            single = np.zeros(len(inputs), np.int64)
            labels = broadcast(inputs, (*shape[:axis], *shape[axis + 1 :]), ties)
            return (*labels[:axis], single, *labels[axis:])
        joined = np.concatenate([axes[axis] for axes in inputs])
        others = [(*axes[:axis], joined, *axes[axis + 1 :]) for axes in inputs]
        return broadcast(others, shape, ties)

    def infer(self, site: Site[CatAttributes]) -> TensorType:
        shape, first = site.exact.shape, site.inputs[0]
        layout = _layout(_key(site), shape, site.exact.layout)
        shifts, frac_width = _alignment(site)
        low = min(t.low << shift for t, shift in zip(site.inputs, shifts, strict=True))
        high = max(t.high << shift for t, shift in zip(site.inputs, shifts, strict=True))
        if all(t.format == first.format for t in site.inputs):
            return replace(first, shape=shape, low=low, high=high, layout=layout)
        return TensorType.bounded(shape, low, high, frac_width, layout)

    def infer_scale(self, site: Site[CatAttributes]) -> Scale | None:
        scales = {t.scale for t in site.inputs}
        if len(scales) > 1 or any(s is not None and s.per_channel for s in scales):
            listed = " and ".join(str(t.scale or "x1") for t in site.inputs)
            raise UnsupportedOpError(
                f"node '{site.name}': joins tensors of the scales {listed}; "
                "cast all of them to one format first (data_in)"
            )
        return site.inputs[0].scale

    def define(self, site: Site[CatAttributes], inputs: Sequence[Value]) -> Value:
        axis, parts = site.attributes.axis, []
        for x, shift in zip(inputs, _alignment(site)[0], strict=True):
            aligned = x.shift_left(shift)
            if site.attributes.is_new:
                aligned = aligned.reshape((*x.shape[:axis], 1, *x.shape[axis:]))
            parts.append(aligned)
        return parts[0].concatenate(parts[1:], axis)

    def stream_layouts(self, site: Site[CatAttributes]) -> tuple[Layout, ...]:
        found = _read_layouts(_key(site), site.exact.layout)
        assert found is not None, f"node '{site.name}': _layout found the result's layout"
        return found

    def foldings(self, site: Site[CatAttributes]) -> tuple[Folding, ...]:
        runs, elements = _built(site), site.exact.elements
        common = gcd(*runs)
        lanes = (p for p in range(1, common + 1) if common % p == 0)
        return tuple(Folding(p, p, elements // p, 0) for p in lanes)

    def bind(self, site: Site[CatAttributes], build: Build) -> Binding:
        lanes, formats = build.folding.out_lanes, [t.fixed for t in site.inputs]
        widths = [t.width for t in formats]
        signs = "".join(str(int(t.signed)) for t in reversed(formats))
        starts = [sum(widths[:k]) for k in range(len(widths))]
        return Binding(
            self.module,
            {
                "Inputs": len(formats),
                "Lanes": lanes,
                "Widths": literal(widths, 16),
                "Shifts": literal(_alignment(site)[0], 16),
                "Starts": literal(starts, 32),
                "Signed": f"{len(formats)}'b{signs}",
                "Beats": literal([run // lanes for run in _built(site)], 32),
                "InWidth": sum(widths),
                "OutWidth": site.exact.fixed.width,
            },
            inputs=("x_",) * len(formats),
            packed=True,
        )

    def flow(
        self, site: Site[CatAttributes], build: Build, valid: Sequence[Ints], samples: int
    ) -> Flow:
        runs, turns = _built(site), _turns(site, build, samples)
        earliest = np.empty(len(turns), np.int64)
        for number, times in enumerate(valid):
            earliest[turns == number] = times
        given = serial(earliest)
        return Flow(tuple(given[turns == number] for number in range(len(runs))), given + 1)

    def events(
        self, site: Site[CatAttributes], build: Build, graph: EventGraph, inputs: Sequence[Offer]
    ) -> Offer:
        turns = _turns(site, build, 1)
        taken = graph.add(len(turns))
        for number, offer in enumerate(inputs):
            graph.take(offer, taken, np.flatnonzero(turns == number))
        return graph.offered(taken, np.arange(len(turns), dtype=np.int64), 1, 1)

    def cost(self, site: Site[CatAttributes], build: Build) -> Cost:
        lanes, runs = build.folding.out_lanes, _built(site)
        bits = lanes * site.exact.fixed.width
        counters = sum((run // lanes).bit_length() for run in runs)
        return Cost(bits * -(-len(runs) // 2) + 2 * counters, bits + 1 + counters + len(runs))

    def cases(self) -> tuple[Case, ...]:
        return (
            Case("inputs", _Joined(1), ((5,), (3,))),
            Case("channels", _Joined(1), ((2, 3, 2), (4, 3, 2))),
            Case("rows", _Joined(2), ((2, 1, 3), (2, 3, 3))),
            Case("stack", _Stacked(), ((4,), (4,))),
            Case("residual", _Dense(), ((6,),)),
        )


def _turns(site: Site[CatAttributes], build: Build, samples: int) -> Ints:
    """Returns the input of which each beat of the result is."""
    lanes, runs = build.folding.out_lanes, _built(site)
    turn = np.repeat(np.arange(len(runs)), [run // lanes for run in runs])
    return np.tile(turn, samples * site.exact.elements // sum(runs))


class _Joined(nn.Module):
    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.cat([a, b.relu(), a], dim=self.axis)


class _Stacked(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.stack((a, b), -1).flatten(1), torch.stack([b, b + 0.5, a], dim=1)


class _Dense(nn.Module):
    """A branch that is long in coming."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat((x, self.inner(x), x.relu()), 1)


@dataclass(frozen=True, slots=True)
class _Key:
    """What the order of a joint depends on: shape and layout of every input, and the axis."""

    inputs: tuple[tuple[Shape, Layout], ...]
    attributes: CatAttributes


def _key(site: Site[CatAttributes]) -> _Key:
    return _Key(tuple((t.shape, t.layout) for t in site.inputs), site.attributes)


def _alignment(site: Site[CatAttributes]) -> tuple[list[int], int]:
    """Returns the left shift of every input, and the fraction that they bring all of them to."""
    fractions = [t.fixed.frac_width for t in site.inputs]
    return [max(fractions) - fraction for fraction in fractions], max(fractions)


@lru_cache(maxsize=256)
def _layout(key: _Key, shape: Shape, wanted: Layout) -> Layout:
    """Returns the layout of the result: the wanted one, or one that the inputs' orders give."""
    channels = likes_channels(shape, key.inputs[0][1])
    candidates = layouts_of(shape, channels)
    candidates = candidates if wanted == FREE_LAYOUT else (wanted, *candidates)
    for layout in candidates:
        if _runs(key, layout) is not None:
            return layout
    return next(layout for layout in (*candidates, None) if _read_layouts(key, layout) is not None)


@lru_cache(maxsize=256)
def _read_layouts(key: _Key, layout: Layout) -> tuple[Layout, ...] | None:
    """Returns layouts of the inputs in which they are a result of that layout, if there are any.

    Those that they have, else all of one kind: rows, or channels innermost.
    """
    rows = tuple((shape, None) for shape, _ in key.inputs)
    pixels = tuple((shape, layouts_of(shape, True)[0]) for shape, _ in key.inputs)
    for inputs in (key.inputs, pixels, rows):
        possible = all(
            can_reorder(shape, own, new)
            for (shape, own), (_, new) in zip(key.inputs, inputs, strict=True)
        )
        if possible and _runs(_Key(inputs, key.attributes), layout) is not None:
            return tuple(new for _, new in inputs)
    return None


@lru_cache(maxsize=256)
def _runs(key: _Key, layout: Layout) -> tuple[int, ...] | None:
    """Returns how many elements of each input come before it is the next one's turn.

    None where the inputs' own orders cannot be kept.
    """
    axis, owners, places = key.attributes.axis, [], []
    for number, (shape, own) in enumerate(key.inputs):
        positions = np.empty(prod(shape), np.int64)
        positions[stream_permutation(len(positions), own)] = np.arange(len(positions))
        place = positions.reshape(shape)
        if key.attributes.is_new:
            place = np.expand_dims(place, axis)
        places.append(place)
        owners.append(np.full(place.shape, number))
    place, owner = (np.concatenate(parts, axis).reshape(-1) for parts in (places, owners))
    order = stream_permutation(len(place), layout)
    place, owner = place[order], owner[order]
    for number in range(len(key.inputs)):
        if (np.diff(place[owner == number]) < 0).any():
            return None
    ends = np.flatnonzero(np.append(np.diff(owner) != 0, True)) + 1
    runs = np.diff(ends, prepend=0).tolist()
    turn = tuple(runs[: len(key.inputs)])
    # One input alone, or the same turns again and again.
    return turn if runs == list(turn) * (len(runs) // len(turn)) else None


def _built(site: Site[CatAttributes]) -> tuple[int, ...]:
    runs = _runs(_key(site), site.exact.layout)
    assert runs is not None, f"node '{site.name}': {site.exact.layout}"
    return runs
