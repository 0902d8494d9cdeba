"""A TOML file or a mapping, with overrides on top, into a `Config`."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from chop.config.parse import parse_section
from chop.config.schema import Config
from chop.errors import ConfigError, did_you_mean

__all__ = ["load_config"]

Table = dict[str, object]


def load_config(
    source: Path | str | Mapping[str, object] | None = None,
    overrides: Sequence[str] = (),
    model: str | None = None,
) -> Config:
    """Returns the checked configuration of a TOML file, a mapping or nothing.

    Args:
        source: a TOML path, a mapping of the same shape, or None for the defaults.
        overrides: "a.b.c=value" each, TOML on both sides of the sign; a bare word is a string.
            `passes.<name>.` reaches a pass in either spelling of the list.
        model: takes the place of the [model] table: a registered name, "file.py:function" or the
            path of a saved graph.

    Paths inside a TOML file are relative to that file. Raises ConfigError for a file that cannot be
    read, an unknown key, a wrong value or an override without a place to go.
    """
    table, who = _read(source)
    if model is not None:
        table["model"] = _model_table(model, table.get("model"))
        if source is None:
            table["name"] = _model_name(model)
    for override in overrides:
        _override(table, override)
    if "passes" in table:
        table["passes"] = _pass_list(table["passes"], who)
    return parse_section(Config, table, who)


def _read(source: Path | str | Mapping[str, object] | None) -> tuple[Table, str]:
    if source is None:
        return {}, "config"
    if isinstance(source, Mapping):
        return copy.deepcopy(dict(source)), "config"
    path = Path(source)
    who = f"config '{path}'"
    try:
        table: Table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{who}: no such file; see configs/ for examples") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{who}: {error}") from error
    model = table.get("model")
    if isinstance(model, dict):
        for key in ("path", "graph"):
            if isinstance(model.get(key), str):
                model[key] = str(path.parent / model[key])
    return table, who


def _override(table: Table, override: str) -> None:
    key, sign, value = override.partition("=")
    if not sign or not key.strip():
        raise ConfigError(f"override '{override}': must read key=value, e.g. train.epochs=5")
    try:
        change = tomllib.loads(override)
    except tomllib.TOMLDecodeError:
        try:
            change = tomllib.loads(f"{key} = {json.dumps(value.strip())}")
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(
                f"override '{override}': '{key}' is not a TOML key: {error}"
            ) from error
    passes = table.get("passes")
    if "passes" in change and passes is None:
        raise ConfigError(f"override '{override}': no list of passes to change; give a --config")
    if "passes" in change and isinstance(change["passes"], dict) and isinstance(passes, list):
        for name, arguments in change.pop("passes").items():
            _merge(_pass_named(passes, name, override), arguments)
    _merge(table, change)


def _pass_named(passes: list[object], name: str, override: str) -> Table:
    """Returns the table of the pass of that name, which there must be exactly one of."""
    tables = [cast(Table, entry) for entry in passes if isinstance(entry, dict)]
    found = [entry for entry in tables if entry.get("name") == name]
    if not found:
        names = [str(entry.get("name")) for entry in tables]
        raise ConfigError(
            f"override '{override}': no pass '{name}' in the list{did_you_mean(name, names)}"
        )
    if len(found) > 1:
        raise ConfigError(
            f"override '{override}': pass '{name}' stands {len(found)} times in the list; "
            "edit the file instead"
        )
    return found[0]


def _merge(table: Table, change: Mapping[str, object]) -> None:
    for key, value in change.items():
        old = table.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            _merge(old, value)
        else:
            table[key] = value


def _model_table(model: str, old: object) -> Table:
    file, colon, function = model.rpartition(":")
    if colon and file.endswith(".py") and function:
        table: Table = {"path": model}
    elif model.endswith(".py"):
        raise ConfigError(f"model '{model}': must name a function; use '{model}:make_model'")
    elif Path(model).is_file():
        table = {"graph": model}
    else:
        table = {"name": model}
    # Arguments belong to the model that they were written for.
    if isinstance(old, dict) and "arguments" in old and old.items() >= table.items():
        table["arguments"] = old["arguments"]
    return table


def _model_name(model: str) -> str:
    return Path(model.rpartition(":")[0] or model).stem


def _pass_list(passes: object, who: str) -> tuple[object, ...]:
    """Both spellings of the list as one: [[passes]] with a name in each, or [passes.<name>]."""
    if isinstance(passes, Mapping):
        entries: list[tuple[object, object]] = list(passes.items())
    elif isinstance(passes, Sequence) and not isinstance(passes, str):
        entries = []
        for index, entry in enumerate(passes):
            if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
                raise ConfigError(
                    f"{who}: 'passes.{index}' must be a table with a name, got {entry!r}"
                )
            rest = {key: value for key, value in entry.items() if key != "name"}
            entries.append((entry["name"], rest))
    else:
        raise ConfigError(f"{who}: 'passes' must be a list of tables, got {passes!r}")
    for name, arguments in entries:
        if not isinstance(arguments, Mapping):
            raise ConfigError(f"{who}: 'passes.{name}' must be a table, got {arguments!r}")
    return tuple({"name": name, "arguments": arguments} for name, arguments in entries)
