"""share_weights: the weights of a layer take few different values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import ConfigDict, Field
from torch import nn

from chop.config.parse import parse_section
from chop.errors import ConfigError, did_you_mean
from chop.ir.graph import MaseGraph
from chop.nn.clusters import Start, cluster
from chop.nn.masks import mask_of, set_mask
from chop.passes.contract import PassArguments, transform_pass
from chop.passes.graph.transforms.refresh import refresh_metadata
from chop.passes.pruning import prunable_layers
from chop.passes.selection import check_leaves, parse_selector

__all__ = ["share_weights_transform_pass"]

_WHO = "pass 'share_weights'"
_LEAVES = {"type": "type", "name": "name", "regex_name": "regex"}


class _LayerConfig(PassArguments):
    """How many values the weights of a layer share.

    Attributes:
        bits: of an index: 2^bits values, one of which is zero in a layer that was pruned.
        clusters: the number of values besides zero instead. start, iterations: of the k-means.
        share: false leaves the layer as it is.
    """

    bits: int = Field(default=5, ge=1, le=16)
    clusters: int | None = Field(default=None, ge=1)
    start: Start = "linear"
    iterations: int = Field(default=100, ge=0)
    share: bool = True


class ShareWeightsArguments(PassArguments):
    """The arguments that have a fixed name; every other key is an entry, as in quantize."""

    model_config = ConfigDict(frozen=True, extra="allow", arbitrary_types_allowed=True)

    by: Literal["type", "name", "regex_name"] = "type"
    default: Mapping[str, Any] = Field(default_factory=dict)
    seed: int = Field(default=0, ge=0)

    @property
    def entries(self) -> Mapping[str, Any]:
        return self.__pydantic_extra__ or {}


@dataclass(frozen=True, slots=True)
class _Row:
    """One layer: its weights that are not zero, their values, and what sharing them changed."""

    node: str
    weights: int
    values: int
    root_mean_square_error: float


@transform_pass("share_weights", ShareWeightsArguments, ("add_common_metadata",))
def share_weights_transform_pass(graph: MaseGraph, arguments: ShareWeightsArguments) -> MaseGraph:
    """Returns a graph in which a layer's weights are the centroids of their clusters.

    Zeros stay zeros, and are masked from now on, so that no training brings them back. The values
    can be trained together (`chop.nn.controllers.Sharing`, the stage "share" of `chop compress`).
    Han, Mao, Dally, "Deep compression", ICLR 2016, section 3. `info["share_weights"]` has a row per
    layer. Raises ConfigError for an unknown key or name.
    """
    default = _config("default", arguments.default)
    entries = [
        (parse_selector({_LEAVES[arguments.by]: key}, _WHO), _config(key, entry))
        for key, entry in arguments.entries.items()
    ]
    for selector, _ in entries:
        check_leaves(graph, selector, _WHO)
    rows = []
    for node, layer in prunable_layers(graph):
        found = (config for selector, config in entries if selector.matches(graph, node))
        config = next(found, default)
        if config.share:
            rows.append(_share(node.name, layer, config, arguments.seed))
    graph.info["share_weights"] = [asdict(row) for row in rows]
    graph.model.recompile()
    refresh_metadata(graph)
    return graph


def _config(key: str, entry: Any) -> _LayerConfig:
    who = f"{_WHO}: '{key}'"
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{who} must be a table with a table 'config', got {entry!r}")
    unknown = [k for k in entry if k != "config"]
    if unknown:
        known = ["config", *ShareWeightsArguments.model_fields]
        raise ConfigError(f"{who}: unknown key '{unknown[0]}'{did_you_mean(unknown[0], known)}")
    return parse_section(_LayerConfig, entry.get("config", {}), f"{who}.config")


@torch.no_grad()
def _share(name: str, layer: nn.Module, config: _LayerConfig, seed: int) -> _Row:
    weight = layer.get_parameter("weight")
    kept = weight != 0
    if mask_of(layer, "weight") is not None or not bool(kept.all()):
        set_mask(layer, "weight", kept)
    old = weight[kept].double().numpy()
    if not len(old):
        return _Row(name, 0, 0, 0.0)
    count = config.clusters or 2**config.bits - (not bool(kept.all()))
    shared = cluster(old, count, config.start, config.iterations, seed)
    weight[kept] = torch.from_numpy(shared).to(weight.dtype)
    values = len(torch.unique(weight[kept]))
    return _Row(name, len(old), values, float(np.sqrt(np.mean((shared - old) ** 2))))
