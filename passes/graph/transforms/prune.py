"""prune: weights, outputs, channels and activations go, by magnitude or by lot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from chop.errors import ConfigError
from chop.formats.rounding import Floats
from chop.ir.graph import MaseGraph
from chop.ir.meta import KEY, NodeMeta
from chop.nn.pruning import scores_along
from chop.ops.annotate import data_inputs
from chop.passes.channels import Channels, read_channels, resize_channels
from chop.passes.contract import transform_pass
from chop.passes.graph.transforms.refresh import refresh_metadata
from chop.passes.pruning import (
    ActivationPruning,
    PruneArguments,
    PrunedLayer,
    WeightPruning,
    kept_count,
    layers_to_prune,
    pruned_groups,
)
from chop.passes.quantizing import calibration_values

__all__ = ["prune_transform_pass"]

_WHO = "pass 'prune'"


@dataclass(frozen=True, slots=True)
class _Row:
    """One layer: weights before and after, the share that went, and zeros in its input.

    `activation_sparsity` is the share of zeros over the calibration data, `activation_threshold`
    the magnitude up to which elements become zero (0: it was left as it is).
    """

    node: str
    granularity: str
    weights: int
    kept: int
    sparsity: float
    activation_sparsity: float
    activation_threshold: float


@transform_pass("prune", PruneArguments, ("add_common_metadata",))
def prune_transform_pass(graph: MaseGraph, arguments: PruneArguments) -> MaseGraph:
    """Returns a graph in which the layers named have fewer weights.

    Single weights (elementwise, n:m) are masked: they are zero from now on, whatever trains or
    quantises the layer (chop/nn/masks.py). Whole outputs or inputs (filter, channel) are taken out
    of the network, with all that made or read them; tied ones (residual partners) go together, by
    the mean of their scores, and every layer keeps one. An activation's smallest elements become
    zero by a hardshrink before the layer, its threshold from the calibration data.
    `info["prune"]` has a row per layer with weights, the zeros in its input among them;
    `info["prune_channels"]` which outputs every layer keeps that lost some.

    Raises ConfigError for an unknown key, layer or method, and where the channels of a layer that
    was named cannot change.
    """
    layers = layers_to_prune(graph, arguments, _WHO)
    before = {p.node.name: p.layer.get_parameter("weight").numel() for p in layers}
    values = calibration_values(_WHO, graph, arguments.calibration)
    thresholds = _thresholds(layers, values)
    for group in pruned_groups(layers):
        group.prune(1.0, arguments.seed)
    graph.info["prune_channels"] = _drop_channels(graph, layers, arguments)
    # The graph may have new layers by now: read them again.
    layers = layers_to_prune(graph, arguments, _WHO)
    rows = [_row(p, before[p.node.name], values, thresholds) for p in layers]
    graph.info["prune"] = [asdict(row) for row in rows]
    if arguments.show:
        _print(type(graph.model).__name__, rows)
    for pruned in layers:
        if thresholds.get(pruned.node.name):
            _shrink_input(graph, pruned.node, thresholds[pruned.node.name])
    graph.model.recompile()
    refresh_metadata(graph)
    return graph


def _row(
    pruned: PrunedLayer,
    before: int,
    values: Mapping[str, Floats],
    thresholds: Mapping[str, float],
) -> _Row:
    kept = kept_count(pruned.layer)
    name = pruned.node.name
    return _Row(
        node=name,
        granularity=pruned.weight.granularity,
        weights=before,
        kept=kept,
        sparsity=1 - kept / before,
        activation_sparsity=float(np.mean(values[_source(pruned).name] == 0)),
        activation_threshold=thresholds.get(name, 0.0),
    )


def _print(title: str, rows: Sequence[_Row]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{title}: pruned", title_justify="left", box=box.SIMPLE_HEAD)
    for header in ("node", "granularity", "weights", "kept", "sparsity", "zeros read", "threshold"):
        table.add_column(header, justify="left" if header in ("node", "granularity") else "right")
    for row in rows:
        table.add_row(
            *(row.node, row.granularity, f"{row.weights:,}", f"{row.kept:,}"),
            *(f"{100 * row.sparsity:.1f} %", f"{100 * row.activation_sparsity:.1f} %"),
            f"{row.activation_threshold:.4g}" if row.activation_threshold else "",
        )
    Console(width=100, markup=False, highlight=False).print(table)


def _source(pruned: PrunedLayer) -> fx.Node:
    (source,) = data_inputs(pruned.node)
    return source


def _thresholds(layers: Sequence[PrunedLayer], values: Mapping[str, Floats]) -> dict[str, float]:
    """Returns up to which magnitude the input of a layer becomes zero, for those where it does."""
    found: dict[str, float] = {}
    pooled: dict[ActivationPruning, list[PrunedLayer]] = {}
    for pruned in layers:
        asked = pruned.activation
        if asked.threshold:
            found[pruned.node.name] = asked.threshold
        elif asked.sparsity and asked.scope == "global":
            pooled.setdefault(asked, []).append(pruned)
        elif asked.sparsity:
            found[pruned.node.name] = _quantile([values[_source(pruned).name]], asked.sparsity)
    for asked, group in pooled.items():
        assert asked.sparsity is not None, "as the loop above has it"
        common = _quantile([values[_source(p).name] for p in group], asked.sparsity)
        found.update({p.node.name: common for p in group})
    return found


def _quantile(values: Sequence[Floats], share: float) -> float:
    sizes = np.sort(np.concatenate([np.abs(v).reshape(-1) for v in values]))
    return float(np.float32(sizes[max(round(share * len(sizes)) - 1, 0)]))


def _shrink_input(graph: MaseGraph, node: fx.Node, threshold: float) -> None:
    (source,) = data_inputs(node)
    target = graph.free_name(f"{node.name}_shrink")
    graph.model.add_submodule(target, nn.Hardshrink(threshold).train(graph.model.training))
    with graph.fx_graph.inserting_before(node):
        made = graph.fx_graph.create_node("call_module", target, (source,), name=target)
    made.stack_trace = node.stack_trace
    made.meta[KEY] = NodeMeta()
    node.replace_input_with(source, made)


@dataclass(frozen=True, slots=True, eq=False)
class _Ranking:
    """Channels that are ranked together, each by its label, with its score in every layer."""

    settings: WeightPruning
    scores: dict[int, list[float]]

    def worst(self) -> set[int]:
        """Returns the labels that go."""
        means = {label: sum(own) / len(own) for label, own in self.scores.items()}
        if self.settings.threshold is not None:
            return {label for label in means if means[label] < self.settings.threshold}
        ranked = sorted(means, key=lambda label: (means[label], label))
        return set(ranked[: round((self.settings.sparsity or 0.0) * len(ranked))])


def _drop_channels(
    graph: MaseGraph, layers: Sequence[PrunedLayer], arguments: PruneArguments
) -> dict[str, list[int]]:
    structured = [p for p in layers if p.weight.is_structured and p.weight.prunes]
    if not structured:
        return {}
    # Functions may have become layers.
    refresh_metadata(graph)
    channels = read_channels(graph)
    rankings: list[_Ranking] = []
    generator = torch.Generator().manual_seed(arguments.seed)
    for pruned in structured:
        labels, axis = _labels(channels, pruned)
        if not labels.any():
            if {pruned.node.name, str(pruned.node.target)} & set(arguments.entries):
                raise ConfigError(
                    f"{_WHO}: node '{pruned.node.name}': none of its channels can go"
                    f"{_because(channels, pruned)}; leave it out"
                )
            continue
        weight = pruned.layer.get_parameter("weight")
        found = scores_along(weight, axis, pruned.weight.method, generator)
        ranking = _ranking(rankings, pruned.weight, set(labels.tolist()) - {0})
        for label, score in zip(labels.tolist(), found.tolist(), strict=True):
            if label:
                ranking.scores.setdefault(label, []).append(score)
    gone = {label for ranking in rankings for label in ranking.worst()}
    for made in channels.made.values():
        # A layer without outputs would cut the network in two.
        if set(made.tolist()) <= gone:
            gone.discard(max(made.tolist(), key=lambda label: _most(rankings, label)))
    resize_channels(graph, channels, dict.fromkeys(gone, 0))
    kept = {
        name: [i for i, label in enumerate(labels.tolist()) if label not in gone]
        for name, labels in channels.made.items()
    }
    return {name: own for name, own in kept.items() if len(own) < len(channels.made[name])}


def _ranking(rankings: list[_Ranking], settings: WeightPruning, labels: set[int]) -> _Ranking:
    """Returns the ranking that these channels belong to: a new one if they are tied to no other."""
    alike = [r for r in rankings if r.settings == settings]
    if settings.scope == "local":
        alike = [r for r in alike if labels & r.scores.keys()]
    made = _Ranking(settings, {})
    for other in alike:
        made.scores.update(other.scores)
        rankings.remove(other)
    rankings.append(made)
    return made


def _most(rankings: Sequence[_Ranking], label: int) -> float:
    return max((max(r.scores[label]) for r in rankings if label in r.scores), default=0.0)


def _labels(channels: Channels, pruned: PrunedLayer) -> tuple[np.ndarray[Any, Any], int]:
    """Returns the label of every index along the axis of the weight that is pruned."""
    if pruned.weight.granularity == "filter":
        return channels.made[pruned.node.name], 0
    axes = channels.axes[_source(pruned)]
    labels = axes[-1] if isinstance(pruned.layer, nn.Linear) else axes[0]
    if len(labels) != pruned.layer.get_parameter("weight").shape[1]:
        raise ConfigError(
            f"{_WHO}: node '{pruned.node.name}': has groups, whose weights share their inputs; "
            "use granularity 'filter' for it"
        )
    return labels, 1


def _because(channels: Channels, pruned: PrunedLayer) -> str:
    if pruned.weight.granularity == "channel":
        return ": they are inputs of the network or tied to such"
    return f": {channels.reason(pruned.node.name)}"
