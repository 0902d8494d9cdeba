"""Element-wise functions of one tensor, by name, and their values to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from chop.nn.result import ResultLayer

__all__ = ["FUNCTIONS", "Elementwise", "Function", "evaluate"]

Constant = float | int | str

# A piece is whole vectors, and too small for torch to share it out among threads.
_PIECE, _VECTOR = 2048, 64


def _gelu(x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
    return functional.gelu(x, approximate=approximate)


def _round(x: torch.Tensor, decimals: int = 0) -> torch.Tensor:
    return torch.round(x, decimals=decimals)


def _power_of(x: torch.Tensor, base: float) -> torch.Tensor:
    return torch.pow(base, x)


def _quotient(x: torch.Tensor, dividend: float) -> torch.Tensor:
    result: torch.Tensor = dividend / x
    return result


# What each name computes; constants follow the tensor.
FUNCTIONS: Mapping[str, Callable[..., torch.Tensor]] = {
    "gelu": _gelu,
    "round": _round,
    "leaky": functional.leaky_relu,
    "power_of": _power_of,
    "quotient": _quotient,
    **{
        name: getattr(functional, name)
        for name in (
            *("celu", "elu", "selu", "silu", "mish", "softplus", "softsign", "logsigmoid"),
            *("hardsigmoid", "hardswish", "hardshrink", "softshrink", "tanhshrink", "threshold"),
        )
    },
    **{
        name: getattr(torch, name)
        for name in (
            *("sigmoid", "tanh", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p"),
            *("sqrt", "rsqrt", "reciprocal", "square", "pow", "erf", "erfc", "abs", "sign"),
            *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh"),
            *("atanh", "floor", "ceil", "trunc", "frac"),
        )
    },
}


@dataclass(frozen=True, slots=True)
class Function:
    """A name of FUNCTIONS and the constants that it is called with."""

    name: str
    constants: tuple[Constant, ...] = ()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return FUNCTIONS[self.name](x, *self.constants)

    def __str__(self) -> str:
        listed = ", ".join(map(str, self.constants))
        return f"{self.name}({listed})" if listed else self.name


def evaluate(function: Function, x: torch.Tensor) -> torch.Tensor:
    """Returns the function in float64, every element's value from the element alone.

    Torch computes what is left over at the end of a tensor, or of a thread's share, by other
    instructions than whole vectors, and their last bits differ. Here all elements go through
    vectors, so that a table of the function holds what a network computes, bit for bit.
    """
    flat = x.detach().to(torch.float64).reshape(-1)
    padded = torch.cat([flat, flat.new_ones(-len(flat) % _VECTOR)])
    pieces = [function(piece) for piece in torch.split(padded, _PIECE)]
    return torch.cat(pieces)[: len(flat)].reshape(x.shape)


class _Evaluate(torch.autograd.Function):
    """`evaluate` with the function's own gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, function: Function) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.function = function
        return evaluate(function, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(ctx.function(leaf), leaf, grads[0])
        return gradient, None


class Elementwise(ResultLayer):
    """A function as a layer."""

    operator = "table"
    quantizes_input = True

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    @property
    def spelling(self) -> str:
        return self.function.name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)

    def exact(self, *inputs: torch.Tensor) -> torch.Tensor:
        return cast(Callable[..., torch.Tensor], _Evaluate.apply)(inputs[0], self.function)

    def extra_repr(self) -> str:
        return str(self.function)
