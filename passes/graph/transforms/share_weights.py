"""share_weights: the weights of a layer take few different values."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from pydantic import Field
from torch import nn

from chop.ir.graph import MaseGraph
from chop.nn.clusters import Start, cluster
from chop.nn.masks import mask_of, set_mask
from chop.passes.contract import PassArguments, transform_pass
from chop.passes.entries import EntryArguments, read_entries
from chop.passes.graph.transforms.refresh import refresh_metadata
from chop.passes.pruning import prunable_layers

__all__ = ["share_weights_transform_pass"]

_WHO = "pass 'share_weights'"


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


class ShareWeightsArguments(EntryArguments):
    """Entries as in quantize; `seed` is for k-means that begin at random."""

    seed: int = Field(default=0, ge=0)


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
    entries = read_entries(graph, arguments, _LayerConfig, _WHO)
    rows = []
    for node, layer in prunable_layers(graph):
        entry = entries.find(graph, node)
        config = entry.config if entry else entries.default or _LayerConfig()
        if config.share:
            rows.append(_share(node.name, layer, config, arguments.seed))
    graph.info["share_weights"] = [asdict(row) for row in rows]
    graph.model.recompile()
    refresh_metadata(graph)
    return graph


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
