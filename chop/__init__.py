"""chop: from a PyTorch model to a dataflow accelerator that provably computes it.

Names are looked up on first use, so that `import chop` (and `chop --help`) does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chop.errors import (
        CaptureError,
        ChopError,
        ConfigError,
        DataError,
        FormatError,
        PassOrderError,
        ShapeError,
        SimulationError,
        ToolError,
        UnsupportedOpError,
        VerifyError,
    )
    from chop.flows.compile import Accelerator, compile
    from chop.ir.graph import MaseGraph

__all__ = [
    "Accelerator",
    "CaptureError",
    "ChopError",
    "ConfigError",
    "DataError",
    "FormatError",
    "MaseGraph",
    "PassOrderError",
    "ShapeError",
    "SimulationError",
    "ToolError",
    "UnsupportedOpError",
    "VerifyError",
    "compile",
]

_HOMES = {
    "Accelerator": "chop.flows.compile",
    "MaseGraph": "chop.ir.graph",
    "compile": "chop.flows.compile",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'chop' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES.get(name, "chop.errors")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
