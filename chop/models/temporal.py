"""A temporal convolutional network.

Bai, Kolter, Koltun: An empirical evaluation of generic convolutional and recurrent networks for
sequence modeling, 2018; with batch norm in the place of weight norm.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from chop.models.checks import check_counts, check_sizes

__all__ = ["Tcn", "tcn"]


class _Block(nn.Module):
    """Two causal convolutions of one dilation, and x added: a 1x1 convolution of it where it must.

    A result at time t depends on x up to time t: zeros are put in on the left only.
    """

    def __init__(self, width_in: int, width_out: int, kernel: int, dilation: int) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for index, (inner, outer) in enumerate(pairwise((width_in, width_out, width_out)), 1):
            layers[f"pad{index}"] = nn.ConstantPad1d((dilation * (kernel - 1), 0), 0.0)
            layers[f"conv{index}"] = nn.Conv1d(inner, outer, kernel, dilation=dilation)
            layers[f"bn{index}"] = nn.BatchNorm1d(outer)
            layers[f"relu{index}"] = nn.ReLU()
        self.causal = nn.Sequential(layers)
        self.shortcut: nn.Module = nn.Identity()
        if width_in != width_out:
            self.shortcut = nn.Conv1d(width_in, width_out, 1)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.relu(self.causal(x) + self.shortcut(x))
        return result


class Tcn(nn.Module):
    """Residual blocks of dilated causal convolutions; the last time step is classified."""

    def __init__(
        self, in_channels: int, channels: int, kernel: int, dilations: Sequence[int], classes: int
    ) -> None:
        super().__init__()
        widths = pairwise((in_channels, *[channels] * len(dilations)))
        self.blocks = nn.Sequential(
            OrderedDict[str, nn.Module](
                (f"block{index}", _Block(inner, outer, kernel, dilation))
                for index, ((inner, outer), dilation) in enumerate(
                    zip(widths, dilations, strict=True), start=1
                )
            )
        )
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the scores of the classes: [N, C, L] -> [N, classes]."""
        scores: torch.Tensor = self.fc(self.blocks(x)[:, :, -1])
        return scores


def tcn(
    in_channels: int = 4,
    channels: int = 16,
    kernel: int = 3,
    dilations: Sequence[int] = (1, 2, 4, 8),
    classes: int = 10,
) -> Tcn:
    """Temporal convolutional network: a sequence [N, 4, L] -> [N, classes].

    One residual block of two causal convolutions for each dilation; what is classified has seen
    1 + 2 * (kernel - 1) * sum(dilations) = 61 time steps.
    6,202 parameters; for L = 64, 360,608 multiply-accumulates.
    """
    check_counts(
        "tcn",
        {"in_channels": in_channels, "channels": channels, "kernel": kernel, "classes": classes},
    )
    check_sizes("tcn", "dilations", dilations)
    return Tcn(in_channels, channels, kernel, dilations, classes)
