"""`chop list` and `chop doctor`."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from chop.cli.options import Json
from chop.errors import ConfigError

__all__ = ["LISTINGS", "Entry", "Kind", "doctor", "list_names"]


class Kind(StrEnum):
    """What can be listed."""

    PASSES = "passes"
    OPERATORS = "operators"
    FORMATS = "formats"
    MODELS = "models"
    DATASETS = "datasets"
    TARGETS = "targets"


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a list."""

    name: str
    summary: str


def list_names(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    as_json: Json = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="All about the operators: docs/operators.md.")
    ] = False,
) -> None:
    """List what there is, by name."""
    if markdown:
        if kind is not Kind.OPERATORS or as_json:
            raise ConfigError(f"list {kind.value}: --markdown is for operators, without --json")
        from chop.cli.operator_page import operator_page

        print(operator_page(), end="")
        return
    entries = LISTINGS[kind]()
    if as_json:
        print(json.dumps([{"name": e.name, "summary": e.summary} for e in entries], indent=2))
        return
    from chop.cli.render import print_table

    print_table(kind.value, ("name", "what it is"), [(e.name, e.summary) for e in entries])


def doctor(as_json: Json = False) -> None:
    """Say which external tools are found."""
    from chop.errors import ToolError
    from chop.tools import find_tools

    statuses = find_tools()
    if as_json:
        rows = [
            {
                "name": status.tool.name,
                "why": status.tool.why,
                "required": status.tool.required,
                "path": None if status.path is None else str(status.path),
                "version": status.version,
                "problem": status.problem,
            }
            for status in statuses
        ]
        print(json.dumps(rows, indent=2))
    else:
        from chop.cli.render import print_table

        print_table(
            "tools",
            ("tool", "version", "what for", "to do"),
            [
                (
                    status.tool.name,
                    status.version or ("-" if status.tool.required else "- (optional)"),
                    status.tool.why,
                    status.problem or "",
                )
                for status in statuses
            ],
        )
    missing = [s.tool.name for s in statuses if s.tool.required and not s.usable]
    if missing:
        raise ToolError(f"tools missing: {', '.join(missing)}; see 'chop doctor'")


def _from_table(table: Mapping[str, str]) -> list[Entry]:
    """Entries of a registry "name" -> "module:attribute", told by their docstrings."""
    entries = []
    for name, home in sorted(table.items()):
        module, attribute = home.split(":")
        documented = getattr(importlib.import_module(module), attribute)
        entries.append(Entry(name, (documented.__doc__ or "").strip().splitlines()[0]))
    return entries


def _passes() -> list[Entry]:
    from chop.passes.registry import PASSES

    return _from_table(PASSES)


def _models() -> list[Entry]:
    from chop.models.registry import MODELS

    return _from_table(MODELS)


def _datasets() -> list[Entry]:
    from chop.datasets.registry import DATASETS

    return _from_table(DATASETS)


def _operators() -> list[Entry]:
    from chop.ops.registry import operators

    return [Entry(op.name, op.summary) for op in operators()]


def _formats() -> list[Entry]:
    from chop.formats.registry import FORMATS

    return [Entry(name, summary) for name, summary in FORMATS.items()]


def _targets() -> list[Entry]:
    from chop.synth.targets import TARGETS

    return [Entry(target.name, target.summary) for target in TARGETS.values()]


LISTINGS: dict[Kind, Callable[[], list[Entry]]] = {
    Kind.PASSES: _passes,
    Kind.OPERATORS: _operators,
    Kind.FORMATS: _formats,
    Kind.MODELS: _models,
    Kind.DATASETS: _datasets,
    Kind.TARGETS: _targets,
}
