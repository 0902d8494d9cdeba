"""check_integerizable: everything that keeps a network from being integers, before any training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from chop.errors import ConfigError, PassOrderError, UnsupportedOpError
from chop.integer.modules import holds_integers
from chop.ir.graph import MaseGraph
from chop.passes.blockers import Blocker, Examination, examine
from chop.passes.contract import PassArguments, analysis_pass

__all__ = ["check_integerizable_analysis_pass"]


class CheckArguments(PassArguments):
    """`dummy_in`: one batch of example values by input name, where the graph has none yet.

    `raise_on_blocker`: raise an error that lists them all. `show`: print them.
    """

    dummy_in: Mapping[str, Any] | None = None
    raise_on_blocker: bool = False
    show: bool = False


@analysis_pass("check_integerizable", CheckArguments, ("init_metadata",))
def check_integerizable_analysis_pass(graph: MaseGraph, arguments: CheckArguments) -> MaseGraph:
    """Lists every node that could not become integers in `info["check_integerizable"]`.

    Nodes after a blocked one are examined as if it were not. In a network with number formats a
    node without is a blocker; one without any format at all is examined as if it had been
    quantised, and its nodes that need formats are listed under "unformatted". Works before
    add_common_metadata, which stops at the first operator that it does not know: `dummy_in` then
    gives the example inputs.

    Raises UnsupportedOpError where `raise_on_blocker` is set and there is one, ShapeError for
    inputs on which the network does not run.
    """
    found = Examination((), (), {})
    if not holds_integers(graph.model):
        found = examine(graph, _inputs(graph, arguments))
    graph.info["check_integerizable"] = {
        "integerizable": not found.blockers,
        "blockers": [asdict(blocker) for blocker in found.blockers],
        "unformatted": list(found.unformatted),
    }
    if arguments.show:
        print(_text(found.blockers, found.unformatted))
    if arguments.raise_on_blocker and found.blockers:
        raise UnsupportedOpError(_text(found.blockers, ()))
    return graph


def _inputs(graph: MaseGraph, arguments: CheckArguments) -> Mapping[str, torch.Tensor]:
    given = arguments.dummy_in
    if given is None:
        if not graph.example_inputs:
            raise PassOrderError(
                "pass 'check_integerizable': no example inputs yet; give dummy_in, or run "
                "add_common_metadata first"
            )
        return graph.example_inputs
    for name, value in given.items():
        if not isinstance(value, torch.Tensor):
            raise ConfigError(
                f"dummy_in: input '{name}' must be a torch.Tensor, got {type(value).__name__}"
            )
    return given


def _text(blockers: tuple[Blocker, ...], unformatted: tuple[str, ...]) -> str:
    if not blockers:
        rest = f"; {len(unformatted)} nodes need number formats" if unformatted else ""
        return f"integerizable: no blocker{rest}"
    what = "1 node has" if len(blockers) == 1 else f"{len(blockers)} nodes have"
    return "\n".join((f"{what} no integers:", *(f"  {blocker}" for blocker in blockers)))
