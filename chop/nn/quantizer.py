"""Fake quantisers: modules that put a tensor on the levels of a format, and how they train."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from chop.formats.base import Format
from chop.formats.rounding import Floats, Rounding
from chop.nn.quantizers.options import AlgorithmOptions, parse_options
from chop.nn.straight_through import straight_through

__all__ = ["Moment", "Place", "Quantizer", "Role", "Static", "Tuning"]

# What is quantised: a parameter of a layer, or a tensor that flows between layers.
Role = Literal["weight", "data"]


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a training stands: epoch and step from 0, with how many there will be."""

    epoch: int
    epochs: int
    step: int
    steps: int
    seed: int = 0

    @property
    def progress(self) -> float:
        """How far the training is, from 0 up to (not including) 1."""
        return self.step / self.steps


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a model a quantiser stands.

    Attributes:
        index: its number among all quantisers, in the order in which the graph runs them.
        depth, depths: the number of its module among those with a quantiser of the same algorithm,
            and how many there are.
    """

    index: int = 0
    depth: int = 0
    depths: int = 1


@dataclass(frozen=True, slots=True)
class Tuning:
    """How the parameters of a quantiser itself are trained, beside the weights of the model.

    Attributes:
        rate: factor on the learning rate.
        weight_decay: their own; None takes that of the weights.
    """

    rate: float = 1.0
    weight_decay: float | None = 0.0


class Quantizer(nn.Module, ABC):
    """Fake-quantises one tensor, and knows the number format that it has come to.

    In evaluation mode the result is exactly `format.quantize(x)`: what training left behind is all
    in the format. Everything that a controller changes is in buffers or parameters, so that a
    checkpoint restores it; `place` follows from the model and is set anew when training starts.
    """

    # The name of the training algorithm in configurations.
    algorithm: ClassVar[str]

    def __init__(self, rounding: Rounding = Rounding.HALF_UP) -> None:
        super().__init__()
        self.rounding = rounding
        self.place = Place()

    @property
    @abstractmethod
    def format(self) -> Format:
        """The format with the parameters of this moment."""

    @abstractmethod
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns x on the levels, differentiable."""

    @property
    def tuning(self) -> Tuning:
        """How its own parameters are trained."""
        return Tuning()

    def on_step(self, moment: Moment, tensor: torch.Tensor | None) -> None:
        """The controller: called before every training step, without gradients.

        `tensor` is the parameter that a weight quantiser quantises, else None. A second call at the
        same moment changes nothing.
        """

    def after_step(self, tensor: torch.Tensor | None) -> None:
        """Called after every optimiser step, without gradients; may put weights back."""

    def extra_repr(self) -> str:
        return f"{self.algorithm}, {self.format}, {self.rounding}"


class StaticOptions(AlgorithmOptions):
    """The straight-through estimator has nothing to set."""


class Static(Quantizer):
    """A format that training does not change: straight-through gradient inside its range."""

    algorithm = "ste"

    def __init__(self, format: Format, rounding: Rounding = Rounding.HALF_UP) -> None:
        super().__init__(rounding)
        self._format = format

    @classmethod
    def create(
        cls,
        values: Floats,
        format: Format,
        role: Role,
        options: Mapping[str, Any],
        rounding: Rounding,
    ) -> Static:
        """Returns the quantiser. Raises ConfigError for any option."""
        parse_options(StaticOptions, options, cls.algorithm)
        return cls(format, rounding)

    @property
    def format(self) -> Format:
        return self._format

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return straight_through(x, self._format, self.rounding)
