"""The arithmetic behind pools and reductions: nests, windows, divisors; and what is refused."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from chop.errors import UnsupportedOpError
from chop.ir.meta import common_of
from chop.ir.tensor_type import stream_permutation
from chop.ops.annotate import run_in_integers
from chop.ops.bins import bin_edges
from chop.ops.reduction import Kind, nest_of
from chop.passes.graph.transforms import quantize_transform_pass
from tests.ops.designs import annotated


def test_a_nest_reduces_the_stream_as_the_axes_say() -> None:
    rng, found = random.Random(5), 0
    for _ in range(600):
        layout = (rng.randint(1, 6), rng.randint(1, 3), rng.randint(1, 4))
        elements = int(np.prod(layout))
        shape: tuple[int, ...] = ()
        while (left := elements // int(np.prod(shape))) > 1 and len(shape) < 3:
            shape += (rng.choice([d for d in range(1, left + 1) if left % d == 0]),)
        shape += (left,)
        reduces = [rng.random() < 0.5 for _ in shape]
        own = layout if layout[0] > 1 and rng.random() < 0.7 else None
        nest, kept = nest_of(shape, own, reduces)
        if nest is None:
            continue
        found += 1
        x = np.random.default_rng(found).integers(-99, 99, shape)
        stream = x.reshape(-1)[stream_permutation(elements, own)]
        nested = stream.reshape(nest.frames, nest.outer, nest.groups, nest.inner, nest.channels)
        result = x.sum(axis=tuple(k for k, marked in enumerate(reduces) if marked)).reshape(-1)
        expected = result[stream_permutation(result.size, kept)]
        assert np.array_equal(nested.sum(axis=(1, 3)).reshape(-1), expected), (shape, own, reduces)
    assert found > 300


@pytest.mark.parametrize(
    "pool",
    [
        nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        nn.AvgPool2d((2, 3), 2, (1, 1), ceil_mode=True, count_include_pad=False),
        nn.AvgPool2d(3, divisor_override=7),
        nn.AvgPool1d(3, 2, 1, count_include_pad=False),
        nn.AdaptiveAvgPool2d((1, None)),
        nn.AdaptiveAvgPool2d((4, 2)),
        nn.AdaptiveMaxPool2d((4, 3)),
        nn.AdaptiveMaxPool2d((3, 4)),
        nn.AdaptiveMaxPool2d((8, 4)),
        nn.AdaptiveAvgPool2d((3, 4)),
        nn.AdaptiveAvgPool2d((3, 2)),
        nn.AdaptiveAvgPool2d((2, 12)),
        nn.AdaptiveAvgPool1d(3),
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.MaxPool2d(2, 1, 1, (2, 3)),
    ],
    ids=str,
)
def test_a_pool_has_the_integers_that_torch_computes(pool: nn.Module) -> None:
    shape = (2, 7) if "1d" in str(pool) else (2, 5, 6)
    x = torch.randint(-60, 60, (8, *shape)) / 16
    graph = annotated(pool.eval(), (x,))
    config = {"name": "integer", "data_in_width": 8, "data_in_frac_width": 4}
    graph = quantize_transform_pass(graph, {"default": {"config": config}})
    (output,) = next(n for n in graph.fx_graph.nodes if n.op == "output").all_input_nodes
    type = common_of(output).output
    (name,) = graph.placeholders
    integers = run_in_integers(graph, {name: x.double().numpy()})[output.name]
    scale = 1.0 if type.scale is None else type.scale.floats()
    assert np.allclose(
        type.fixed.from_integers(integers) * scale, pool(x.double()), rtol=0, atol=1e-12
    )
    assert type.low <= integers.min()
    assert integers.max() <= type.high


def test_bins_share_at_most_one_position_with_the_next_and_end_apart() -> None:
    """What chop_bins keeps, and how it counts: p * o - i * n."""
    for size in range(1, 65):
        for count in range(1, size + 1):
            starts, ends = bin_edges(size, count)
            assert (starts[0], ends[-1]) == (0, size)
            assert (np.diff(ends) > 0).all()
            shared = ends[:-1] - starts[1:]
            assert set(shared.tolist()) <= {0, 1}
            numbers = np.arange(1, count)
            assert np.array_equal(shared == 1, numbers * size % count != 0)


@pytest.mark.parametrize("average", [False, True])
def test_adaptive_pools_of_every_size(average: bool) -> None:
    """All sizes up to 7, of an axis alone; a mean of more windows than pixels may be refused."""
    pools = (functional.adaptive_avg_pool1d, functional.adaptive_max_pool1d)
    pool, refused = pools[not average], set()
    for size, count in itertools.product(range(1, 8), repeat=2):
        x = torch.randint(-60, 60, (8, 2, size)) / 16
        try:
            graph = annotated(_Call(partial(pool, output_size=count)), (x,))
        except UnsupportedOpError:
            refused.add((size, count))
            continue
        config = {"name": "integer", "data_in_width": 8, "data_in_frac_width": 4}
        graph = quantize_transform_pass(graph, {"default": {"config": config}})
        (output,) = next(n for n in graph.fx_graph.nodes if n.op == "output").all_input_nodes
        (name,) = graph.placeholders
        integers = run_in_integers(graph, {name: x.double().numpy()})[output.name]
        type = common_of(output).output
        scale = 1.0 if type.scale is None else type.scale.floats()
        real = type.fixed.from_integers(integers) * scale
        assert np.allclose(real, pool(x.double(), count), rtol=0, atol=1e-12), (size, count)
    unequal = {(3, 4), (3, 5), (3, 7), (4, 5), (4, 7), (5, 6), (5, 7), (6, 7)}
    assert refused == (unequal if average else set())


def test_kinds_are_those_of_the_module() -> None:
    assert [kind.value for kind in (Kind.SUM, Kind.MAXIMUM, Kind.MINIMUM)] == [0, 1, 2]


class _Call(nn.Module):
    def __init__(self, call: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.call(x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: x.mean(), "mean over all axes, the batch among them; give it dim"),
        (lambda x: x.sum((0, 1)), "sum over the batch; give it another dim"),
        (
            lambda x: functional.adaptive_avg_pool2d(x, (8, 1)),
            "an adaptive mean of 6 to 8, more windows than pixels; use an output of at most 6, or "
            "of 9",
        ),
        (
            lambda x: functional.adaptive_max_pool2d(x, (0, 1)),
            "an adaptive pool of 6 to 0; use an output of 1 or more",
        ),
        (lambda x: functional.avg_pool2d(x[:, 0], 2), "a 2-D pool of a batch of tensors of shape"),
        (lambda x: x.sum(1, dtype=torch.float64), "sum with a dtype"),
        (lambda x: x.std(1), "'std' is not a chop operator"),
    ],
)
def test_what_has_no_exact_meaning_is_refused(
    call: Callable[[torch.Tensor], torch.Tensor], message: str
) -> None:
    with pytest.raises(UnsupportedOpError, match="node ") as error:
        annotated(_Call(call), (torch.randn(3, 2, 6, 5),))
    assert message in str(error.value)


@pytest.mark.parametrize(
    "reader",
    [
        lambda x, y: torch.cat([x, y], 1),
        lambda x, y: x + y.relu(),
        lambda x, y: torch.maximum(x, y),
        lambda x, y: x * functional.relu6(y),
    ],
)
def test_means_of_nine_are_rounded_for_readers_that_take_no_scale(
    reader: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> None:
    model = _Call(lambda x: reader(x, functional.avg_pool2d(x, 3, 1, 1)))
    x = torch.randn(4, 2, 4, 5)
    config = {"name": "integer", "data_in_width": 8, "data_in_frac_width": 5}
    graph = quantize_transform_pass(annotated(model, (x,)), {"default": {"config": config}})
    (output,) = next(n for n in graph.fx_graph.nodes if n.op == "output").all_input_nodes
    (name,) = graph.placeholders
    integers = run_in_integers(graph, {name: x.double().numpy()})[output.name]
    type = common_of(output).output
    with torch.no_grad():
        fake = graph.model.double()(x.double()).numpy()
    scale = 1.0 if type.scale is None else type.scale.floats()
    assert np.allclose(type.fixed.from_integers(integers) * scale, fake, rtol=0, atol=1e-12)
    assert np.abs(fake - model(x).numpy()).max() < 0.2
