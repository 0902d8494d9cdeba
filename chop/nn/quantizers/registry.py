"""The training algorithms by name, and what each can quantise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chop.errors import ConfigError, did_you_mean
from chop.formats.base import Format
from chop.formats.rounding import Floats, Rounding
from chop.nn.quantizer import Quantizer, Role, Static
from chop.nn.quantizers.ana import Ana
from chop.nn.quantizers.inq import Inq
from chop.nn.quantizers.lsq import Lsq
from chop.nn.quantizers.pact import Pact
from chop.nn.quantizers.rpr import Rpr
from chop.nn.quantizers.sawb import Sawb
from chop.nn.quantizers.tqt import Tqt

__all__ = ["ALGORITHMS", "Algorithm", "create_quantizer", "find_algorithm"]

_Create = Callable[[Floats, Format, Role, Mapping[str, Any], Rounding], Quantizer]
_BOTH: frozenset[Role] = frozenset({"weight", "data"})
_WEIGHTS: frozenset[Role] = frozenset({"weight"})
_DATA: frozenset[Role] = frozenset({"data"})


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A way to train through rounding.

    Attributes:
        roles: what it can quantise.
        make: builds a quantiser from the values that were seen, the calibrated format, the role,
            the options and the rounding.
    """

    name: str
    summary: str
    roles: frozenset[Role]
    make: _Create

    def create(
        self,
        values: Floats,
        format: Format,
        role: Role,
        options: Mapping[str, Any],
        rounding: Rounding = Rounding.HALF_UP,
    ) -> Quantizer:
        """Returns a quantiser that starts from `format`, calibrated on `values` (float64).

        Raises ConfigError for a role or a format out of its reach, and for an unknown option.
        """
        if role not in self.roles:
            others = sorted(name for name, other in ALGORITHMS.items() if role in other.roles)
            raise ConfigError(
                f"training algorithm '{self.name}': quantises {' and '.join(sorted(self.roles))}, "
                f"not {role}; use {', '.join(others)}"
            )
        return self.make(values, format, role, options, rounding)


ALGORITHMS: Mapping[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm("ana", "noise on the staircase, annealed to none", _BOTH, Ana.create),
        Algorithm("inq", "weights frozen on the levels, the largest first", _WEIGHTS, Inq.create),
        Algorithm("lsq", "the step between levels is learned", _BOTH, Lsq.create),
        Algorithm("pact", "the clip of activations is learned", _DATA, Pact.create),
        Algorithm("rpr", "a random part of the weights on the levels", _WEIGHTS, Rpr.create),
        Algorithm("sawb", "the weights' statistics give the clip", _WEIGHTS, Sawb.create),
        Algorithm("ste", "straight through the calibrated format", _BOTH, Static.create),
        Algorithm("tqt", "power-of-two ranges are learned", _BOTH, Tqt.create),
    )
}


def find_algorithm(name: str) -> Algorithm:
    """Returns the algorithm of that name. Raises ConfigError with the nearest name."""
    if name not in ALGORITHMS:
        raise ConfigError(f"no training algorithm '{name}'{did_you_mean(name, ALGORITHMS)}")
    return ALGORITHMS[name]


def create_quantizer(
    name: str,
    values: Floats,
    format: Format,
    role: Role,
    options: Mapping[str, Any],
    rounding: Rounding = Rounding.HALF_UP,
) -> Quantizer:
    """Returns a quantiser of the named algorithm; see `Algorithm.create`."""
    return find_algorithm(name).create(values, format, role, options, rounding)
