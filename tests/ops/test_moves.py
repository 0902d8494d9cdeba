"""Operators that move elements: what they read of a call, what they refuse, what is free."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from chop.errors import ShapeError, UnsupportedOpError
from chop.formats.scaled import Scaled
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.ir.tensor_type import Layout, stream_permutation
from chop.nn.fake_quantize import Cast
from chop.ops.annotate import run_in_integers
from chop.ops.moves import Spelled
from chop.ops.moving import Move, moved
from chop.ops.passage import Kind, layouts_of, passage, passages
from chop.passes.graph.transforms import quantize_transform_pass
from chop.schedule.units import dataflow_of
from tests.ops.designs import annotated, example_batch

Call = Callable[[torch.Tensor], torch.Tensor]
_CONFIG = {"name": "integer", "data_in_width": 6, "data_in_frac_width": 2, "weight_width": 4}


def _quantised(model: nn.Module, *shapes: tuple[int, ...]) -> MaseGraph:
    graph = annotated(model.eval(), example_batch(random.Random(0), shapes, 4))
    return quantize_transform_pass(graph, {"default": {"config": _CONFIG}})


def _hardware(model: nn.Module, *shapes: tuple[int, ...]) -> list[str]:
    """Returns the operators of the units that a network becomes, casts left out."""
    units = dataflow_of(_quantised(model, *shapes)).units
    return [unit.op.name for unit in units if unit.op.name != "cast"]


def _last_move(call: Call, shape: tuple[int, ...]) -> Move:
    graph = annotated(Spelled(call), (torch.randn(3, *shape),))
    node = [n for n in graph.fx_graph.nodes if n.op != "output"][-1]
    attributes = common_of(node).attributes
    assert isinstance(attributes, Move)
    return attributes


@st.composite
def _calls(draw: st.DrawFn) -> tuple[Call, tuple[int, ...]]:
    """A call that moves elements, on a tensor of one to three axes."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    axis = draw(st.integers(1, len(shape)))
    size = shape[axis - 1]
    start = draw(st.integers(0, size - 1))
    stop, step = draw(st.integers(start + 1, size)), draw(st.integers(1, 3))
    ends = [n for _ in shape for n in draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))]
    order = draw(st.permutations(range(1, len(shape) + 1)))
    times = draw(st.integers(2, 3))
    cut = (slice(None),) * axis + (slice(start, stop, step),)
    calls: list[Call] = [
        *(lambda x: x[cut], lambda x: x[(*cut[:-1], start)], lambda x: x[(*cut[:-1], None)]),
        *(lambda x: x.permute(0, *order), lambda x: x.flip(axis)),
        lambda x: functional.pad(x, ends, value=-0.25),
        lambda x: x.repeat_interleave(times, axis),
        lambda x: x.repeat(1, *(times if k == axis else 1 for k in range(1, len(shape) + 1))),
    ]
    return draw(st.sampled_from(calls)), shape


@settings(max_examples=150, deadline=None)
@given(_calls())
def test_a_move_is_the_call(drawn: tuple[Call, tuple[int, ...]]) -> None:
    call, shape = drawn
    x = torch.arange(int(np.prod(shape)), dtype=torch.float64).reshape(1, *shape)
    expected = call(x)[0].numpy()
    move = _last_move(call, shape)
    result = moved(move, x[0].numpy().astype(np.int64)).astype(np.float64)
    if move.constant is not None:
        result[result < 0] = float(move.constant)
    assert np.array_equal(result, expected)


@settings(max_examples=150, deadline=None)
@given(_calls(), st.booleans(), st.booleans())
def test_a_passage_is_the_move_in_stream_order(
    drawn: tuple[Call, tuple[int, ...]], channels: bool, out_channels: bool
) -> None:
    """Whatever the lanes: what a passage says of beats and lanes is what the elements do."""
    call, shape = drawn
    x = torch.arange(int(np.prod(shape)), dtype=torch.float64).reshape(1, *shape)
    out = tuple(call(x).shape[1:])
    layout: Layout = layouts_of(shape, channels)[0]
    out_layout: Layout = layouts_of(out, out_channels)[0]
    move, elements = _last_move(call, shape), int(np.prod(shape))
    given = stream_permutation(elements, layout)
    wanted = moved(move, np.arange(elements).reshape(shape)).reshape(-1)
    wanted = wanted[stream_permutation(len(wanted), out_layout)]
    for folding in passages(move, shape, layout, out, out_layout):
        p, q = folding.in_lanes, folding.out_lanes
        made = passage(move, shape, layout, out, out_layout, p, q)
        assert made is not None
        beats = given.reshape(-1, p)
        if made.kind is Kind.PAD:
            result = np.full((made.out_beats, q), -1)
            result[made.places] = beats
        else:
            blocks = beats.reshape(-1, made.beats, p)[:, made.places]
            result = blocks.reshape(-1, p)[:, list(made.lane_map)]
        assert np.array_equal(result.reshape(-1), wanted)
        # The loops run through the places.
        places = made.places[:1]
        for count, stride in zip(made.counts, made.strides, strict=True):
            places = (np.arange(count)[:, None] * stride + places).reshape(-1)
        assert np.array_equal(places, made.places)


class _Images(nn.Module):
    """[C, H, W] to [H * W, C] for a linear layer, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layer(x.flatten(2).transpose(1, 2))
        return torch.relu(y.transpose(1, 2).reshape(x.shape[0], 2, 2, 4))


@pytest.mark.parametrize(
    ("model", "shape", "hardware"),
    [
        (_Images(), (3, 2, 4), ["linear", "relu"]),
        (Spelled(lambda x: x.permute(0, 2, 3, 1).relu()), (3, 2, 4), ["relu"]),
        (Spelled(lambda x: x.transpose(1, 2).relu()), (3, 4), ["relu"]),
        (Spelled(lambda x: x.permute(0, 1, 3, 2).relu()), (3, 2, 4), ["permute", "relu"]),
        (Spelled(lambda x: x[:, :, None].movedim(1, 2)[:, 0].relu()), (6,), ["relu"]),
        (Spelled(lambda x: x[:, :].relu()), (6,), ["relu"]),
    ],
    ids=["image", "channels", "matrix", "rows", "one", "all"],
)
def test_only_what_changes_the_stream_is_hardware(
    model: nn.Module, shape: tuple[int, ...], hardware: list[str]
) -> None:
    assert _hardware(model, shape) == hardware


def test_a_part_of_a_split_is_one_node() -> None:
    class Parts(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a, _, c = x.chunk(3, dim=-1)
            return a * 2 + c - torch.unbind(x, 2)[-1].unsqueeze(2)

    graph = annotated(Parts(), (torch.randn(4, 3, 6),))
    operators = [common_of(n).operator for n in graph.fx_graph.nodes]
    # The part that nobody reads is gone, and so are the tuples.
    assert operators.count("slice") == 3
    assert "shape" not in operators


_REFUSALS: tuple[tuple[str, nn.Module, tuple[tuple[int, ...], ...], str], ...] = (
    (
        "batch",
        Spelled(lambda x: x.flip(0)),
        ((4,),),
        "'flip' moves elements from one sample of the batch to another; keep dimension 0 as it is",
    ),
    (
        "bilinear",
        nn.Upsample(scale_factor=2, mode="bilinear"),
        ((2, 3, 3),),
        "'Upsample' computes new values in this form; use mode='nearest'",
    ),
    (
        "reflect",
        Spelled(lambda x: functional.pad(x, (1, 1), mode="reflect")),
        ((2, 4),),
        "padding with mode='reflect'; use mode='constant'",
    ),
    (
        "infinite",
        Spelled(lambda x: functional.pad(x, (1, 1), value=float("-inf"))),
        ((4,),),
        "the constant must be a multiple of 2^-16, got -inf; round it to one",
    ),
    (
        "tenth",
        Spelled(lambda x: functional.pad(x, (1, 1), value=0.1)),
        ((4,),),
        "the constant must be a multiple of 2^-16, got 0.1; round it to one",
    ),
    (
        "constant",
        Spelled(lambda x: torch.cat([x, torch.ones(4, 2)], 1)),
        ((4,),),
        "one of the tensors is a constant; use torch.nn.functional.pad, or an input",
    ),
    (
        "parts",
        Spelled(lambda x: torch.cat(x.chunk(2, 1), 1)),
        ((4,),),
        "the tensors to join are one value; unpack it first: a, b = x.chunk(2, 1)",
    ),
    (
        "samples",
        Spelled(lambda x: torch.cat([x[:, :2], x[:, 2:]], 0)[::2]),
        ((4,),),
        "joins the samples of batches; use another axis than 0",
    ),
)


@pytest.mark.parametrize(
    ("model", "shapes", "message"),
    [refusal[1:] for refusal in _REFUSALS],
    ids=[refusal[0] for refusal in _REFUSALS],
)
def test_refusals(model: nn.Module, shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises((UnsupportedOpError, ShapeError)) as caught:
        _quantised(model, *shapes)
    found = re.sub(r"^node '[^']*' \([^)]*\): |^node '[^']*': |\nin pass .*", "", str(caught.value))
    assert found == message


def test_an_order_without_loops_is_refused() -> None:
    call = Spelled(lambda x: functional.interpolate(x[:, None], size=5)[:, 0].relu())
    with pytest.raises(UnsupportedOpError) as caught:
        _quantised(call, (3,))
    assert "moves elements in an order that no nested loops have" in str(caught.value)


def test_joined_scales_must_be_one() -> None:
    class Scales(nn.Module):
        def __init__(self, one: float, other: float) -> None:
            super().__init__()
            self.one, self.other = Cast(Scaled(6, (one,))), Cast(Scaled(6, (other,)))

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.one(a), self.other(b)], 1)

    inputs = example_batch(random.Random(0), ((3,), (5,)), 4)
    graph = annotated(Scales(0.375, 0.375), inputs)
    output = common_of(list(graph.fx_graph.nodes)[-2]).output
    assert (output.shape, output.format) == ((8,), Scaled(6, (0.375,)))
    with pytest.raises(UnsupportedOpError) as caught:
        annotated(Scales(0.375, 0.3125), inputs)
    assert re.fullmatch(
        r"node 'cat' \(test_moves\.py:\d+\): joins tensors of the scales x0.375 and x0.3125; "
        r"cast all of them to one format first \(data_in\)",
        str(caught.value),
    )


def test_padding_a_scaled_tensor() -> None:
    """With 0, which is a level, and with what is a multiple of a power of two of its scale."""

    class Padded(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.cast, self.value = Cast(Scaled(4, (0.375,))), value

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.pad(self.cast(x), (1, 0), value=self.value)

    inputs = example_batch(random.Random(0), ((3,),), 4)
    for value, integer, frac_width in ((0.0, 0, 0), (0.375, 1, 0), (0.1875, 1, 1), (9.0, 24, 0)):
        graph = annotated(Padded(value), inputs)
        output = common_of(list(graph.fx_graph.nodes)[-2]).output
        assert output.fixed.frac_width == frac_width
        assert output.low <= integer <= output.high
        assert (output.format == Scaled(4, (0.375,))) == (integer < 8 and frac_width == 0)
        exact = run_in_integers(graph, {"x": inputs[0].double().numpy()})
        node = list(graph.fx_graph.nodes)[-2].name
        assert (exact[node][:, 0] == integer).all()
    with pytest.raises(UnsupportedOpError) as caught:
        annotated(Padded(1.0), inputs)
    assert "the constant 1 is no multiple of a step of its input, of scale x0.375" in str(
        caught.value
    )
