"""Name -> "module:function" of every ready-made model."""

from __future__ import annotations

__all__ = ["MODELS"]

MODELS = {
    "JSC_Three_Linear_Layers": "chop.models.jsc:JSC_Three_Linear_Layers",
    "JSC_Tiny": "chop.models.jsc:JSC_Tiny",
    "mlp": "chop.models.perceptron:mlp",
}
