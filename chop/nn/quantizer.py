"""Fake quantisers: modules that put a tensor on the levels of a format, and how they train."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import nn

from chop.formats.base import Format
from chop.formats.rounding import Rounding

__all__ = ["Moment", "Quantizer", "Static"]


class Moment:
    """Where a training stands: epoch and step from 0, with how many there will be."""

    __slots__ = ("epoch", "epochs", "seed", "step", "steps")

    def __init__(self, epoch: int, epochs: int, step: int, steps: int, seed: int = 0) -> None:
        self.epoch = epoch
        self.epochs = epochs
        self.step = step
        self.steps = steps
        self.seed = seed

    @property
    def progress(self) -> float:
        """How far the training is, from 0 up to (not including) 1."""
        return self.step / self.steps


class Quantizer(nn.Module, ABC):
    """Fake-quantises one tensor, and knows the number format that it has come to.

    In evaluation mode the result is exactly `format.quantize(x)`: what training left behind is all
    in the format. Everything that a controller changes is in buffers or parameters, so that a
    checkpoint restores it.
    """

    # The name of the training algorithm in configurations.
    algorithm: ClassVar[str]

    def __init__(self, rounding: Rounding = Rounding.HALF_UP) -> None:
        super().__init__()
        self.rounding = rounding

    @property
    @abstractmethod
    def format(self) -> Format:
        """The format with the parameters of this moment."""

    @abstractmethod
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns x on the levels, differentiable."""

    def on_step(self, moment: Moment, tensor: torch.Tensor | None) -> None:
        """The controller: called before every training step.

        `tensor` is the parameter that a weight quantiser quantises, else None.
        """

    def after_step(self, tensor: torch.Tensor | None) -> None:
        """Called after every optimiser step; may put frozen weights back where they were."""


class Static(Quantizer):
    """A format that training does not change: straight-through gradient inside its range."""

    algorithm = "ste"

    def __init__(self, format: Format, rounding: Rounding = Rounding.HALF_UP) -> None:
        super().__init__(rounding)
        self._format = format

    @property
    def format(self) -> Format:
        return self._format

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        from chop.nn.fake_quantize import fake_quantize

        return fake_quantize(x, self._format, self.rounding)

    def extra_repr(self) -> str:
        return f"{self._format}, {self.rounding}"
