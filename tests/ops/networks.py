"""Random networks of all operators: forks, joins, shared layers, several inputs and outputs."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from chop.formats.fixed import Fixed
from chop.formats.rounding import Rounding
from chop.formats.scaled import Scaled
from chop.nn.fake_quantize import Cast
from chop.nn.result import Clamped, QuantizedResult, Sum
from tests.ops.images import image_layer, random_norm

# Primes and numbers with several divisors.
_SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 16)
Shape = tuple[int, ...]
# Of what joins and repetitions make.
_MOST_ELEMENTS = 48


@dataclass(frozen=True, slots=True)
class Step:
    """value = call(*values[sources])."""

    sources: tuple[int, ...]
    call: Callable[..., torch.Tensor]


class Network(nn.Module):
    """Runs a list of steps; every value is named by its place, the inputs first."""

    def __init__(self, steps: Sequence[Step], outputs: Sequence[int]) -> None:
        super().__init__()
        self.steps = list(steps)
        layers = [step.call for step in steps if isinstance(step.call, nn.Module)]
        self.layers = nn.ModuleList(dict.fromkeys(layers))
        self.outputs = list(outputs)

    def run(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        values = list(inputs)
        for step in self.steps:
            values.append(step.call(*(values[i] for i in step.sources)))
        return tuple(values[i] for i in self.outputs)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.run(x)


class TwoInputs(Network):
    """A network of two inputs."""

    def forward(self, x: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
        return self.run(x, other)


class ScaledSum(nn.Module):
    """A sum of two tensors on levels of scales that no simple fraction relates."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        first, second, last = (
            Scaled(rng.randint(3, 6), (float(np.float32(rng.uniform(0.05, 0.5))),))
            for _ in range(3)
        )
        self.first, self.second = Cast(first), Cast(second)
        self.sum = QuantizedResult(Sum(rng.random() < 0.5), last, Rounding.HALF_UP)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.sum(self.first(a), self.second(b))
        return result


class Chosen(nn.Module):
    """The row of a table that the largest element chooses."""

    def __init__(self, rows: int, features: int) -> None:
        super().__init__()
        self.table = nn.Embedding(rows, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        row: torch.Tensor = self.table(x.argmax(-1))
        return row


def random_network(rng: random.Random, number: int | None = None) -> tuple[Network, list[Shape]]:
    """Returns a network in evaluation mode and the shapes of its inputs.

    Those of the first numbers end with an operator that is seldom drawn, one each.
    """
    inputs: list[Shape] = [(rng.choice(_SIZES[3:]),) for _ in range(rng.choice((1, 1, 2)))]
    shapes = list(inputs)
    steps: list[Step] = []
    with torch.random.fork_rng():
        torch.manual_seed(rng.randrange(1 << 31))
        for source in range(len(inputs)):
            _add(steps, shapes, (source,), _layer(rng, shapes[source]))
        for _ in range(rng.randint(1, 7)):
            _grow(rng, steps, shapes)
        rare = number is not None and number < len(_RARE)
        if number is not None and rare:
            _add(steps, shapes, (len(shapes) - 1,), _RARE[number](rng, shapes[-1]))
    read = {source for step in steps for source in step.sources}
    outputs = [i for i in range(len(inputs), len(shapes)) if i not in read]
    if rng.random() < 0.4:
        # A branch that nothing reads, if every input is read nonetheless.
        dead = rng.choice(outputs)
        kept = [i for i in outputs if i != dead]
        spared = rare and dead == len(shapes) - 1
        outputs = kept if _reads(steps, kept, len(inputs)) and not spared else outputs
    if rng.random() < 0.3:
        # An output that another layer reads too.
        outputs.append(rng.randrange(len(inputs), len(shapes)))
    kind = Network if len(inputs) == 1 else TwoInputs
    return kind(steps, list(dict.fromkeys(outputs))).eval(), inputs


def _reads(steps: Sequence[Step], outputs: Sequence[int], inputs: int) -> bool:
    """Whether the outputs depend on every input."""
    needed = set(outputs)
    for number in range(len(steps) - 1, -1, -1):
        if number + inputs in needed:
            needed |= set(steps[number].sources)
    return needed >= set(range(inputs))


def _grow(rng: random.Random, steps: list[Step], shapes: list[Shape]) -> None:
    # Mostly a chain; sometimes an earlier value gets one more reader.
    source = len(shapes) - 1 if rng.random() < 0.75 else rng.randrange(len(shapes))
    if rng.random() < 0.15 and _join(rng, steps, shapes, source):
        return
    twins = [i for i, shape in enumerate(shapes) if _broadcast(shape, shapes[source])]
    if len(twins) > 1 and rng.random() < 0.4:
        every = (torch.add, torch.sub, torch.mul, torch.maximum, torch.min, ScaledSum(rng))
        call: Callable[..., torch.Tensor] = rng.choice(every)
        _add(steps, shapes, (source, rng.choice(twins)), call)
    else:
        shared = [
            step.call
            for step in steps
            if isinstance(step.call, nn.Linear) and step.call.in_features == shapes[source][-1]
        ]
        reuse = shared and rng.random() < 0.3
        call = rng.choice(shared) if reuse else _layer(rng, shapes[source])
        _add(steps, shapes, (source,), call)


def _broadcast(a: Shape, b: Shape) -> bool:
    """Whether two tensors of these shapes can be operands of one operator."""
    return len(a) == len(b) and all(m == n or 1 in (m, n) for m, n in zip(a, b, strict=True))


def _join(rng: random.Random, steps: list[Step], shapes: list[Shape], source: int) -> bool:
    """Joins a value with some others along an axis; returns whether that made a small tensor."""
    shape = shapes[source]
    axis = rng.randrange(len(shape))
    fitting = [
        i
        for i, other in enumerate(shapes)
        if len(other) == len(shape)
        and (*other[:axis], *other[axis + 1 :]) == (*shape[:axis], *shape[axis + 1 :])
    ]
    sources = (source, *(rng.choice(fitting) for _ in range(rng.randint(1, 2))))
    if sum(int(torch.Size(shapes[i]).numel()) for i in sources) > _MOST_ELEMENTS:
        return False
    if len(shape) == 1 and len({shapes[i] for i in sources}) == 1 and rng.random() < 0.4:
        dim = rng.choice((1, -1))
        _add(steps, shapes, sources, lambda *parts: torch.stack(parts, dim))
    else:
        _add(steps, shapes, sources, lambda *parts: torch.cat(parts, axis + 1))
    return True


def _add(
    steps: list[Step],
    shapes: list[Shape],
    sources: tuple[int, ...],
    call: Callable[..., torch.Tensor],
) -> None:
    with torch.no_grad():
        if isinstance(call, nn.Module):
            call.eval()
        result = call(*(torch.zeros(2, *shapes[i]) for i in sources))
    steps.append(Step(sources, call))
    shapes.append(tuple(result.shape[1:]))


def _layer(rng: random.Random, shape: Shape) -> Callable[..., torch.Tensor]:
    kinds = (
        *(_linear, _linear, _linear, _activation, _activation, _layout, _norm, _cast),
        *(_constant, _constant, _constant, _constant),
        *(_function, _choice, _moving, _moving, _convolution),
        *(_reduction, _pool, _image),
    )
    return rng.choice(kinds)(rng, shape)


def _linear(rng: random.Random, shape: Shape) -> Callable[..., torch.Tensor]:
    return nn.Linear(shape[-1], rng.choice(_SIZES), bias=rng.random() < 0.6)


def _convolution(rng: random.Random, shape: Shape) -> Callable[..., torch.Tensor]:
    """Between linear layers, so that what comes out has the usual order, for whoever joins it."""
    channels, height, width = rng.randint(1, 4), rng.randint(1, 3), rng.randint(3, 5)
    groups = rng.choice([d for d in (1, 1, 2, channels) if channels % d == 0])
    outputs = groups * rng.randint(1, 3)
    plane = rng.random() < 0.6
    kernel = (rng.randint(1, height), rng.randint(1, 3)) if plane else (rng.randint(1, 3),)
    padding = rng.choice(("same", "valid", tuple((k - 1) * rng.randint(0, 1) for k in kernel)))
    stride = 1 if padding == "same" else rng.randint(1, 2)
    kind: Callable[..., nn.Module] = nn.Conv2d if plane else nn.Conv1d
    layer = kind(channels, outputs, kernel, stride, padding, groups=groups, bias=rng.random() < 0.7)
    if rng.random() < 0.5:
        transposed: Callable[..., nn.Module] = nn.ConvTranspose2d if plane else nn.ConvTranspose1d
        layer = transposed(channels, outputs, kernel, rng.randint(1, 2), bias=rng.random() < 0.7)
    frame = (channels, height, width) if plane else (channels, width)
    size = int(torch.Size(frame).numel())
    with torch.no_grad():
        last = layer(torch.zeros(1, *frame)).shape[-1]
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(int(torch.Size(shape).numel()), size),
        nn.Unflatten(1, frame),
        layer,
        nn.Linear(last, rng.choice(_SIZES[:6])),
        nn.Flatten(1, -2),
    )


def _image(rng: random.Random, shape: Shape) -> Callable[..., torch.Tensor]:
    """A few operators of images one behind the other, on a frame that a linear layer gives."""
    frame: Shape = (rng.choice((2, 4)), rng.randint(2, 4), rng.randint(2, 4))
    first = nn.Linear(int(torch.Size(shape).numel()), int(torch.Size(frame).numel()))
    layers: list[nn.Module] = [nn.Flatten(), first, nn.Unflatten(1, frame)]
    for _ in range(rng.randint(1, 3)):
        layers.append(image_layer(rng, frame))
        with torch.no_grad():
            frame = tuple(layers[-1].eval()(torch.zeros(1, *frame)).shape[1:])
    rounded = Cast(Fixed(rng.randint(4, 10), rng.randint(0, 5)))
    last = nn.Linear(int(torch.Size(frame).numel()), rng.choice(_SIZES))
    return nn.Sequential(*layers, rounded, nn.Flatten(), last)


def _reduction(rng: random.Random, shape: Shape) -> Callable[..., torch.Tensor]:
    dim = rng.randint(1, len(shape))
    keep = len(shape) == 1 or rng.random() < 0.5
    rounded = Cast(Fixed(rng.randint(4, 10), rng.randint(0, 5)))
    return rng.choice(
        (
            *(lambda x: x.sum(dim, keepdim=keep), lambda x: torch.amax(x, dim, keepdim=keep)),
            *(lambda x: x.amin(dim, keepdim=keep), _Mean(dim, keep, rounded)),
        )
    )


class _Mean(nn.Module):
    """Rounded, since it has a scale otherwise."""

    def __init__(self, dim: int, keep: bool, cast: Cast) -> None:
        super().__init__()
        self.dim, self.keep, self.cast = dim, keep, cast

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.cast(x.mean(self.dim, keepdim=self.keep))
        return result


def _pool(rng: random.Random, shape: Shape) -> Callable[..., torch.Tensor]:
    """Between linear layers, as a convolution."""
    frame = (rng.randint(1, 4), rng.randint(2, 4), rng.randint(2, 7))
    sizes: dict[str, Any] = {
        "kernel_size": (kernel := rng.randint(2, min(3, *frame[1:]))),
        "stride": rng.randint(1, kernel),
        "padding": rng.randint(0, kernel // 2),
        "ceil_mode": rng.random() < 0.3,
    }
    bins = (rng.randint(1, frame[1]), rng.randint(1, frame[2]))
    pool: nn.Module = rng.choice(
        (
            *(nn.MaxPool2d(2), nn.MaxPool2d(**sizes), nn.AdaptiveMaxPool2d(1)),
            *(nn.AvgPool2d(2), nn.AvgPool2d(**sizes, count_include_pad=rng.random() < 0.5)),
            *(nn.AdaptiveAvgPool2d((1, None)), nn.AdaptiveAvgPool2d(bins), nn.Flatten(2)),
            nn.AdaptiveMaxPool2d((bins[0] + 1, bins[1])),
        )
    )
    if isinstance(pool, nn.Flatten):
        lines: tuple[nn.Module, ...] = (
            nn.MaxPool1d(**sizes),
            nn.AvgPool1d(**sizes),
            *(nn.AdaptiveAvgPool1d(1), nn.AdaptiveMaxPool1d(bins[0] * bins[1])),
        )
        pool = nn.Sequential(pool, rng.choice(lines))
    return _on_frame(rng, shape, frame, pool)


def _unequal(
    kind: Callable[[Shape], nn.Module], rng: random.Random, shape: Shape
) -> Callable[..., torch.Tensor]:
    """An adaptive pool whose windows differ in size, along one axis or both."""
    height, width = rng.choice(((5, 3), (6, 4), (2, 1))), rng.choice(((5, 3), (7, 4), (7, 5)))
    pool = kind((height[1], width[1]))
    return _on_frame(rng, shape, (rng.randint(1, 3), height[0], width[0]), pool)


def _on_frame(
    rng: random.Random, shape: Shape, frame: Shape, pool: nn.Module
) -> Callable[..., torch.Tensor]:
    with torch.no_grad():
        last = pool(torch.zeros(1, *frame)).shape[-1]
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(int(torch.Size(shape).numel()), int(torch.Size(frame).numel())),
        nn.Unflatten(1, frame),
        pool,
        Cast(Fixed(rng.randint(4, 10), rng.randint(0, 5))),
        nn.Linear(last, rng.choice(_SIZES[:6])),
        nn.Flatten(1, -2),
    )


def _activation(rng: random.Random, shape: Shape) -> Callable[..., torch.Tensor]:
    return rng.choice(
        (
            *(torch.relu, functional.relu6, nn.ReLU(), nn.Hardtanh(-1, 2)),
            *(nn.PReLU(), nn.PReLU(shape[0])),
            nn.LeakyReLU(2.0 ** -rng.randint(1, 4)),
            lambda x: x.clamp(min=-1),
            lambda x: torch.clamp(x, max=1.0),
        )
    )


def _choice(rng: random.Random, shape: Shape) -> Callable[..., torch.Tensor]:
    if len(shape) > 1:
        return _function(rng, shape)
    return Chosen(shape[0], rng.choice(_SIZES))


def _function(rng: random.Random, shape: Shape) -> Callable[..., torch.Tensor]:
    return rng.choice(
        (
            *(torch.sigmoid, nn.Tanh(), functional.silu, nn.GELU(), functional.hardswish),
            *(nn.Softplus(), torch.abs, lambda x: x**2, lambda x: 1.0 / (x.abs() + 0.5)),
        )
    )


def _constant(rng: random.Random, shape: Shape) -> Callable[..., torch.Tensor]:
    number = rng.choice((0.75, -1.5, 3.0, 0.3))
    vector = torch.randn(shape[-1])
    return rng.choice(
        (
            *(lambda x: x + number, lambda x: x * number, lambda x: number - x, lambda x: -x),
            *(lambda x: x - vector, lambda x: vector * x, lambda x: x / number),
        )
    )


def _layout(rng: random.Random, shape: Shape) -> Callable[..., torch.Tensor]:
    elements = int(torch.Size(shape).numel())
    rows = rng.choice([d for d in range(1, elements + 1) if elements % d == 0])
    return rng.choice(
        (
            *(nn.Identity(), nn.Dropout(0.5), nn.Flatten()),
            lambda x: x.view(-1, rows, elements // rows),
            lambda x: torch.flatten(x, 1),
        )
    )


def _moving(rng: random.Random, shape: Shape) -> Callable[..., torch.Tensor]:
    axis, size = len(shape), shape[-1]
    first = rng.randrange(size)
    last, step = rng.randint(first + 1, size), rng.randint(1, 2)
    before, after = rng.randint(0, 2), rng.randint(1, 2)
    calls: list[Callable[..., torch.Tensor]] = [
        *(lambda x: x[..., first:last:step], lambda x: x.narrow(axis, first, last - first)),
        *(lambda x: x.chunk(2, axis)[0], lambda x: x.flip(axis)),
        lambda x: functional.pad(x, (before, after)),
    ]
    if int(torch.Size(shape).numel()) * 2 <= _MOST_ELEMENTS:
        calls += [lambda x: x.repeat_interleave(2, axis), lambda x: torch.cat([x, x], axis)]
    if axis == 2:
        # Behind a linear layer the order is the usual one again, for whoever joins it.
        calls += [
            nn.Sequential(_Transpose(), nn.Linear(shape[0], 3)),
            lambda x: x[:, first % shape[0]],
        ]
        calls += [lambda x: x.flip(1), lambda x: functional.pad(x, (0, 0, before, after))]
    return rng.choice(calls)


def _repeated(rng: random.Random, shape: Shape) -> Callable[..., torch.Tensor]:
    return lambda x: x.repeat_interleave(2, len(shape))


def _chosen(rng: random.Random, shape: Shape) -> Callable[..., torch.Tensor]:
    elements = int(torch.Size(shape).numel())
    return nn.Sequential(nn.Flatten(), Chosen(elements, rng.choice(_SIZES)))


def _summed(rng: random.Random, shape: Shape) -> Callable[..., torch.Tensor]:
    return _Mirrored(rng)


def _transposed(rng: random.Random, shape: Shape) -> Callable[..., torch.Tensor]:
    elements = int(torch.Size(shape).numel())
    conv = nn.ConvTranspose1d(2, 3, rng.randint(1, 3), rng.randint(1, 2))
    return nn.Sequential(nn.Flatten(), nn.Linear(elements, 6), nn.Unflatten(1, (2, 3)), conv)


class _Mirrored(nn.Module):
    """A tensor and its mirror image, on scales of their own."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.total = ScaledSum(rng)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.total(x, x.flip(1))
        return result


class _Transpose(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2)


def _norm(rng: random.Random, shape: Shape) -> nn.Module:
    return random_norm(rng, nn.BatchNorm1d(shape[0]))


def _cast(rng: random.Random, shape: Shape) -> Callable[..., torch.Tensor]:
    format = Fixed(rng.randint(2, 12), rng.randint(-1, 8), rng.random() < 0.7)
    return Cast(format, rng.choice(list(Rounding)))


def _clamped(rng: random.Random, shape: Shape) -> Callable[..., torch.Tensor]:
    """Between bounds that are no levels, rounded once."""
    scales = [float(np.float32(rng.uniform(0.05, 0.5))) for _ in range(2)]
    bounds = Clamped(rng.choice((None, 0.0, -0.7)), rng.choice((1.0, 2.3)))
    before, last = Cast(Scaled(6, (scales[0],))), Scaled(rng.randint(4, 7), (scales[1],))
    return nn.Sequential(before, QuantizedResult(bounds, last))


# What takes part in few networks otherwise.
_RARE: tuple[Callable[[random.Random, Shape], Callable[..., torch.Tensor]], ...] = (
    *(_repeated, _chosen, _summed, _transposed, _pool, _norm, _convolution, _constant),
    *(partial(_unequal, kind) for kind in (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)),
    _clamped,
)
