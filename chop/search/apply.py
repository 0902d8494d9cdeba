"""Settings written into a configuration: what a trial runs is what a file would say."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

from chop.config.schema import Config, PassCall
from chop.errors import ConfigError
from chop.flows.compile import road_of
from chop.ir.graph import MaseGraph
from chop.passes.contract import accepts
from chop.passes.registry import resolve
from chop.passes.selection import parse_selector
from chop.search.result import Setting
from chop.search.space import HARDWARE, Parameter, Space

__all__ = ["apply_settings"]

Table = dict[str, Any]

# How a table of entries says what its keys are, and the selector's word for it.
_SELECTORS = {"type": "type", "name": "name", "regex_name": "regex"}
# A key that means the whole table of a layer.
_WHOLE = "config"


def apply_settings(
    config: Config,
    space: Space,
    settings: Mapping[str, Setting],
    graphs: Mapping[str, MaseGraph],
) -> Config:
    """Returns the configuration with the settings of some parameters, by name, written into it.

    A pass that takes entries (`by`) gets one by name for every node that it speaks of; one that
    takes `rules` gets rules for single nodes before its own. `graphs` as for `make_space`. Raises
    ConfigError where a pass takes neither and nodes were selected.
    """
    road: dict[str, Table] = {name: copy.deepcopy(dict(given)) for name, given in road_of(config)}
    hardware: Table = copy.deepcopy(config.hardware)
    # A layer's whole table first: other keys go into it.
    for parameter in sorted(space.parameters, key=lambda p: p.key != _WHOLE):
        if parameter.name not in settings:
            continue
        value = copy.deepcopy(settings[parameter.name])
        if parameter.pass_name == HARDWARE:
            _set_hardware(hardware, parameter, value)
        else:
            graph = graphs[parameter.pass_name]
            _set_argument(road[parameter.pass_name], parameter, value, graph)
    touched = {p.pass_name for p in space.parameters if p.name in settings}
    calls = tuple(
        PassCall(name=name, arguments=road[name] if name in touched else dict(given))
        for name, given in road_of(config)
    )
    return config.model_copy(update={"passes": calls, "hardware": hardware})


def _set_hardware(hardware: Table, parameter: Parameter, value: Setting) -> None:
    if not parameter.nodes:
        _set(hardware, parameter.key, value)
        return
    if parameter.key != "lanes":
        raise ConfigError(
            f"parameter '{parameter.name}': the hardware has no '{parameter.key}' per node; "
            "search 'lanes', or leave out select"
        )
    for node in parameter.nodes:
        hardware.setdefault("lanes", {})[node] = value


def _set_argument(arguments: Table, parameter: Parameter, value: Setting, graph: MaseGraph) -> None:
    if not parameter.nodes:
        _set(arguments, parameter.key, value)
        return
    run = resolve(parameter.pass_name)
    if accepts(run, "by"):
        _entries_by_name(arguments, graph)
        for node in parameter.nodes:
            entry = arguments.setdefault(node, copy.deepcopy(arguments.get("default", {})))
            if parameter.key == _WHOLE:
                entry[_WHOLE] = copy.deepcopy(value)
            else:
                _set(cast(Table, entry.setdefault(_WHOLE, {})), parameter.key, value)
    elif accepts(run, "rules"):
        for node in parameter.nodes:
            _set(_rule_of(arguments, node, graph), parameter.key, value)
    else:
        raise ConfigError(
            f"parameter '{parameter.name}': pass '{parameter.pass_name}' has no settings per node; "
            "leave out select"
        )


def _entries_by_name(arguments: Table, graph: MaseGraph) -> None:
    """Rewrites entries by type or regex as entries by name, one per node that they select."""
    by = arguments.get("by", "type")
    if by == "name":
        _by_node(arguments, graph)
        return
    known = {"by", "default", "calibration", "method", "percentile", "rounding"}
    entries = {key: arguments.pop(key) for key in list(arguments) if key not in known}
    arguments["by"] = "name"
    for node in _nodes(graph):
        for key, entry in entries.items():
            selector = parse_selector({_SELECTORS[by]: key}, "search")
            if selector.matches(graph, node):
                arguments[node.name] = copy.deepcopy(entry)
                break


def _by_node(arguments: Table, graph: MaseGraph) -> None:
    """Renames entries by the path of a module to the name of its node."""
    for node in _nodes(graph):
        path = str(node.target)
        if node.op == "call_module" and path != node.name and path in arguments:
            arguments[node.name] = arguments.pop(path)


def _rule_of(arguments: Table, node: str, graph: MaseGraph) -> Table:
    """Returns the rule of that node alone, made from the first that selects it, and put first."""
    rules = list(arguments.get("rules", ()))
    own = {"name": node}
    for rule in rules:
        if rule.get("select") == own:
            return cast(Table, rule)
    found = next(n for n in _nodes(graph) if n.name == node)
    made: Table = {}
    for rule in rules:
        if parse_selector(rule.get("select"), "search").matches(graph, found):
            made = copy.deepcopy(dict(rule))
            break
    made["select"] = own
    arguments["rules"] = [made, *rules]
    return made


def _nodes(graph: MaseGraph) -> list[Any]:
    from chop.ir.meta import common_of

    return [
        node
        for node in graph.fx_graph.nodes
        if node.op not in ("placeholder", "output") and common_of(node).carries_data
    ]


def _set(table: Table, path: str, value: Setting) -> None:
    """Sets the value at a dotted path; a table is laid over the table that stands there."""
    *parents, last = path.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
    old = table.get(last)
    if isinstance(value, dict) and isinstance(old, dict):
        _merge(old, value)
    else:
        table[last] = value


def _merge(table: Table, change: Mapping[str, Any]) -> None:
    for key, value in change.items():
        _set(table, key, value)
