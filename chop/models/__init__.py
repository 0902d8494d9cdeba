"""Ready-made models; looked up on first use, so that listing them does not import torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chop.models.jsc import JSC_Three_Linear_Layers, JSC_Tiny
    from chop.models.perceptron import mlp

__all__ = ["JSC_Three_Linear_Layers", "JSC_Tiny", "mlp"]

_HOMES = {
    "JSC_Three_Linear_Layers": "chop.models.jsc",
    "JSC_Tiny": "chop.models.jsc",
    "mlp": "chop.models.perceptron",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'chop.models' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
