"""Search for the settings that the hardware wants: spaces, strategies, studies, results.

    from chop.search import search
    result = search(load_config("configs/search_digits.toml"))

Names are looked up on first use: a result is read without PyTorch or Optuna.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chop.search.result import StudyResult, TrialResult, load_result
    from chop.search.study import join_search, search

__all__ = ["StudyResult", "TrialResult", "join_search", "load_result", "search"]

_HOMES = {"search": "chop.search.study", "join_search": "chop.search.study"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'chop.search' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES.get(name, "chop.search.result")), name)
