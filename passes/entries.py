"""What the passes that say something of each layer share: a default, and entries by name or type.

{"by": "name", "default": {"config": {...}}, "fc1": {"config": {...}}}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from torch import fx

from chop.config.parse import parse_section
from chop.errors import ConfigError, did_you_mean
from chop.ir.graph import MaseGraph
from chop.passes.contract import PassArguments
from chop.passes.selection import Selector, check_leaves, parse_selector

__all__ = ["Entries", "EntryArguments", "read_entries"]

_LEAVES = {"type": "type", "name": "name", "regex_name": "regex"}
C = TypeVar("C", bound=BaseModel)


class EntryArguments(PassArguments):
    """The arguments that have a fixed name; every other key is an entry.

    `by` says what the keys of entries are; `default` is for the nodes that no entry selects.
    """

    model_config = ConfigDict(frozen=True, extra="allow", arbitrary_types_allowed=True)

    by: Literal["type", "name", "regex_name"] = "type"
    default: Mapping[str, Any] = Field(default_factory=dict)

    @property
    def entries(self) -> Mapping[str, Any]:
        return self.__pydantic_extra__ or {}


@dataclass(frozen=True, slots=True)
class Entry(Generic[C]):
    """What is said of the nodes that a selector selects."""

    key: str
    selector: Selector
    config: C


@dataclass(frozen=True, slots=True)
class Entries(Generic[C]):
    """The entries in the order in which they were given, and the default: None where not given."""

    entries: tuple[Entry[C], ...]
    default: C | None

    def find(self, graph: MaseGraph, node: fx.Node) -> Entry[C] | None:
        """Returns the first entry that is for the node; None: the default is."""
        return next((entry for entry in self.entries if entry.selector.matches(graph, node)), None)

    def configs(self) -> tuple[tuple[str, C], ...]:
        """Returns every config with its key."""
        given = tuple((entry.key, entry.config) for entry in self.entries)
        return given if self.default is None else (("default", self.default), *given)


def read_entries(
    graph: MaseGraph, arguments: EntryArguments, kind: type[C], who: str
) -> Entries[C]:
    """Returns the entries of a pass, the table `config` of each as a checked `kind`.

    Raises ConfigError for an unknown key or value, and for an entry that selects no node.
    """
    default = _config("default", arguments.default, kind, who) if arguments.default else None
    found = []
    for key, table in arguments.entries.items():
        selector = parse_selector({_LEAVES[arguments.by]: key}, who)
        found.append(Entry(key, selector, _config(key, table, kind, who)))
    for entry in found:
        check_leaves(graph, entry.selector, who)
    return Entries(tuple(found), default)


def _config(key: str, entry: Any, kind: type[C], who: str) -> C:
    mine = f"{who}: '{key}'"
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{mine} must be a table with a table 'config', got {entry!r}")
    unknown = [k for k in entry if k != "config"]
    if unknown:
        raise ConfigError(
            f"{mine}: unknown key '{unknown[0]}'{did_you_mean(unknown[0], ['config'])}"
        )
    config = entry.get("config", {})
    if not isinstance(config, Mapping):
        raise ConfigError(f"{mine}.config must be a table, got {config!r}")
    return parse_section(kind, config, f"{mine}.config")
