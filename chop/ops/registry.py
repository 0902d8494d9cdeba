"""The operators that chop knows: one line each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import fx, nn

from chop.errors import UnsupportedOpError, did_you_mean
from chop.ir.capture import source_line
from chop.ir.meta import common_of
from chop.nn.layers import QuantizedLayer
from chop.nn.result import QuantizedResult
from chop.ops.add import ADD
from chop.ops.argmax import Argmax
from chop.ops.base import Op
from chop.ops.batch_norm import BATCH_NORM
from chop.ops.cast import Cast
from chop.ops.cat import Cat
from chop.ops.clamp import Clamp
from chop.ops.conv import Conv
from chop.ops.conv_transpose import ConvTranspose
from chop.ops.embedding import Embedding
from chop.ops.extreme import Extreme
from chop.ops.identity import Identity
from chop.ops.leaky_relu import LeakyRelu
from chop.ops.linear import Linear
from chop.ops.mul import MUL
from chop.ops.neg import NEG
from chop.ops.pad import PAD
from chop.ops.permute import PERMUTE
from chop.ops.pool import AVG_POOL, MAX_POOL
from chop.ops.prelu import Prelu
from chop.ops.reduce import Reduce
from chop.ops.relu import Relu
from chop.ops.reshape import Reshape
from chop.ops.scaled_add import ScaledAdd
from chop.ops.scaled_clamp import ScaledClamp
from chop.ops.slice import SLICE
from chop.ops.sub import SUB
from chop.ops.table import Table
from chop.ops.tensor_add import TensorAdd
from chop.ops.tensor_mul import TensorMul
from chop.ops.upsample import UPSAMPLE

__all__ = ["candidates", "find", "operator", "operators"]

_OPERATORS: tuple[Op[Any], ...] = (
    ADD,
    Argmax(),
    AVG_POOL,
    BATCH_NORM,
    Cast(),
    Cat(),
    Clamp(),
    Conv(),
    ConvTranspose(),
    Embedding(),
    Extreme(),
    Identity(),
    LeakyRelu(),
    Linear(),
    MAX_POOL,
    MUL,
    NEG,
    PAD,
    PERMUTE,
    Prelu(),
    Reduce(),
    Relu(),
    Reshape(),
    ScaledAdd(),
    ScaledClamp(),
    SLICE,
    SUB,
    Table(),
    TensorAdd(),
    TensorMul(),
    UPSAMPLE,
)


# What people often write that has no hardware, and what to write in its place.
_HEAD = "leave it to the host: it does not change which class is the largest (or use argmax)"
_PRODUCT = "two tensors are multiplied element by element only; a constant matrix is a linear layer"
_RECURRENT = "unroll it: linear layers, sigmoid and tanh on the last axis, one step after the other"
_NORM = "its mean depends on the data; train with BatchNorm, which becomes constants"
_DTYPE = "leave the tensor in float32: number formats are the configuration's"
_LONG = "write it out in additions, products and functions of one tensor"
_FILLED = "make it of one sample, as torch.zeros(1, n): it is repeated over the batch"
_COMPARISONS = ("gt", "lt", "ge", "le", "eq", "ne")
_REMEDIES: Mapping[str, str] = {
    **dict.fromkeys(("softmax", "Softmax", "log_softmax", "LogSoftmax", "Softmax2d"), _HEAD),
    **dict.fromkeys(("matmul", "bmm", "mm", "einsum", "baddbmm", "__matmul__"), _PRODUCT),
    **dict.fromkeys(("MultiheadAttention", "scaled_dot_product_attention"), _PRODUCT),
    **dict.fromkeys(("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"), _RECURRENT),
    **dict.fromkeys(("LayerNorm", "layer_norm", "GroupNorm", "group_norm", "RMSNorm"), _NORM),
    **dict.fromkeys(("InstanceNorm1d", "InstanceNorm2d", "instance_norm", "normalize"), _NORM),
    **dict.fromkeys(("BatchNorm3d", "Conv3d", "MaxPool3d", "AvgPool3d"), "use the 2d form"),
    **dict.fromkeys(("argmin",), "use argmax of the negative"),
    **dict.fromkeys(("where", "masked_fill"), "use relu, clamp, maximum or minimum"),
    **dict.fromkeys(_COMPARISONS, "use relu, clamp, maximum or minimum in place of a condition"),
    **dict.fromkeys(("zeros", "ones", "full", "empty", "new_zeros", "new_ones"), _FILLED),
    **dict.fromkeys(("zeros_like", "ones_like", "full_like", "new_full"), _FILLED),
    **dict.fromkeys(("GLU", "glu"), "use a, b = x.chunk(2, 1) and a * torch.sigmoid(b)"),
    **dict.fromkeys(("addmm", "mv", "kron", "Bilinear", "bilinear", "cdist"), _PRODUCT),
    **dict.fromkeys(("TransformerEncoderLayer", "TransformerDecoderLayer"), _PRODUCT),
    **dict.fromkeys(("int", "long", "bool", "half", "double", "bfloat16", "type"), _DTYPE),
    **dict.fromkeys(("lerp", "addcmul", "addcdiv", "fmod", "mod", "remainder"), _LONG),
    **dict.fromkeys(("floordiv", "floor_divide"), "use torch.floor(x / n)"),
    **dict.fromkeys(("logsumexp", "Softmin", "softmin"), _HEAD),
    **dict.fromkeys(("kthvalue", "median", "mode", "msort"), "use amax or argmax"),
    **dict.fromkeys(("RReLU", "rrelu"), "use LeakyReLU with the mean of its slopes"),
    **dict.fromkeys(("Unfold", "unfold"), "use a convolution, or slices and torch.cat"),
    **dict.fromkeys(("cumsum",), "use a linear layer whose weights are a triangle of ones"),
    **dict.fromkeys(("roll",), "join the two slices with torch.cat"),
    **dict.fromkeys(
        ("max", "min"), "name the axis and take the values: x.max(1).values, x.amax(1)"
    ),
    **dict.fromkeys(("topk", "sort"), "use amax or argmax"),
    **dict.fromkeys(("prod", "std", "var", "norm"), "use sum, mean, amax or amin"),
    **dict.fromkeys(
        ("ReflectionPad1d", "ReflectionPad2d", "ReplicationPad1d", "ReplicationPad2d"),
        "use ZeroPad2d, ConstantPad2d or functional.pad with a constant",
    ),
}
_CLAMP = "a tensor and a constant", "use clamp with a number as its bound"
_QUOTIENT = "two tensors", "multiply by the reciprocal: a * torch.reciprocal(b)"
# The same by the number of tensors that depend on the inputs.
_FORMS: Mapping[tuple[str, int], tuple[str, str]] = {
    **dict.fromkeys(((name, 1) for name in ("maximum", "max", "fmax")), _CLAMP),
    **dict.fromkeys(((name, 1) for name in ("minimum", "min", "fmin")), _CLAMP),
    **dict.fromkeys(((name, 2) for name in ("truediv", "itruediv", "div", "divide")), _QUOTIENT),
}


def operators() -> tuple[Op[Any], ...]:
    """Returns every operator, by name."""
    return _OPERATORS


def operator(name: str) -> Op[Any]:
    """Returns the operator of that name. Raises UnsupportedOpError."""
    for op in _OPERATORS:
        if op.name == name:
            return op
    known = (op.name for op in _OPERATORS)
    raise UnsupportedOpError(f"no operator '{name}'{did_you_mean(name, known)}")


def candidates(node: fx.Node, module: nn.Module | None) -> tuple[Op[Any], ...]:
    """Returns the operators that a node may call, whatever its operands are."""
    name = getattr(module, "operator", None)
    if isinstance(name, str):
        return (operator(name),)
    return _by_target().get(type(module) if module is not None else node.target, ())


def find(node: fx.Node, module: nn.Module | None, arity: int) -> Op[Any]:
    """Returns the operator that a node calls on `arity` tensors that depend on the inputs.

    Raises UnsupportedOpError with the node, its source line and what to use instead.
    """
    if isinstance(module, QuantizedLayer | QuantizedResult):
        return operator(module.operator)
    key: object = type(module) if module is not None else node.target
    if module is None and arity == 1 and _leads_with_constant(node):
        for op in _OPERATORS:
            if key in op.reversed_targets:
                return op
    for op in _by_target().get(key, ()):
        if op.arity in (None, arity):
            return op
    raise _unsupported(node, key, arity)


def _leads_with_constant(node: fx.Node) -> bool:
    """Whether the first operand of a call is a number, or computed from parameters only."""
    first = node.args[0] if node.args else None
    if isinstance(first, fx.Node):
        return common_of(first).operator == "constant"
    return isinstance(first, int | float)


@cache
def _by_target() -> dict[object, tuple[Op[Any], ...]]:
    table: dict[object, tuple[Op[Any], ...]] = {}
    for op in _OPERATORS:
        for target in dict.fromkeys(op.targets):
            others = table.get(target, ())
            for other in others:
                if other.arity == op.arity or None in (other.arity, op.arity):
                    raise ValueError(
                        f"target {target!r} belongs to operator '{other.name}', "
                        f"'{op.name}' cannot have it too"
                    )
            table[target] = (*others, op)
    return table


def _other_part(node: fx.Node, at: str) -> UnsupportedOpError:
    """A tensor out of a call that gives several."""
    source, owner = node.all_input_nodes[0], node.graph.owning_module
    key: object = source.target
    if source.op == "call_module" and owner is not None:
        key = type(owner.get_submodule(str(key)))
    whole = key if isinstance(key, str) else getattr(key, "__name__", str(key))
    if whole in _REMEDIES and whole not in ("max", "min"):
        return UnsupportedOpError(
            f"node '{source.name}'{at}: '{whole}' is not a chop operator; {_REMEDIES[whole]}"
        )
    return UnsupportedOpError(
        f"node '{node.name}'{at}: part {node.args[1]!r} of what '{whole}' gives has no hardware; "
        "use the first part (the values, without indices), or argmax"
    )


def _unsupported(node: fx.Node, key: object, arity: int) -> UnsupportedOpError:
    name = key if isinstance(key, str) else getattr(key, "__name__", str(key))
    place = source_line(node)
    at = f" ({place})" if place else ""
    known = _by_target().get(key, ())
    if arity == 0 and node.all_input_nodes and name in ("getitem", "getattr"):
        return _other_part(node, at)
    if (name, arity) in _FORMS:
        return UnsupportedOpError(
            f"node '{node.name}'{at}: '{name}' of {_FORMS[name, arity][0]} is not a chop operator; "
            f"{_FORMS[name, arity][1]}"
        )
    if known:
        forms = " or ".join(f"{op.arity}" for op in known)
        return UnsupportedOpError(
            f"node '{node.name}'{at}: '{name}' of {arity} tensors that depend on the inputs is not "
            f"a chop operator; use it with {forms} and constants otherwise"
        )
    if name in _REMEDIES:
        return UnsupportedOpError(
            f"node '{node.name}'{at}: '{name}' is not a chop operator; {_REMEDIES[name]}"
        )
    spellings = {t if isinstance(t, str) else getattr(t, "__name__", "") for t in _by_target()}
    near = did_you_mean(name, {s for s in spellings if s})
    if not near.startswith("; did"):
        near = "; see 'chop list operators' for what there is"
    return UnsupportedOpError(f"node '{node.name}'{at}: '{name}' is not a chop operator{near}")
