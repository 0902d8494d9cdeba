"""Which nodes a rule is for: by name, regular expression, type or subtype, with and, or, not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from chop.errors import ConfigError, did_you_mean
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.nn.layers import QuantizedLayer
from chop.nn.result import QuantizedResult
from chop.ops.annotate import module_of, spellings_of
from chop.ops.registry import operators

__all__ = ["Selector", "check_leaves", "parse_selector"]

_LEAVES = ("name", "regex", "type", "subtype")
_KEYS = (*_LEAVES, "and", "or", "not")


@dataclass(frozen=True, slots=True)
class Selector:
    """A predicate on nodes: a leaf with its words, or "and", "or", "not" of parts."""

    kind: str
    words: tuple[str, ...] = ()
    parts: tuple[Selector, ...] = ()

    def matches(self, graph: MaseGraph, node: fx.Node) -> bool:
        """Returns whether the node is selected; only operators' nodes can be."""
        if self.kind == "and":
            return all(part.matches(graph, node) for part in self.parts)
        if self.kind == "or":
            return any(part.matches(graph, node) for part in self.parts)
        if self.kind == "not":
            return not self.parts[0].matches(graph, node)
        names = _leaf_names(self.kind, graph, node)
        if self.kind == "regex":
            return any(re.fullmatch(word, name) for word in self.words for name in names)
        return any(word in names for word in self.words)

    def leaves(self) -> tuple[Selector, ...]:
        """Returns the leaves of the predicate."""
        return (self,) if not self.parts else tuple(x for p in self.parts for x in p.leaves())


def parse_selector(table: Any, who: str) -> Selector:
    """Returns the selector of a table: {name = "fc1"}, {type = "linear", not = {...}}, ...

    Several keys in one table are all to hold. A leaf takes a word or a list of words. Raises
    ConfigError.
    """
    if not isinstance(table, Mapping) or not table:
        raise ConfigError(f"{who} must be a table of {', '.join(_KEYS)}, got {table!r}")
    parts = tuple(_parse_key(key, value, who) for key, value in table.items())
    return parts[0] if len(parts) == 1 else Selector("and", parts=parts)


def _parse_key(key: str, value: Any, who: str) -> Selector:
    if key not in _KEYS:
        raise ConfigError(f"{who}: unknown key '{key}'{did_you_mean(key, _KEYS)}")
    if key == "not":
        return Selector("not", parts=(parse_selector(value, f"{who}.not"),))
    if key in ("and", "or"):
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise ConfigError(f"{who}.{key} must be a list of tables, got {value!r}")
        return Selector(key, parts=tuple(parse_selector(v, f"{who}.{key}") for v in value))
    words = (value,) if isinstance(value, str) else value
    if not isinstance(words, Sequence) or not words or not all(isinstance(w, str) for w in words):
        raise ConfigError(f"{who}.{key} must be a word or a list of words, got {value!r}")
    if key == "regex":
        for word in words:
            try:
                re.compile(word)
            except re.error as error:
                raise ConfigError(f"{who}: '{word}' is no regex: {error}") from error
    lower = key in ("type", "subtype")
    return Selector(key, tuple(w.lower() if lower else w for w in words))


def _selectable(graph: MaseGraph) -> list[fx.Node]:
    """Returns the nodes that a selector can select: those of operators."""
    nodes = [n for n in graph.fx_graph.nodes if n.op != "placeholder"]
    return [n for n in nodes if common_of(n).carries_data]


def _names_of(graph: MaseGraph, node: fx.Node) -> set[str]:
    """Returns the node's name, and the path of the module that it calls."""
    return {node.name, str(node.target)} if node.op == "call_module" else {node.name}


def check_leaves(graph: MaseGraph, selector: Selector, who: str) -> None:
    """Raises ConfigError for a name, type or regex that selects nothing: most likely a slip."""
    nodes = _selectable(graph)
    for leaf in selector.leaves():
        known = {word for n in nodes for word in _leaf_names(leaf.kind, graph, n)}
        if leaf.kind == "type":
            known |= {op.name for op in operators()}
        for word in leaf.words:
            if leaf.kind == "regex":
                if not any(re.fullmatch(word, name) for name in known):
                    raise ConfigError(f"{who}: '{word}' matches no node; see report_graph")
            elif word not in known:
                what = "operator" if leaf.kind in ("type", "subtype") else "node"
                raise ConfigError(f"{who}: no {what} '{word}'{did_you_mean(word, known)}")


def _leaf_names(kind: str, graph: MaseGraph, node: fx.Node) -> set[str]:
    if kind in ("name", "regex"):
        return _names_of(graph, node)
    if kind == "type":
        return spellings_of(graph, node)
    module = module_of(graph, node)
    if isinstance(module, QuantizedLayer | QuantizedResult):
        module = module.layer
    if module is None:
        return set()
    return {c.__name__.lower() for c in type(module).__mro__ if issubclass(c, nn.Module)}
