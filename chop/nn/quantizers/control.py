"""The quantisers of a model: found in the order in which they run, placed, and driven."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import fx, nn

from chop.nn.fake_quantize import Cast
from chop.nn.layers import QuantizedLayer
from chop.nn.quantizer import Moment, Place, Quantizer, Tuning
from chop.nn.result import QuantizedResult

__all__ = [
    "Driven",
    "ParameterGroup",
    "after_step",
    "before_step",
    "number_depths",
    "parameter_groups",
    "quantizers_of",
]


# A quantiser with the parameter that it quantises; None: data.
Driven = tuple[Quantizer, torch.Tensor | None]


@dataclass(frozen=True, slots=True, eq=False)
class ParameterGroup:
    """Parameters that are trained alike."""

    tuning: Tuning
    parameters: tuple[nn.Parameter, ...]


def quantizers_of(model: nn.Module) -> list[Driven]:
    """Returns every quantiser once, with the parameter that it quantises (None: data).

    In the order of the graph, for a GraphModule; else in the order of registration.
    """
    return [pair for module in _holders(model) for pair in _pairs(module)]


def number_depths(model: nn.Module) -> None:
    """Gives every quantiser its place in the model."""
    holders = _holders(model)
    depths = Counter(name for module in holders for name in _algorithms(module))
    seen: Counter[str] = Counter()
    index = 0
    for module in holders:
        for quantizer, _ in _pairs(module):
            name = quantizer.algorithm
            quantizer.place = Place(index, seen[name], depths[name])
            index += 1
        seen.update(_algorithms(module))


@torch.no_grad()
def before_step(quantizers: Sequence[Driven], moment: Moment) -> None:
    """Runs every controller before a training step."""
    for quantizer, tensor in quantizers:
        quantizer.on_step(moment, tensor)


@torch.no_grad()
def after_step(quantizers: Sequence[Driven]) -> None:
    """Runs every quantiser's part after an optimiser step."""
    for quantizer, tensor in quantizers:
        quantizer.after_step(tensor)


def parameter_groups(model: nn.Module) -> list[ParameterGroup]:
    """Returns the parameters of the model: the weights first, then those of quantisers by tuning.

    The order follows from the model alone, as a checkpoint of an optimiser needs it.
    """
    tunings: dict[int, Tuning] = {}
    for quantizer, _ in quantizers_of(model):
        tunings.update({id(own): quantizer.tuning for own in quantizer.parameters()})
    weights = Tuning(weight_decay=None)
    groups: dict[Tuning, list[nn.Parameter]] = {weights: []}
    for parameter in model.parameters():
        groups.setdefault(tunings.get(id(parameter), weights), []).append(parameter)
    return [ParameterGroup(tuning, tuple(own)) for tuning, own in groups.items()]


def _holders(model: nn.Module) -> list[nn.Module]:
    """Returns the modules that own quantisers, each once."""
    found: dict[int, nn.Module] = {}
    for module in _in_order(model):
        if isinstance(module, Cast | QuantizedLayer | QuantizedResult):
            found.setdefault(id(module), module)
    return list(found.values())


def _in_order(model: nn.Module) -> Iterator[nn.Module]:
    if isinstance(model, fx.GraphModule):
        for node in model.graph.nodes:
            if node.op == "call_module":
                yield from _in_order(model.get_submodule(str(node.target)))
    yield model
    for child in model.children():
        yield from _in_order(child)


def _pairs(module: nn.Module) -> Iterator[Driven]:
    if isinstance(module, Cast):
        yield module.quantizer, None
    elif isinstance(module, QuantizedResult):
        if module.quantizer is not None:
            yield module.quantizer, None
    elif isinstance(module, QuantizedLayer):
        for name in module.quantizers:
            yield module.quantizer(name), getattr(module.layer, name)


def _algorithms(module: nn.Module) -> list[str]:
    """Returns the algorithms of a module's quantisers, each once, in their order."""
    return list(dict.fromkeys(quantizer.algorithm for quantizer, _ in _pairs(module)))
