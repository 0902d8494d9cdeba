"""What a configuration wants of a layer: a number format, and how it trains, for every tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from chop.errors import ConfigError, FormatError
from chop.formats.base import Format, Options
from chop.formats.registry import format_class, preset_options
from chop.formats.rounding import Floats, Rounding
from chop.nn.quantizer import Quantizer, Static
from chop.nn.quantizers.registry import create_quantizer

__all__ = ["LayerPlan", "TensorPlan"]

Role = Literal["weight", "bias", "data"]


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """One tensor: the format's name and options, the training algorithm and its options.

    `signed` None is "as the values ask for" where the range is calibrated, signed where given.
    """

    format: str
    options: Options = field(default_factory=Options)
    signed: bool | Literal["auto"] | None = None
    algorithm: str = "ste"
    algorithm_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def calibrated(self) -> bool:
        """Whether the range is found from data, rather than given."""
        return self.options.frac_width is None and self.options.scale is None

    @property
    def has_scale(self) -> bool:
        """Whether the format's levels may have a scale."""
        return "scale" in format_class(self.format).options

    @property
    def training(self) -> str:
        """The algorithm with its options, as text: equal where it trains the same way."""
        given = ", ".join(
            f"{key} = {value}" for key, value in sorted(self.algorithm_options.items())
        )
        return f"{self.algorithm} ({given})" if given else self.algorithm

    def fit(self, values: Floats, who: str, negative: bool) -> Format:
        """Returns the format for these values; `negative` says whether they can be below zero."""
        sign = self.signed
        if sign is None:
            # A format given in full is signed, as in MASE; one chosen here uses what it can.
            sign = "auto" if self.calibrated else True
        signed = negative if sign == "auto" else sign
        options = preset_options(self.format, self.options)
        try:
            return format_class(self.format).fit(values, replace(options, signed=signed))
        except FormatError as error:
            raise ConfigError(f"{who}: {error}") from error

    def quantizer(
        self, values: Floats, format: Format, role: Role, rounding: Rounding, who: str
    ) -> Quantizer:
        """Returns the fake quantiser that starts from the format."""
        if self.algorithm == "ste" and not self.algorithm_options:
            return Static(format, rounding)
        kind: Literal["weight", "data"] = "data" if role == "data" else "weight"
        try:
            return create_quantizer(
                self.algorithm, values, format, kind, self.algorithm_options, rounding
            )
        except (ConfigError, FormatError) as error:
            raise ConfigError(f"{who}: {error}") from error


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """The tensors of one layer. A bias without a plan gets the default.

    With `partial` a tensor without a plan stays as it is; without, it is a slip and refused.
    """

    data_in: TensorPlan | None = None
    weight: TensorPlan | None = None
    bias: TensorPlan | None = None
    data_out: TensorPlan | None = None
    quantizes: bool = True
    partial: bool = False
