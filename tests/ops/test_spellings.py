"""Every spelling of every operator, called for real: module, function and method."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from chop.formats.fixed import Fixed
from chop.ir.meta import common_of
from chop.ops.annotate import run_in_integers
from chop.ops.base import Op
from chop.ops.registry import operators
from chop.passes.graph.transforms import quantize_transform_pass
from tests.ops.designs import annotated, example_batch

_FEATURES = 6
_CHANNELS = torch.linspace(0.5, 1.75, _FEATURES)
_ADAPTIVE = (
    *("AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d"),
    *("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d"),
)
# What a spelling is called with besides its tensors; by default nothing.
_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("clamp", "clamp_", "clip", "clip_", "hardtanh", "hardtanh_"), (-0.5, 0.5)),
    **dict.fromkeys(("clamp_min", "clamp_min_", "clamp_max", "clamp_max_"), (0.5,)),
    "to": (torch.float32,),
    **dict.fromkeys(("add", "add_", "iadd", "sub", "sub_", "isub", "subtract", "rsub"), (0.75,)),
    **dict.fromkeys(("mul", "mul_", "imul", "multiply"), (-1.25,)),
    **dict.fromkeys(("div", "div_", "divide", "truediv", "itruediv"), (-4,)),
    **dict.fromkeys(("leaky_relu", "leaky_relu_", "LeakyReLU"), (0.125,)),
    **dict.fromkeys(("unflatten", "Unflatten"), (1, (2, 3))),
    **dict.fromkeys(("reshape", "view"), ((-1, 3, 2),)),
    **dict.fromkeys(("squeeze", "unsqueeze", "flatten"), (1,)),
    **dict.fromkeys(("dropout", "alpha_dropout"), (0.5, False)),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d"), (_FEATURES,)),
    "batch_norm": (_CHANNELS - 1, _CHANNELS, _CHANNELS, _CHANNELS),
    "linear": (torch.linspace(-1, 1, 4 * _FEATURES).reshape(4, _FEATURES), torch.ones(4)),
    "Linear": (_FEATURES, 4),
    "Cast": (Fixed(5, 2),),
    "cast_to_fixed": (8, 4),
}
_ARGUMENTS |= {
    **dict.fromkeys(("pow", "pow_", "ipow"), (3,)),
    "argmax": (-1,),
    "embedding": (torch.linspace(-2, 2, 24).reshape(8, 3),),
    "Embedding": (8, 3),
    "prelu": (torch.tensor([0.25]),),
    **dict.fromkeys(("threshold", "threshold_", "_threshold", "Threshold"), (0.5, 0.25)),
}
_ARGUMENTS |= {
    "Conv1d": (3, 2, 3),
    "Conv2d": (3, 2, (2, 3)),
    "ConvTranspose1d": (3, 2, 3),
    "ConvTranspose2d": (3, 2, (2, 3)),
    "conv1d": (torch.linspace(-1, 1, 18).reshape(2, 3, 3),),
    "conv2d": (torch.linspace(-1, 1, 36).reshape(2, 3, 2, 3),),
    "conv_transpose1d": (torch.linspace(-1, 1, 18).reshape(3, 2, 3),),
    "conv_transpose2d": (torch.linspace(-1, 1, 36).reshape(3, 2, 2, 3),),
}
_ARGUMENTS |= {
    **dict.fromkeys(("getitem", "__getitem__"), ((slice(None), slice(1, 5, 2)),)),
    **dict.fromkeys(("narrow",), (1, 2, 3)),
    **dict.fromkeys(("select",), (1, 2)),
    **dict.fromkeys(("index_select",), (1, torch.tensor([0, 2, 4]))),
    **dict.fromkeys(("permute",), ((0, 2, 1),)),
    **dict.fromkeys(("transpose", "swapaxes", "swapdims", "movedim", "moveaxis"), (1, 2)),
    **dict.fromkeys(("flip",), ((1,),)),
    **dict.fromkeys(("PixelShuffle", "PixelUnshuffle", "ChannelShuffle"), (2,)),
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle", "channel_shuffle"), (2,)),
    **dict.fromkeys(("ZeroPad1d", "ZeroPad2d", "ZeroPad3d"), (1,)),
    **dict.fromkeys(("ConstantPad1d", "ConstantPad2d", "ConstantPad3d"), (1, 0.5)),
    **dict.fromkeys(("Upsample", "UpsamplingNearest2d"), (None, 2)),
    **dict.fromkeys(("interpolate", "upsample", "upsample_nearest"), (None, 2)),
    **dict.fromkeys(("repeat", "tile"), ((1, 2),)),
    "pad": ((2, 1),),
    "getattr": ("mT",),
    "part": ("split", 1, (2, 1), {}),
    "repeat_interleave": (2, 1),
    "expand": (-1, 4),
    "broadcast_to": ((9, 4),),
    **dict.fromkeys(("cat", "concat", "concatenate", "stack"), (1,)),
    **dict.fromkeys(("mean", "sum", "amax", "amin"), (1,)),
    **dict.fromkeys(("MaxPool1d", "AvgPool1d", "max_pool1d", "avg_pool1d"), (2,)),
    **dict.fromkeys(("MaxPool2d", "AvgPool2d", "max_pool2d", "avg_pool2d"), (2,)),
    **dict.fromkeys(_ADAPTIVE, (2,)),
}
# Where a function is defined, or not too steep to be told from another by ten bits.
_DOMAINS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("log", "log2", "log10", "log1p", "sqrt", "rsqrt", "reciprocal"), (0.25, 7.5)),
    **dict.fromkeys(("asin", "acos"), (-1.0, 1.0)),
    **dict.fromkeys(("atanh", "tan"), (-0.75, 0.75)),
    **dict.fromkeys(("acosh",), (1.0, 7.5)),
    # Elements of which several make one must not saturate.
    **dict.fromkeys((*_ADAPTIVE, "AvgPool1d", "AvgPool2d", "avg_pool1d"), (-7.5, 7.5)),
    **dict.fromkeys(("avg_pool2d", "mean", "sum"), (-7.5, 7.5)),
    **dict.fromkeys(("Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d"), (-7.5, 7.5)),
    **dict.fromkeys(("conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"), (-7.5, 7.5)),
    **dict.fromkeys(("exp", "exp2", "expm1", "sinh", "cosh", "pow", "ipow", "square"), (-2.5, 2.5)),
}
_SHAPES: dict[str, tuple[int, ...]] = {
    "BatchNorm2d": (_FEATURES, 2, 2),
    **dict.fromkeys(("select", "permute", "transpose", "swapaxes", "swapdims", "getattr"), (6, 4)),
    **dict.fromkeys(("movedim", "moveaxis", "ZeroPad1d", "ConstantPad1d"), (6, 4)),
    **dict.fromkeys(("PixelShuffle", "pixel_shuffle", "ChannelShuffle"), (4, 2, 3)),
    **dict.fromkeys(("PixelUnshuffle", "pixel_unshuffle", "channel_shuffle"), (2, 4, 2)),
    **dict.fromkeys(("ZeroPad2d", "ZeroPad3d", "ConstantPad2d", "ConstantPad3d"), (2, 3, 2)),
    **dict.fromkeys(("Upsample", "UpsamplingNearest2d", "interpolate", "upsample"), (2, 2, 3)),
    "upsample_nearest": (2, 2, 3),
    **dict.fromkeys(("expand", "broadcast_to"), (1,)),
    **dict.fromkeys(("MaxPool1d", "AvgPool1d", "max_pool1d", "avg_pool1d"), (3, 6)),
    **dict.fromkeys(("MaxPool2d", "AvgPool2d", "max_pool2d", "avg_pool2d"), (3, 4, 6)),
    **{name: (3, 4) if "1d" in name else (3, 4, 8) for name in _ADAPTIVE},
    **dict.fromkeys(("Conv1d", "conv1d", "ConvTranspose1d", "conv_transpose1d"), (3, 6)),
    **dict.fromkeys(("Conv2d", "conv2d", "ConvTranspose2d", "conv_transpose2d"), (3, 4, 5)),
    # A mean of six has a scale.
    "mean": (8,),
}
SPELLINGS = [(op, target) for op in operators() for target in op.targets]


def _name(target: object) -> str:
    return target if isinstance(target, str) else getattr(target, "__name__", str(target))


def _id(op: Op[Any], target: object) -> str:
    kind = "method" if isinstance(target, str) else "module" if _is_module(target) else "function"
    return f"{op.name}-{kind}-{_name(target)}"


def _is_module(target: object) -> bool:
    return isinstance(target, type) and issubclass(target, nn.Module)


class _Spelled(nn.Module):
    """Calls one spelling on its inputs."""

    def __init__(self, target: object) -> None:
        super().__init__()
        self.arguments = _ARGUMENTS.get(_name(target), ())
        self.domain = _DOMAINS.get(_name(target).removesuffix("_"))
        self.target: Callable[..., torch.Tensor]
        if isinstance(target, str):
            self.target = lambda x, *rest: getattr(x, target)(*rest)
        elif _is_module(target):
            self.layer = target(*self.arguments)  # type: ignore[operator]
            self.target, self.arguments = self.layer, ()
        else:
            self.target = target  # type: ignore[assignment]

    def forward(self, a: torch.Tensor) -> torch.Tensor:
        # In place or not, on a tensor that nobody else reads.
        a = a if self.domain is None else torch.clamp(a, *self.domain)
        return self.target(a, *self.arguments)


class _SpelledTwo(_Spelled):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return self.target(a, b)


class _SpelledMany(_Spelled):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return self.target([a, b], *self.arguments)


@pytest.mark.parametrize(
    ("op", "target"), SPELLINGS, ids=[_id(op, target) for op, target in SPELLINGS]
)
def test_spelling_is_read_and_computed(op: Op[Any], target: object, seed: int) -> None:
    kinds = {None: _SpelledMany, 1: _Spelled, 2: _SpelledTwo}
    model = kinds[op.arity](target).eval()
    shape = _SHAPES.get(_name(target), (_FEATURES,))
    inputs = example_batch(random.Random(seed), [shape] * (op.arity or 2), 9)
    if op.name == "embedding":
        inputs = tuple((x.abs() * 4).long() % 8 for x in inputs)
    if op.name == "table":
        # On levels of data_in: some functions jump.
        inputs = tuple(torch.round(x * 64) / 64 for x in inputs)
    kept = [x.clone() for x in inputs]
    graph = annotated(model, inputs)
    assert all(torch.equal(x, k) for x, k in zip(inputs, kept, strict=True))
    assert op.name in {common_of(node).operator for node in graph.fx_graph.nodes}
    with torch.no_grad():
        eager = model(*(x.clone() for x in inputs))
        assert torch.equal(graph.model(*(x.clone() for x in inputs)), eager)

    widths = {"data_in_width": 10, "data_in_frac_width": 6, "weight_width": 9}
    config = {"name": "integer", **widths, "bias_width": 12}
    quantised = quantize_transform_pass(graph, {"default": {"config": config}})
    (output,) = next(n for n in quantised.fx_graph.nodes if n.op == "output").all_input_nodes
    named = {n: x.double().numpy() for n, x in zip(graph.placeholders, inputs, strict=True)}
    exact = run_in_integers(quantised, named)[output.name]
    with torch.no_grad():
        fake = quantised.model.double()(*(x.double() for x in inputs)).numpy()
    assert np.array_equal(common_of(output).output.fixed.from_integers(exact), fake)
    # Ten bits are enough to tell the operator from another one.
    assert np.abs(np.clip(eager.double().numpy(), -7.9, 7.9) - np.clip(fake, -7.9, 7.9)).max() < 0.5
