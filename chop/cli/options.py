"""The options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from chop.config.schema import Config

__all__ = ["Build", "ConfigFile", "Json", "ModelSource", "Overrides", "read_config"]

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="A TOML file, such as those in configs/.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="Override, e.g. passes.quantize.default.config.weight_width=4. Repeatable.",
    ),
]
ModelSource = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="A name of 'chop list models', file.py:function, or a saved graph."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Build = Annotated[
    Path | None,
    typer.Option("--build", "-b", help="The emitted folder; by default build/<name of the job>."),
]


def read_config(config: Path | None, overrides: list[str] | None, model: str | None) -> Config:
    """Returns the configuration that the shared options describe."""
    from chop.config.load import load_config

    return load_config(config, overrides or (), model)
