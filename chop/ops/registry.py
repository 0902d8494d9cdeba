"""The operators that chop knows: one line each."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import fx, nn

from chop.errors import UnsupportedOpError, did_you_mean
from chop.ir.capture import source_line
from chop.nn.layers import QuantizedLayer
from chop.ops.add import ADD
from chop.ops.base import Op
from chop.ops.batch_norm import BATCH_NORM
from chop.ops.cast import Cast
from chop.ops.clamp import Clamp
from chop.ops.identity import Identity
from chop.ops.leaky_relu import LeakyRelu
from chop.ops.linear import Linear
from chop.ops.mul import MUL
from chop.ops.neg import NEG
from chop.ops.relu import Relu
from chop.ops.reshape import Reshape
from chop.ops.sub import SUB

__all__ = ["find", "operator", "operators"]

_OPERATORS: tuple[Op[Any], ...] = (
    ADD,
    BATCH_NORM,
    Cast(),
    Clamp(),
    Identity(),
    LeakyRelu(),
    Linear(),
    MUL,
    NEG,
    Relu(),
    Reshape(),
    SUB,
)


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


def find(node: fx.Node, module: nn.Module | None) -> Op[Any]:
    """Returns the operator that a node calls.

    Raises UnsupportedOpError with the node, its source line and what to use instead.
    """
    if isinstance(module, QuantizedLayer):
        return operator(module.operator)
    key: object = type(module) if module is not None else node.target
    try:
        return _by_target()[key]
    except KeyError:
        raise _unsupported(node, key) from None


@cache
def _by_target() -> dict[object, Op[Any]]:
    table: dict[object, Op[Any]] = {}
    for op in _OPERATORS:
        for target in op.targets:
            if table.get(target, op) is not op:
                raise ValueError(
                    f"target {target!r} belongs to operator '{table[target].name}', "
                    f"'{op.name}' cannot have it too"
                )
            table[target] = op
    return table


def _unsupported(node: fx.Node, key: object) -> UnsupportedOpError:
    name = key if isinstance(key, str) else getattr(key, "__name__", str(key))
    spellings = {t if isinstance(t, str) else getattr(t, "__name__", "") for t in _by_target()}
    near = did_you_mean(name, {s for s in spellings if s})
    if not near.startswith("; did"):
        near = "; see 'chop list operators' for what there is"
    place = source_line(node)
    at = f" ({place})" if place else ""
    return UnsupportedOpError(f"node '{node.name}'{at}: '{name}' is not a chop operator{near}")
