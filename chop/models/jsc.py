"""Two small classifiers of jets (16 features, 5 classes), with MASE's layer names."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["JSC_Three_Linear_Layers", "JSC_Tiny"]

_FEATURES = 16
_CLASSES = 5


class JSC_Tiny(nn.Module):
    """Batch norm and one linear layer: [N, 16] -> [N, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.seq_blocks = nn.Sequential(nn.BatchNorm1d(_FEATURES), nn.Linear(_FEATURES, _CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the scores of the five classes."""
        scores: torch.Tensor = self.seq_blocks(x)
        return scores


class JSC_Three_Linear_Layers(nn.Module):
    """Batch norm and three linear layers with a ReLU after each of the four: [N, 16] -> [N, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.seq_blocks = nn.Sequential(
            nn.BatchNorm1d(_FEATURES),
            nn.ReLU(),
            nn.Linear(_FEATURES, _FEATURES),
            nn.ReLU(),
            nn.Linear(_FEATURES, _FEATURES),
            nn.ReLU(),
            nn.Linear(_FEATURES, _CLASSES),
            nn.ReLU(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the scores of the five classes, none below zero."""
        scores: torch.Tensor = self.seq_blocks(x)
        return scores
