"""What every pass has in common: f(graph, pass_args=None) -> graph."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from chop.config.parse import parse_section
from chop.errors import ChopError, ConfigError, PassOrderError, VerifyError
from chop.ir.graph import MaseGraph

__all__ = [
    "NoArguments",
    "Pass",
    "PassArguments",
    "accepts",
    "analysis_pass",
    "transform_pass",
]

_LOG = logging.getLogger("chop.passes")

Pass = Callable[..., MaseGraph]


class PassArguments(BaseModel):
    """Base of the arguments of a pass: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class NoArguments(PassArguments):
    """The arguments of a pass that takes none."""


A = TypeVar("A", bound=BaseModel)
_Body = Callable[[MaseGraph, A], MaseGraph]


def analysis_pass(
    name: str, arguments: type[A], requires: tuple[str, ...] = ()
) -> Callable[[_Body[A]], Pass]:
    """Makes a pass that adds metadata in place and leaves the fx graph as it is."""
    return functools.partial(_make, name, arguments, requires, False)


def transform_pass(
    name: str, arguments: type[A], requires: tuple[str, ...] = ()
) -> Callable[[_Body[A]], Pass]:
    """Makes a pass that works on a copy: the caller's graph is never changed."""
    return functools.partial(_make, name, arguments, requires, True)


def accepts(run: Pass, argument: str) -> bool:
    """Returns whether the pass has an argument of that name: what a caller may fill in for it."""
    return argument in getattr(run, "argument_names", ())


def _make(
    name: str, arguments: type[A], requires: tuple[str, ...], copies: bool, body: _Body[A]
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
        try:
            result = body(graph.copy() if copies else graph, parsed)
            _verify(result, name)
        except ChopError as error:
            error.add_note(f"in pass '{name}' after [{', '.join(before)}]")
            raise
        result.history = (*before, name)
        _LOG.info("%s: %.3f s", name, time.perf_counter() - started)
        return result

    run.__annotations__["pass_args"] = Mapping[str, Any] | None
    vars(run)["argument_names"] = frozenset(arguments.model_fields)
    return run


def _verify(graph: MaseGraph, name: str) -> None:
    try:
        graph.fx_graph.lint()
    except RuntimeError as error:
        raise VerifyError(f"pass '{name}' left a malformed graph: {error}") from error
