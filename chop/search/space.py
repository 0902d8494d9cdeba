"""The space of a study: which settings of which passes may take which values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chop.config.schema import Config
from chop.config.search import SpaceConfig
from chop.errors import ConfigError, did_you_mean
from chop.flows.compile import QUANTISING, road_of
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.passes.selection import check_leaves, parse_selector
from chop.search.result import ParameterEntry, Setting

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = ["HARDWARE", "Parameter", "Space", "make_space", "passes_of"]

# Takes the place of a pass: the table [hardware].
HARDWARE = "hardware"
_RANGE = ("low", "high", "step")
# One choice list is also one list in a progress line and in a page.
_MOST_CHOICES = 4096


@dataclass(frozen=True, slots=True)
class Parameter:
    """One dimension: a setting of one pass, for some nodes at once (none: of the pass itself).

    Attributes:
        index: of the part of the space that it comes from, and `key` there.
        choices: at least one; numbers are in ascending order.
        ordinal: whether the choices are numbers, so that neighbours are alike.
    """

    name: str
    pass_name: str
    nodes: tuple[str, ...]
    key: str
    choices: tuple[Setting, ...]
    ordinal: bool
    index: int

    def distribution(self) -> BaseDistribution:
        """Returns what Optuna draws: the index of an ordinal choice, the text of any other."""
        from optuna.distributions import CategoricalDistribution, IntDistribution

        if self.ordinal:
            return IntDistribution(0, len(self.choices) - 1)
        return CategoricalDistribution([label_of(choice) for choice in self.choices])

    def stored(self, value: Setting) -> int | str:
        """Returns the choice as Optuna keeps it. Raises ConfigError where it is none."""
        for index, choice in enumerate(self.choices):
            if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                return index if self.ordinal else label_of(choice)
        listed = ", ".join(label_of(choice) for choice in self.choices)
        raise ConfigError(f"parameter '{self.name}': {value!r} is not a choice; use {listed}")

    def choice(self, stored: int | str) -> Setting:
        """Returns the choice that Optuna keeps as `stored`."""
        if self.ordinal:
            return self.choices[int(stored)]
        return next(choice for choice in self.choices if label_of(choice) == stored)


@dataclass(frozen=True, slots=True)
class Space:
    """All parameters, in the order of the configuration."""

    parameters: tuple[Parameter, ...]

    @property
    def size(self) -> int:
        """How many settings there are in all: M^N for N parameters of M choices."""
        return math.prod(len(p.choices) for p in self.parameters)

    def nth(self, number: int) -> dict[str, Setting]:
        """Returns the settings of a number in 0..size - 1; the last parameter turns fastest."""
        found: dict[str, Setting] = {}
        for parameter in reversed(self.parameters):
            number, digit = divmod(number, len(parameter.choices))
            found[parameter.name] = parameter.choices[digit]
        return dict(reversed(found.items()))

    def entries(self) -> tuple[ParameterEntry, ...]:
        """Returns the parameters as a result names them."""
        return tuple(ParameterEntry(p.name, p.choices) for p in self.parameters)

    def matching(self, given: Mapping[str, Setting]) -> dict[str, Setting]:
        """Returns settings by whole names for names that may be their last words only.

        Raises ConfigError for a word that no parameter ends in, or a value that is no choice.
        """
        found: dict[str, Setting] = {}
        for word, value in given.items():
            named = [p for p in self.parameters if p.name == word or p.name.endswith(f".{word}")]
            if not named:
                known = {p.name for p in self.parameters} | {p.key for p in self.parameters}
                raise ConfigError(f"warm_start: no parameter '{word}'{did_you_mean(word, known)}")
            for parameter in named:
                parameter.stored(value)
                # The whole name wins over its last words.
                if parameter.name == word or parameter.name not in given:
                    found[parameter.name] = value
        return found


def label_of(choice: Setting) -> str:
    """Returns a choice as text, one text for each."""
    return choice if isinstance(choice, str) else json.dumps(choice, sort_keys=True)


def passes_of(config: Config, entries: Sequence[SpaceConfig]) -> list[str]:
    """Returns the pass that each part of the space is about.

    Raises ConfigError for one that is not in the list of passes, or stands there twice.
    """
    names = [name for name, _ in road_of(config)]
    quantising = [name for name in names if name in QUANTISING]
    found = []
    for number, entry in enumerate(entries):
        who = _who(number)
        name = entry.pass_name
        if name is None:
            if len(quantising) != 1:
                raise ConfigError(f"{who}: name the pass, one of {', '.join((*names, HARDWARE))}")
            name = quantising[0]
        if name != HARDWARE and name not in names:
            known = (*names, HARDWARE)
            raise ConfigError(
                f"{who}: pass '{name}' is not in the list of passes{did_you_mean(name, known)}"
            )
        if names.count(name) > 1:
            raise ConfigError(
                f"{who}: pass '{name}' stands {names.count(name)} times in the list; "
                "only one that stands there once can be searched"
            )
        found.append(name)
    return found


def make_space(
    config: Config, entries: Sequence[SpaceConfig], graphs: Mapping[str, MaseGraph]
) -> Space:
    """Returns the space for a network.

    Args:
        graphs: for every pass that is searched, the graph that it is given; for the hardware, the
            one that is scheduled.

    Raises ConfigError for a selector without a node, a key that is searched twice, and seeds that
    are neither a list nor a range.
    """
    found: dict[str, Parameter] = {}
    places: set[tuple[str, str, str]] = set()
    for number, (entry, name) in enumerate(zip(entries, passes_of(config, entries), strict=True)):
        who = _who(number)
        groups = _groups(entry, graphs[name], who)
        for key, seeds in entry.seeds.items():
            choices = _choices(seeds, f"{who}: '{key}'")
            for label, nodes in groups:
                full = ".".join(
                    word for word in ("" if name in QUANTISING else name, label, key) if word
                )
                for node in nodes or ("",):
                    if (name, node, key) in places:
                        raise ConfigError(
                            f"{who}: '{key}' of {f'node {node!r}' if node else name} is searched "
                            "twice; take it out of one"
                        )
                    places.add((name, node, key))
                if full in found:
                    raise ConfigError(f"{who}: there are two parameters '{full}'; use each = true")
                found[full] = Parameter(full, name, nodes, key, choices, _ordinal(choices), number)
    return Space(tuple(found.values()))


def _who(number: int) -> str:
    return f"search.space.{number}"


def _groups(entry: SpaceConfig, graph: MaseGraph, who: str) -> list[tuple[str, tuple[str, ...]]]:
    """Returns (label, nodes) for every parameter that one key makes."""
    if entry.select is None:
        return [("", ())]
    selector = parse_selector(entry.select, f"{who}.select")
    check_leaves(graph, selector, f"{who}.select")
    nodes = [
        node.name
        for node in graph.fx_graph.nodes
        if node.op not in ("placeholder", "output")
        and common_of(node).carries_data
        and selector.matches(graph, node)
    ]
    if not nodes:
        raise ConfigError(f"{who}.select: {_text(entry.select)} selects no node; see report_graph")
    if entry.each:
        return [(node, (node,)) for node in nodes]
    return [(_text(entry.select), tuple(nodes))]


def _text(select: Mapping[str, Any]) -> str:
    words = [label_of(value) for value in select.values()]
    return " ".join(words)


def _choices(seeds: object, who: str) -> tuple[Setting, ...]:
    if isinstance(seeds, Mapping):
        return _range(seeds, who)
    if not isinstance(seeds, Sequence) or isinstance(seeds, str) or not seeds:
        raise ConfigError(f"{who} must be a list of choices or {{low, high, step}}, got {seeds!r}")
    labels = [label_of(choice) for choice in seeds]
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(f"{who}: has the choice {label} twice")
    return tuple(sorted(seeds)) if _ordinal(tuple(seeds)) else tuple(seeds)


def _range(seeds: Mapping[str, Any], who: str) -> tuple[Setting, ...]:
    for key, value in seeds.items():
        if key not in _RANGE:
            raise ConfigError(f"{who}: unknown key '{key}'{did_you_mean(key, _RANGE)}")
        if not isinstance(value, int) or isinstance(value, bool):
            raise ConfigError(f"{who}: '{key}' must be a whole number, got {value!r}")
    if "low" not in seeds or "high" not in seeds:
        raise ConfigError(f"{who}: a range has low and high, got {dict(seeds)!r}")
    step = seeds.get("step", 1)
    if step < 1 or seeds["high"] < seeds["low"]:
        raise ConfigError(f"{who}: a range needs low <= high and step >= 1, got {dict(seeds)!r}")
    found = tuple(range(seeds["low"], seeds["high"] + 1, step))
    if len(found) > _MOST_CHOICES:
        raise ConfigError(f"{who}: has {len(found)} choices, more than {_MOST_CHOICES}")
    return found


def _ordinal(choices: tuple[Setting, ...]) -> bool:
    return all(isinstance(c, int | float) and not isinstance(c, bool) for c in choices)
