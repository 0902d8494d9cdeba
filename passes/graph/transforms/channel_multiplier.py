"""channel_multiplier: layers with more or fewer channels, and everything that follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator
from torch import fx

from chop.errors import ConfigError
from chop.formats.rounding import Ints
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.ops.annotate import data_inputs
from chop.passes.channels import Channels, draw_weights, read_channels, resize_channels
from chop.passes.contract import PassArguments, transform_pass
from chop.passes.entries import EntryArguments, read_entries

__all__ = ["channel_multiplier_transform_pass"]

_NAME = "channel_multiplier"
_WHO = f"pass '{_NAME}'"


class LayerConfig(PassArguments):
    """The table `config` of one entry; the keys that users of MASE's labs know.

    `channel_multiplier` is the factor on the channels that a layer makes. `name` says which of its
    sides change: "output_only", "both" or "input_only", and is checked: inputs are not scaled
    here, they follow the layers that make them. `channel_multiplier_in` is what "both" expects of
    the inputs, where that is another factor.
    """

    name: Literal["output_only", "both", "input_only"] | None = None
    channel_multiplier: float | None = Field(default=None, gt=0)
    channel_multiplier_in: float | None = Field(default=None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _none_is_unsaid(cls, given: Any) -> Any:
        # MASE writes None for "leave it alone".
        return {k: v for k, v in given.items() if v is not None and v != "NA"}

    @property
    def out(self) -> float | None:
        """The factor on the outputs; None: nothing is said of them."""
        return None if self.name == "input_only" else self.channel_multiplier

    @property
    def into(self) -> float | None:
        """The factor that the inputs must have; None: any."""
        if self.name is None:
            return self.channel_multiplier_in
        if self.name == "output_only":
            return self.channel_multiplier_in or 1.0
        return self.channel_multiplier_in or self.channel_multiplier


class ChannelMultiplierArguments(EntryArguments):
    """Entries as in quantize, by name where nothing else is said.

    `weights`: layers that change are drawn anew ("fresh", by torch's own reset_parameters), keep
    what they had and draw the rest ("inherit"), or become wider ones that compute the same
    ("widen": Chen et al., Net2Net, 2016, without noise). Fresh weights are there before the first
    training. They are drawn from `seed`; where it is given, those of the layers that do not change
    are too.
    """

    by: Literal["type", "name", "regex_name"] = "name"
    weights: Literal["fresh", "inherit", "widen"] = "fresh"
    seed: int | None = Field(default=None, ge=0)


@dataclass(frozen=True, slots=True)
class _Row:
    """One layer whose channels changed, by its own entry or with others."""

    node: str
    before: int
    after: int
    multiplier: float | None


@dataclass(frozen=True, slots=True)
class _Widths:
    """The numbers of channels that factors are of, by the name of a layer's node.

    `units` counts tied channels of a layer once.
    """

    before: Mapping[str, int]
    units: Mapping[str, int]

    @staticmethod
    def of(graph: MaseGraph, channels: Channels) -> _Widths:
        """Returns the widths of now, or those before the pass ran first."""
        made = channels.made
        before = {name: len(labels) for name, labels in made.items()}
        before |= {row["node"]: row["before"] for row in graph.info.get(_NAME, ())}
        units = {n: len(_distinct(made[n])) * before[n] // len(made[n]) for n in made}
        return _Widths(before, units)

    def of_labels(self, channels: Channels, labels: set[int]) -> int:
        """Returns how many there were of channels that some layers make."""
        made = {frozenset(_distinct(found)): name for name, found in channels.made.items()}
        counts = (
            len(labels & mine) * self.units[name] / len(mine) for mine, name in made.items() if mine
        )
        return round(sum(counts))


def _before_training(arguments: ChannelMultiplierArguments) -> bool:
    return arguments.weights == "fresh"


@transform_pass(
    _NAME,
    ChannelMultiplierArguments,
    ("add_common_metadata",),
    before_training=_before_training,
)
def channel_multiplier_transform_pass(
    graph: MaseGraph, arguments: ChannelMultiplierArguments
) -> MaseGraph:
    """Returns a graph whose chosen layers make `channel_multiplier` times as many channels.

    Norms, activations, the inputs of the layers that read them, and layers whose channels are tied
    to theirs (residual partners, depthwise convolutions) follow by themselves. Sizes are rounded
    to the nearest, halves up, at least 1; groups stay whole. Where channels go, the first ones
    stay. Factors are of the widths before the pass ran first, so that it may run again. Layers
    that make the network's results keep their size: an entry by type or regex passes them over,
    one by name is refused. `info["channel_multiplier"]` has a row per layer that changed.

    Raises ConfigError for an unknown key or layer, layers that are tied and differ, a layer whose
    channels are fixed, and a `name` that does not fit the layers before.
    """
    entries = read_entries(graph, arguments, LayerConfig, _WHO)
    for key, config in entries.configs():
        if config.name is not None and config.channel_multiplier is None:
            raise ConfigError(
                f"{_WHO}: '{key}'.config says '{config.name}' and has no channel_multiplier; add it"
            )
    channels = read_channels(graph)
    chosen: dict[str, LayerConfig] = {}
    for node in graph.fx_graph.nodes:
        entry = entries.find(graph, node)
        if node.name in channels.made:
            chosen[node.name] = entry.config if entry else entries.default or LayerConfig()
        elif arguments.by == "name" and entry is not None:
            _refuse_other(node, entry.config)
    widths = _Widths.of(graph, channels)
    copies, factors = _copies(channels, widths, chosen, arguments.by == "name")
    _check_inputs(graph, channels, widths, chosen, copies)
    if arguments.weights == "fresh" and arguments.seed is not None:
        draw_weights(graph, arguments.seed)
    resize_channels(graph, channels, copies, arguments.weights, arguments.seed or 0)
    after = {name: len(labels) for name, labels in read_channels(graph).made.items()}
    graph.info[_NAME] = [
        asdict(_Row(name, before, after[name], factors.get(name)))
        for name, before in widths.before.items()
        if name in factors or before != after[name]
    ]
    return graph


def _refuse_other(node: fx.Node, config: LayerConfig) -> None:
    common = common_of(node)
    if common.carries_data and config.out is not None:
        raise ConfigError(
            f"{_WHO}: node '{node.name}' makes no channels of its own ('{common.operator}'); "
            "name the layer before it, it follows"
        )


def _scaled(count: int, factor: float) -> int:
    return max(1, int(np.floor(count * factor + 0.5)))


def _distinct(labels: Ints) -> list[int]:
    """Returns the labels once each, in their order; tied channels count as one."""
    return [label for label in dict.fromkeys(labels.tolist()) if label]


def _copies(
    channels: Channels, widths: _Widths, chosen: Mapping[str, LayerConfig], strict: bool
) -> tuple[dict[int, int], dict[str, float]]:
    """Returns how many copies of each channel there are to be, and each layer's own factor."""
    copies: dict[int, int] = {}
    owners: dict[int, str] = {}
    factors: dict[str, float] = {}
    for name, config in chosen.items():
        factor, reason = config.out, channels.reason(name)
        if factor is None or (reason and (not strict or factor == 1)):
            continue
        if reason:
            raise ConfigError(
                f"{_WHO}: node '{name}' must keep its {len(channels.made[name])} channels: "
                f"{reason}; take its channel_multiplier out, or write name = 'input_only'"
            )
        factors[name] = factor
        distinct = _distinct(channels.made[name])
        wanted = _scaled(widths.units[name], factor)
        for place, label in enumerate(distinct):
            count = wanted // len(distinct) + (place < wanted % len(distinct))
            if copies.setdefault(label, count) != count:
                raise ConfigError(
                    f"{_WHO}: nodes '{owners[label]}' and '{name}' make the same channels, or "
                    f"channels that are added, and have the factors {factors[owners[label]]:g} "
                    f"and {factor:g}; give both one factor, or one of them none"
                )
            owners.setdefault(label, name)
    return copies, factors


def _check_inputs(
    graph: MaseGraph,
    channels: Channels,
    widths: _Widths,
    chosen: Mapping[str, LayerConfig],
    copies: Mapping[int, int],
) -> None:
    """Compares what entries say of their inputs with what comes of the layers before."""
    for node in graph.fx_graph.nodes:
        config = chosen.get(node.name, LayerConfig())
        if config.into is None:
            continue
        (source,) = data_inputs(node)
        labels = {label for axis in channels.axes[source] for label in _distinct(axis)}
        before = widths.of_labels(channels, labels)
        wanted = _scaled(before, config.into) if labels else 1
        given = sum(copies.get(label, 1) for label in labels) if labels else 1
        if wanted == given and (labels or config.into == 1):
            continue
        makers = [n for n, made in channels.made.items() if labels & set(made.tolist())]
        sources = " and ".join(f"'{n}'" for n in makers) or "the network's input"
        factor = given / before if labels else 1.0
        raise ConfigError(
            f"{_WHO}: node '{node.name}' has name = '{config.name}', which means inputs times "
            f"{config.into:g}, but {sources} before it gives times {factor:g}; make the two agree, "
            "or leave 'name' out: inputs follow by themselves"
        )
