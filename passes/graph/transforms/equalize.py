"""equalize: the weights of neighbouring layers share their ranges out, channel by channel."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass

import torch
from pydantic import Field
from torch import fx, nn

from chop.errors import PassOrderError
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.nn.layers import QuantizedLayer
from chop.ops.annotate import data_inputs, module_of
from chop.ops.registry import operator
from chop.passes.contract import PassArguments, transform_pass
from chop.passes.graph.transforms.refresh import refresh_metadata

__all__ = ["equalize_transform_pass"]

# In log2: what is nearer to balance than this stays as it is.
_BALANCED = 1e-3


class EqualizeArguments(PassArguments):
    """`iterations`: the most sweeps over all pairs; a few suffice, and a balanced network ends it.

    `power_of_two` takes the nearest powers of two as scales: the float network then computes the
    same bits as before, as long as nothing leaves the range of its dtype.
    """

    iterations: int = Field(default=100, ge=1)
    power_of_two: bool = False


@dataclass(frozen=True, slots=True)
class _Row:
    """One layer with weights: what it was balanced with, or why it was not.

    `precision` is the mean over channels of (r1 / max r1) (r2 / max r2): 1 where every channel
    uses the whole range of its tensor.
    """

    node: str
    reader: str = ""
    channels: int = 0
    smallest_scale: float = 1.0
    largest_scale: float = 1.0
    precision_before: float = 1.0
    precision_after: float = 1.0
    skipped: str = ""


@dataclass(slots=True)
class _Pair:
    """A layer and its reader, as places in the list of weights, and the scale found so far."""

    first: fx.Node
    second: fx.Node
    scale: torch.Tensor


@transform_pass("equalize", EqualizeArguments, ("add_common_metadata",))
def equalize_transform_pass(graph: MaseGraph, arguments: EqualizeArguments) -> MaseGraph:
    """Returns a graph that computes the same, with weights that lose less when quantised.

    Between two layers with only positively homogeneous functions, f(s x) = s f(x), output channel i
    of the first is divided by s_i = sqrt(r1_i / r2_i) and input channel i of the second multiplied
    by it, where r are the largest magnitudes of the channel's weights; both have the range
    sqrt(r1_i r2_i) then. Pairs are swept until nothing moves. Nagel et al., "Data-free quantization
    through weight equalization and bias correction", ICCV 2019, section 4.1. Folded batch norms
    first, so run fold_batch_norm before.

    `info["equalize"]` has a row per layer with weights, with the reason where it was skipped.
    Raises PassOrderError when the graph is quantised already.
    """
    pairs, rows = [], {}
    for node in graph.fx_graph.nodes:
        if not _is_layer(graph, node):
            continue
        found = _reader(graph, node)
        if isinstance(found, str):
            rows[node.name] = _Row(node.name, skipped=found)
        else:
            channels = _weight(graph, node).shape[0]
            pairs.append(_Pair(node, found, torch.ones(channels, dtype=torch.float64)))
    sizes = {n: _sizes(graph, n) for pair in pairs for n in (pair.first, pair.second)}
    before = [_precision(pair, sizes) for pair in pairs]
    for _ in range(arguments.iterations):
        moves = [_balance(pair, sizes, arguments.power_of_two) for pair in pairs]
        if max(moves, default=0.0) < _BALANCED:
            break
    for pair, precision in zip(pairs, before, strict=True):
        after = _precision(pair, sizes)
        least, most = float(pair.scale.min()), float(pair.scale.max())
        ends = (len(pair.scale), least, most, precision, after)
        rows[pair.first.name] = _Row(pair.first.name, pair.second.name, *ends)
        _apply(graph, pair)
    order = [n.name for n in graph.fx_graph.nodes if n.name in rows]
    graph.info["equalize"] = [asdict(rows[name]) for name in order]
    if pairs:
        refresh_metadata(graph)
    return graph


def _is_layer(graph: MaseGraph, node: fx.Node) -> bool:
    """Whether the node calls a module with weights [outputs, inputs, ...]."""
    module = module_of(graph, node)
    if isinstance(module, QuantizedLayer) and module.formats:
        raise PassOrderError(
            f"pass 'equalize': node '{node.name}' is quantised already; run equalize before"
        )
    weight = getattr(_inner(module), "weight", None)
    return common_of(node).carries_data and isinstance(weight, nn.Parameter) and weight.dim() >= 2


def _inner(module: nn.Module | None) -> nn.Module | None:
    return module.layer if isinstance(module, QuantizedLayer) else module


def _weight(graph: MaseGraph, node: fx.Node) -> torch.Tensor:
    layer = _inner(module_of(graph, node))
    assert layer is not None, "_folds has seen its weight"
    return layer.get_parameter("weight").detach()


def _reader(graph: MaseGraph, node: fx.Node) -> fx.Node | str:
    """Returns the layer that a node can be balanced with, or the reason why there is none."""
    if not _folds(graph, node, before=False):
        return f"operator '{common_of(node).operator}' cannot take a scale per output"
    at = node
    while True:
        if len(at.users) != 1:
            return f"node '{at.name}' is read at {len(at.users)} places"
        (at,) = at.users
        if at.op == "output":
            return "its result leaves the graph"
        if _is_layer(graph, at):
            break
        op = operator(common_of(at).operator)
        if not op.is_positively_homogeneous or len(data_inputs(at)) != 1:
            return f"operator '{op.name}' of node '{at.name}' is not positively homogeneous"
    for layer in (node, at):
        if graph.readers(str(layer.target)) > 1:
            return f"the layer of node '{layer.name}' is used at another place too"
    if not _folds(graph, at, before=True):
        return f"operator '{common_of(at).operator}' of node '{at.name}' cannot take scales"
    if _channel_axis(node) != _channel_axis(at) or (
        _weight(graph, at).shape[1] != _weight(graph, node).shape[0]
    ):
        return f"the inputs of node '{at.name}' are not the outputs of this layer"
    return at


def _channel_axis(node: fx.Node) -> int:
    """Returns the axis of a sample along which a layer takes scales; ranks are equal on the way."""
    axes = len(common_of(node).output.shape)
    return operator(common_of(node).operator).channel_axis % axes


def _folds(graph: MaseGraph, node: fx.Node, before: bool) -> bool:
    """Tries the operator's hook with scales of one on a copy."""
    layer = copy.deepcopy(_inner(module_of(graph, node)))
    assert layer is not None
    weight = _weight(graph, node)
    ones = torch.ones(weight.shape[1 if before else 0], dtype=torch.float64)
    op = operator(common_of(node).operator)
    hook = op.fold_before if before else op.fold_after
    return hook(layer, ones, torch.zeros_like(ones))


def _sizes(graph: MaseGraph, node: fx.Node) -> torch.Tensor:
    """Returns the largest magnitudes [outputs, inputs] of a layer's weights, in float64."""
    weight = _weight(graph, node).double().abs()
    return weight.flatten(2).amax(2) if weight.dim() > 2 else weight.clone()


def _ranges(pair: _Pair, sizes: dict[fx.Node, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return sizes[pair.first].amax(1), sizes[pair.second].amax(0)


def _precision(pair: _Pair, sizes: dict[fx.Node, torch.Tensor]) -> float:
    first, second = _ranges(pair, sizes)
    most = float(first.max() * second.max())
    return float((first * second).mean()) / most if most > 0 else 1.0


def _balance(pair: _Pair, sizes: dict[fx.Node, torch.Tensor], power_of_two: bool) -> float:
    """Balances one pair and returns the largest |log2 s|."""
    first, second = _ranges(pair, sizes)
    # A channel without weights on one side has nothing to balance.
    there = (first > 0) & (second > 0)
    ratio = torch.where(there, first, 1.0) / torch.where(there, second, 1.0)
    exponent = ratio.log2() / 2
    exponent = exponent.round() if power_of_two else exponent
    scale = exponent.exp2()
    sizes[pair.first] /= scale[:, None]
    sizes[pair.second] *= scale
    pair.scale *= scale
    return float(exponent.abs().max())


def _apply(graph: MaseGraph, pair: _Pair) -> None:
    if float((pair.scale.log2()).abs().max()) < _BALANCED:
        return
    zeros = torch.zeros_like(pair.scale)
    for node, before, scale in (
        (pair.first, False, 1 / pair.scale),
        (pair.second, True, pair.scale),
    ):
        op, layer = operator(common_of(node).operator), _inner(module_of(graph, node))
        assert layer is not None
        bare = getattr(layer, "bias", None) is None
        (op.fold_before if before else op.fold_after)(layer, scale, zeros)
        if bare:
            # A scale alone needs no bias, and a layer without one is smaller.
            layer.register_parameter("bias", None)
