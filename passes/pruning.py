"""What a pruning is for: its configuration, layer by layer, and the layers of a graph."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import Field
from torch import fx, nn

from chop.config.parse import parse_section
from chop.errors import ConfigError, did_you_mean
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.nn.controllers import PrunedGroup
from chop.nn.layers import QuantizedLayer
from chop.nn.masks import mask_of
from chop.nn.pruning import Criterion, Method, Pattern
from chop.nn.transposed import TransposedConv
from chop.ops.annotate import Annotator, data_inputs, module_of
from chop.ops.registry import operator
from chop.passes.contract import PassArguments
from chop.passes.entries import EntryArguments, read_entries

__all__ = [
    "ActivationPruning",
    "PruneArguments",
    "PrunedLayer",
    "WeightPruning",
    "kept_count",
    "layers_to_prune",
    "prunable_layers",
    "pruned_groups",
]

_GRANULARITIES = ("elementwise", "filter", "channel")
# Layers with a matrix of weights; norms, tables and slopes are nothing to prune.
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, TransposedConv)


class _Pruning(PassArguments):
    scope: Literal["local", "global"] = "local"
    granularity: str = "elementwise"
    method: Method = "l1-norm"
    sparsity: float | None = Field(default=None, ge=0, lt=1)
    threshold: float | None = Field(default=None, gt=0)


_S = TypeVar("_S", bound=_Pruning)


class WeightPruning(_Pruning):
    """Which weights go.

    Attributes:
        scope: "local" ranks within each layer, "global" over all layers of the same settings.
        granularity: "elementwise"; "filter" (outputs) or "channel" (inputs), which shrink the
            network; or a pattern such as "2:4": of 4 weights that follow each other, 2 stay.
        sparsity: the share that goes. threshold: all smaller ones go instead.
    """

    @property
    def pattern(self) -> Pattern | None:
        found = re.fullmatch(r"(\d+):(\d+)", self.granularity)
        return Pattern(int(found[1]), int(found[2])) if found else None

    @property
    def is_structured(self) -> bool:
        return self.granularity in ("filter", "channel")

    @property
    def prunes(self) -> bool:
        return bool(self.pattern or self.sparsity or self.threshold)


class ActivationPruning(_Pruning):
    """Which elements of the layers' inputs become zero: the smallest, below a fixed threshold.

    Without sparsity or threshold nothing is changed, and the zeros are only counted.
    """


class _LayerConfig(PassArguments):
    weight: Mapping[str, Any] = Field(default_factory=dict)
    activation: Mapping[str, Any] = Field(default_factory=dict)


class PruneArguments(EntryArguments):
    """Entries as in quantize, and:

    `weight` and `activation` are for all layers, and what an entry does not say is taken from
    there. `calibration` is data: tensors by input name, or a loader. `seed` is for random choices.
    `show`: print the table of layers.
    """

    weight: Mapping[str, Any] = Field(default_factory=dict)
    activation: Mapping[str, Any] = Field(default_factory=dict)
    calibration: Any = None
    seed: int = Field(default=0, ge=0)
    show: bool = False


@dataclass(frozen=True, slots=True)
class PrunedLayer:
    """A layer with its settings; `layer` has the weight, and is called by the node itself."""

    node: fx.Node
    layer: nn.Module
    weight: WeightPruning
    activation: ActivationPruning


def prunable_layers(graph: MaseGraph) -> Iterator[tuple[fx.Node, nn.Module]]:
    """Yields every node with a matrix of weights, and the layer that has it, in the graph's order.

    Functions with constants, and layers that the compiler would rewrite, become layers of their own
    first. Each layer comes once, with its first node.
    """
    annotator = Annotator(graph, graph.example_inputs)
    seen: set[int] = set()
    for node in list(graph.fx_graph.nodes):
        common = common_of(node)
        if node.op == "placeholder" or not common.carries_data:
            continue
        op = operator(common.operator)
        module = module_of(graph, node)
        if isinstance(module, QuantizedLayer):
            layer: nn.Module | None = module.layer
        else:
            layer = op.layer(annotator.call(node))
        if not isinstance(layer, _LAYERS) or id(layer) in seen:
            continue
        if module is not layer and not isinstance(module, QuantizedLayer):
            _call(graph, node, QuantizedLayer(op.name, layer, {}).train(graph.model.training))
        seen.add(id(layer))
        yield node, layer


def _call(graph: MaseGraph, node: fx.Node, module: nn.Module) -> None:
    alone = node.op == "call_module" and graph.readers(str(node.target)) == 1
    target = str(node.target) if alone else graph.free_name(f"{node.name}_layer")
    graph.model.add_submodule(target, module)
    (source,) = data_inputs(node)
    node.op, node.target, node.args, node.kwargs = "call_module", target, (source,), {}


def layers_to_prune(graph: MaseGraph, arguments: PruneArguments, who: str) -> list[PrunedLayer]:
    """Returns the layers with what the first entry for each, or else the default, says.

    Raises ConfigError for an unknown key, name or value.
    """
    entries = read_entries(graph, arguments, _LayerConfig, who)
    default = entries.default or _LayerConfig()
    weight = {**arguments.weight, **default.weight}
    activation = {**arguments.activation, **default.activation}
    _settings(WeightPruning, weight, f"{who}: weight")
    _settings(ActivationPruning, activation, f"{who}: activation")
    found = []
    for node, layer in prunable_layers(graph):
        entry = entries.find(graph, node)
        key, chosen = (entry.key, entry.config) if entry else ("default", _LayerConfig())
        mine = f"{who}: '{key}'"
        found.append(
            PrunedLayer(
                node,
                layer,
                _settings(WeightPruning, {**weight, **chosen.weight}, f"{mine}: weight"),
                _settings(
                    ActivationPruning, {**activation, **chosen.activation}, f"{mine}: activation"
                ),
            )
        )
    return found


def _settings(cls: type[_S], values: Mapping[str, Any], who: str) -> _S:
    found = parse_section(cls, values, who)
    if found.sparsity is not None and found.threshold is not None:
        raise ConfigError(f"{who}: has sparsity and threshold; use one of the two")
    if found.threshold is not None and found.method == "random":
        raise ConfigError(f"{who}: a threshold needs a norm; use method l1-norm or sparsity")
    if isinstance(found, ActivationPruning):
        _check_activation(found, who)
        return found
    assert isinstance(found, WeightPruning)
    pattern = found.pattern
    if pattern is None and found.granularity not in _GRANULARITIES:
        known = [*_GRANULARITIES, "2:4"]
        raise ConfigError(
            f"{who}: unknown granularity '{found.granularity}'"
            f"{did_you_mean(found.granularity, known)}"
        )
    if pattern is not None and not 1 <= pattern.kept < pattern.group:
        raise ConfigError(
            f"{who}: granularity n:m must keep 1 <= n < m weights, got '{found.granularity}'"
        )
    if pattern is not None and (found.sparsity or found.threshold):
        raise ConfigError(
            f"{who}: granularity '{found.granularity}' says how many go; remove sparsity and "
            "threshold"
        )
    return found


def _check_activation(found: ActivationPruning, who: str) -> None:
    if found.granularity != "elementwise":
        raise ConfigError(
            f"{who}: granularity must be 'elementwise', got '{found.granularity}'; whole channels "
            "go with weight.granularity = 'channel'"
        )
    if found.method == "random" and found.sparsity:
        raise ConfigError(
            f"{who}: method 'random' has no hardware: what becomes zero must follow from the data; "
            "use l1-norm"
        )


def pruned_groups(layers: list[PrunedLayer]) -> list[PrunedGroup]:
    """Returns the layers whose single weights go, those of equal settings together."""
    groups: dict[Criterion, dict[str, nn.Module]] = {}
    for entry in layers:
        weight = entry.weight
        if weight.prunes and not weight.is_structured:
            criterion = Criterion(
                weight.method,
                None if weight.pattern or weight.threshold else weight.sparsity,
                weight.threshold,
                weight.pattern,
                weight.scope == "global",
            )
            groups.setdefault(criterion, {})[entry.node.name] = entry.layer
    return [PrunedGroup(criterion, layers) for criterion, layers in groups.items()]


def kept_count(layer: nn.Module) -> int:
    """Returns how many weights of a layer are not removed."""
    kept = mask_of(layer, "weight")
    return layer.get_parameter("weight").numel() if kept is None else int(kept.sum())
