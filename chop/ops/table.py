"""table: any function of one element, as a table of its values at every level of the input."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional

from chop.errors import FormatError, UnsupportedOpError
from chop.formats.base import Format
from chop.formats.fixed import Fixed
from chop.formats.requantisers import Table as TableRequantiser
from chop.formats.rounding import Floats, Ints, Rounding
from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.meta import Cost
from chop.ir.tensor_type import TensorType
from chop.nn.functions import FUNCTIONS, Constant, Elementwise, Function, evaluate
from chop.nn.result import QuantizedResult
from chop.ops.base import Binding, Build, Call, Case, Memory, Op, Site
from chop.ops.cast_hardware import cast_binding, cast_cost, cast_flow, cast_memories
from chop.ops.timing import Flow

__all__ = ["Table", "TableAttributes"]

# Words of a table: up to the first as logic or as the ROM style says, up to the second in block
# memory.
_LOGIC_BITS, _MOST_BITS = 12, 16

_MODULES: Mapping[str, type[nn.Module]] = {
    **{
        name.lower(): getattr(nn, name)
        for name in (
            *("CELU", "ELU", "GELU", "SELU", "SiLU", "Mish", "Sigmoid", "Tanh", "Softplus"),
            *("Softsign", "LogSigmoid", "Hardsigmoid", "Hardswish", "Hardshrink", "Softshrink"),
            *("Tanhshrink", "Threshold"),
        )
    },
}
# The constants of a call after the tensor, with their defaults; modules have them as attributes.
_PARAMETERS: Mapping[str, tuple[tuple[str, Constant | None], ...]] = {
    "gelu": (("approximate", "none"),),
    "celu": (("alpha", 1.0),),
    "elu": (("alpha", 1.0),),
    "hardshrink": (("lambd", 0.5),),
    "pow": (("exponent", None),),
    "round": (("decimals", 0),),
    "softplus": (("beta", 1.0), ("threshold", 20.0)),
    "softshrink": (("lambd", 0.5),),
    "threshold": (("threshold", None), ("value", None)),
}
_ALIASES: Mapping[object, str] = {
    operator.pow: "pow",
    operator.ipow: "pow",
    operator.abs: "abs",
    torch.absolute: "abs",
    torch.special.expit: "sigmoid",
}
# Where the first operand is the constant.
_REVERSED: Mapping[object, str] = {
    operator.pow: "power_of",
    torch.pow: "power_of",
    operator.truediv: "quotient",
    torch.div: "quotient",
}


def _spellings(name: str) -> tuple[object, ...]:
    """Returns the functions and methods of that name, in-place forms included."""
    names = (name, f"{name}_")
    found = [getattr(place, n) for place in (torch, functional) for n in names if hasattr(place, n)]
    methods = [n for n in names if hasattr(torch.Tensor, n)]
    module = [_MODULES[name]] if name in _MODULES else []
    return (*module, *dict.fromkeys(found), *methods)


_TARGETS: Mapping[object, str] = {
    **{target: name for name in FUNCTIONS for target in _spellings(name)},
    **_ALIASES,
}


@dataclass(frozen=True, slots=True)
class TableAttributes:
    """The function; the format of its result and how it is rounded, None while it has none."""

    function: Function
    format: Format | None
    rounding: Rounding


class Table(Op[TableAttributes]):
    name = "table"
    summary = "y = f(x), rounded to a format of its own, by a table: " + ", ".join(
        sorted(FUNCTIONS)
    )
    targets = tuple(_TARGETS)
    reversed_targets = tuple(_REVERSED)
    module = "chop_table_cast"
    cycles = "elements / lanes; latency 2"
    limits = (
        "an input of at most 16 bits (a table of 2^width words); the result needs a format "
        "(data_out); every constant of the function is a number"
    )
    quantizes_input = True
    is_elementwise = True

    def read(self, call: Call) -> TableAttributes:
        module = call.module
        if isinstance(module, QuantizedResult):
            assert isinstance(module.layer, Elementwise)
            return TableAttributes(module.layer.function, module.format, module.rounding)
        return TableAttributes(_function(call), None, Rounding.HALF_UP)

    def result_layer(self, call: Call, inputs: Sequence[TensorType]) -> Elementwise | None:
        attributes = self.read(call)
        return Elementwise(attributes.function) if attributes.format is None else None

    def infer(self, site: Site[TableAttributes]) -> TensorType:
        format = site.attributes.format
        if format is None:
            raise FormatError(
                f"{site.attributes.function} has no integers of its own; give it a data_out format"
            )
        low, high = self.program(site).bounds
        return TensorType(site.inputs[0].shape, format, low, high, site.inputs[0].layout)

    def infer_scale(self, site: Site[TableAttributes]) -> Scale | None:
        format = site.attributes.format
        return None if format is None else format.scale

    def define(self, site: Site[TableAttributes], inputs: Sequence[Value]) -> Value:
        (x,) = inputs
        found = _table(site)
        return x.lookup(found.constants()[x.low - found.first : x.high - found.first + 1], x.low)

    def requantiser(self, site: Site[TableAttributes]) -> tuple[str, str]:
        found = _table(site)
        return found.kind, found.proof

    def memories(self, site: Site[TableAttributes], build: Build) -> tuple[Memory, ...]:
        return cast_memories(site, build, _table(site))

    def bind(self, site: Site[TableAttributes], build: Build) -> Binding:
        binding = cast_binding(site, build, _table(site))
        if site.inputs[0].fixed.width <= _LOGIC_BITS:
            return binding
        return Binding(binding.module, {**binding.parameters, "RomStyle": '"block"'})

    def flow(
        self, site: Site[TableAttributes], build: Build, valid: Sequence[Ints], samples: int
    ) -> Flow:
        return cast_flow(site, build, _table(site), valid[0])

    def cost(self, site: Site[TableAttributes], build: Build) -> Cost:
        return cast_cost(site, build, _table(site))

    def cases(self) -> tuple[Case, ...]:
        return (
            Case("gates", nn.Sequential(nn.Sigmoid(), nn.Tanh()), ((6,),)),
            Case("smooth", nn.Sequential(nn.SiLU(), nn.GELU("tanh"), nn.Softplus(2.0)), ((4,),)),
            Case("steps", _Steps(), ((2, 3),)),
            Case("bounded", _Bounded(), ((4,),)),
            Case("reversed", _Reversed(), ((4,),)),
        )


class _Steps(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.threshold(x.abs() ** 2, 0.5, 0.25).floor()


class _Bounded(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        positive = torch.relu(x) + 0.5
        return positive.log(), torch.sqrt(positive)


class _Reversed(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shrunk = 2.0**-x
        return 1.0 / (functional.relu6(shrunk) + 1.0)


def _function(call: Call) -> Function:
    """Returns the function that a call in floating point means."""
    target = type(call.module) if call.module is not None else call.node.target
    first = call.argument(0, "input")
    if call.module is None and not isinstance(first, fx.Node):
        return Function(_REVERSED[target], (_number(call, "the first operand", first),))
    name = _TARGETS[target]
    found = []
    for index, (key, default) in enumerate(_PARAMETERS.get(name, ()), start=1):
        if call.module is not None:
            given = getattr(call.module, key)
        else:
            given = call.argument(index, key, default)
        found.append(given if isinstance(given, str) else _number(call, key, given))
    return Function(name, tuple(found))


def _number(call: Call, what: str, value: object) -> float | int:
    """Returns a constant as the number that torch was given."""
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise call.refuse(
            f"{what} of '{call.spelling}' must be one number, got {_shown(value)}",
            "use a number; a vector can be multiplied or added",
        )
    return value


def _shown(value: object) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)


def _table(site: Site[TableAttributes]) -> TableRequantiser:
    """Returns the table of every code of the input. Raises UnsupportedOpError where none is."""
    (x,), attributes = site.inputs, site.attributes
    width, format = x.fixed.width, attributes.format
    assert format is not None
    if width > _MOST_BITS:
        raise UnsupportedOpError(
            f"node '{site.name}': a table of {attributes.function} takes inputs of at most "
            f"{_MOST_BITS} bits, got {width}; give it a data_in_width of at most {_MOST_BITS}"
        )
    if x.scale is not None and x.scale.per_channel:
        raise UnsupportedOpError(
            f"node '{site.name}': a table of {attributes.function} takes one scale for all "
            "channels; give it a data_in format"
        )
    if format.carrier is None or type(format).encode is not Format.encode:
        raise UnsupportedOpError(
            f"node '{site.name}': a table of {attributes.function} cannot hold {format}; "
            "give it a data_out format without blocks"
        )
    try:
        return _filled(attributes, x.fixed, x.low, x.high, x.scale)
    except FormatError as error:
        raise UnsupportedOpError(f"node '{site.name}': {error}") from error


@lru_cache(maxsize=256)
def _filled(
    attributes: TableAttributes, carrier: Fixed, low: int, high: int, scale: Scale | None
) -> TableRequantiser:
    codes = np.arange(carrier.low, carrier.high + 1, dtype=np.int64)
    # What cannot occur may be anything: it has the value of the nearest that can.
    reals: Floats = np.ldexp(np.clip(codes, low, high).astype(np.float64), -carrier.frac_width)
    reals = reals if scale is None else reals * scale.floats()
    values = evaluate(attributes.function, torch.from_numpy(reals)).numpy()
    if np.isnan(values).any():
        where = reals[np.isnan(values)][0]
        raise FormatError(
            f"{attributes.function} of {where:g} is not a number, and its input may be that; "
            "clamp the input first, or give it an unsigned data_in format"
        )
    assert attributes.format is not None
    levels = attributes.format.to_integers(values, attributes.rounding)
    proof = f"{attributes.function} in float64, rounded, for every input in {low}..{high}"
    return TableRequantiser(carrier.low, tuple(levels.tolist()), proof)
