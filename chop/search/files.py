"""Configurations of a study as files that `chop transform` takes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from chop.config.schema import Config
from chop.ir.files import write_text

__all__ = ["config_to_toml", "write_config"]


def config_to_toml(config: Config, directory: Path, title: str) -> str:
    """Returns the configuration as the text of a file in `directory`: read, it is the same again.

    Files that it names stay where they are: they are named relative to the directory.
    """
    table = _plain(config.model_dump(mode="json", by_alias=True, exclude_defaults=True))
    table["name"] = config.name
    if config.passes is not None:
        table["passes"] = [_plain({"name": c.name, **c.arguments}) for c in config.passes]
    model = table.get("model")
    if isinstance(model, dict):
        for key in ("path", "graph"):
            if isinstance(model.get(key), str):
                model[key] = _relative(model[key], directory)
    order = ("name", "seed", "model", "dataset", "train", "retrain", "passes", "qat", "hardware")
    keys = [*(k for k in order if k in table), *(k for k in table if k not in order)]
    return f"# {title}\n{tomli_w.dumps({key: table[key] for key in keys})}"


def write_config(config: Config, path: Path, title: str) -> None:
    """Writes the configuration to a file."""
    write_text(path, config_to_toml(config, path.parent, title))


def _relative(name: str, directory: Path) -> str:
    file, colon, function = name.rpartition(":")
    if colon and file.endswith(".py"):
        return f"{os.path.relpath(file, directory)}:{function}"
    return os.path.relpath(name, directory)


def _plain(value: Any) -> Any:
    """Returns the value with what TOML has; what is None is left out."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
