"""What every pass has in common: f(graph, pass_args=None) -> graph."""

from __future__ import annotations

import functools
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from chop.config.parse import parse_section
from chop.errors import ChopError, ConfigError, PassOrderError, UnsupportedOpError, VerifyError
from chop.ir.capture import source_line
from chop.ir.graph import MaseGraph

__all__ = [
    "NoArguments",
    "Pass",
    "PassArguments",
    "accepts",
    "analysis_pass",
    "precedes_training",
    "transform_pass",
]

_LOG = logging.getLogger("chop.passes")

# The beginning of a message about a node, without its line.
_NODE = re.compile(r"node '([^']+)'(?=: )")

Pass = Callable[..., MaseGraph]


class PassArguments(BaseModel):
    """Base of the arguments of a pass: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class NoArguments(PassArguments):
    """The arguments of a pass that takes none."""


A = TypeVar("A", bound=BaseModel)
_Body = Callable[[MaseGraph, A], MaseGraph]
_Before = Callable[[A], bool]


def analysis_pass(
    name: str, arguments: type[A], requires: tuple[str, ...] = ()
) -> Callable[[_Body[A]], Pass]:
    """Makes a pass that adds metadata in place and leaves the fx graph as it is."""
    return functools.partial(_make, name, arguments, requires, False, None)


def transform_pass(
    name: str,
    arguments: type[A],
    requires: tuple[str, ...] = (),
    before_training: _Before[A] | None = None,
) -> Callable[[_Body[A]], Pass]:
    """Makes a pass that works on a copy: the caller's graph is never changed.

    `before_training` says for which arguments the pass makes the network that is to be trained.
    """
    return functools.partial(_make, name, arguments, requires, True, before_training)


def accepts(run: Pass, argument: str) -> bool:
    """Returns whether the pass has an argument of that name: what a caller may fill in for it."""
    return argument in getattr(run, "argument_names", ())


def precedes_training(run: Pass, pass_args: Mapping[str, Any]) -> bool:
    """Returns whether the pass, with these arguments, is for the network before its training."""
    found: bool = getattr(run, "before_training", _never)(pass_args)
    return found


def _never(pass_args: Mapping[str, Any]) -> bool:
    return False


def _make(
    name: str,
    arguments: type[A],
    requires: tuple[str, ...],
    copies: bool,
    before_training: _Before[A] | None,
    body: _Body[A],
) -> Pass:
    @functools.wraps(body)
    def run(graph: MaseGraph, pass_args: Mapping[str, Any] | None = None) -> MaseGraph:
        if not isinstance(graph, MaseGraph):
            raise ConfigError(
                f"pass '{name}': expected a MaseGraph, got {type(graph).__name__}; "
                "wrap the model: MaseGraph(model)"
            )
        parsed = parse_section(arguments, pass_args or {}, f"pass '{name}'")
        before = graph.history
        for needed in requires:
            if needed not in before:
                raise PassOrderError(f"pass '{name}': run the pass '{needed}' first")
        started = time.perf_counter()
        own = graph.copy() if copies else graph
        try:
            result = body(own, parsed)
            _verify(result, name)
        except ChopError as error:
            if isinstance(error, UnsupportedOpError):
                error.args = (_placed(own, str(error)),)
            error.add_note(f"in pass '{name}' after [{', '.join(before)}]")
            raise
        result.history = (*before, name)
        _LOG.info("%s: %.3f s", name, time.perf_counter() - started)
        return result

    run.__annotations__["pass_args"] = Mapping[str, Any] | None
    vars(run)["argument_names"] = frozenset(arguments.model_fields)
    if before_training is not None:

        def before(pass_args: Mapping[str, Any]) -> bool:
            return before_training(parse_section(arguments, pass_args, f"pass '{name}'"))

        vars(run)["before_training"] = before
    return run


def _placed(graph: MaseGraph, message: str) -> str:
    """Returns the message with the source line of the node that it begins with, where it has none.

    A cast that was put in has the line of the node that reads it.
    """
    found = _NODE.match(message)
    nodes = {node.name: node for node in graph.fx_graph.nodes}
    name = found[1] if found else ""
    # A stage of several is named after its node.
    while name and name not in nodes:
        name = name.rpartition("_")[0]
    if not found or not name:
        return message
    near = (nodes[name], *nodes[name].users, *nodes[name].all_input_nodes)
    place = next((line for node in near if (line := source_line(node))), "")
    return f"{found[0]} ({place}){message[found.end() :]}" if place else message


def _verify(graph: MaseGraph, name: str) -> None:
    try:
        graph.fx_graph.lint()
    except RuntimeError as error:
        raise VerifyError(f"pass '{name}' left a malformed graph: {error}") from error
