"""Networks with other numbers of channels: what belongs to a channel, and what is left of a graph.

`read_channels` finds out which channels are tied to which; `resize_channels` makes the graph in
which every one of them is there as many times as wanted, none included, from the layer that makes
it to those that read it. What an operator does to channels it says itself (`Op.tie_channels`,
`Op.resized`, chop/ops/channels.py).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import fx, nn

from chop.errors import (
    ChopError,
    ConfigError,
    PassOrderError,
    UnsupportedOpError,
    VerifyError,
    did_you_mean,
)
from chop.formats.rounding import Ints
from chop.ir.graph import MaseGraph
from chop.ir.meta import CommonMeta, common_of
from chop.ir.modes import evaluating
from chop.nn.layers import QuantizedLayer
from chop.nn.masks import mask_of, set_mask
from chop.ops.annotate import Annotator, data_inputs, module_of
from chop.ops.channels import Axes, Resize, Ties, zeros
from chop.ops.moving import Move, Pick, moved
from chop.ops.registry import operator

__all__ = [
    "Channels",
    "Weights",
    "draw_weights",
    "read_channels",
    "resize_channels",
    "select_channels",
]

# Where weights come from: copies of the old ones ("copy"), copies that compute the same where
# channels are repeated ("widen"), old ones once and new ones drawn ("inherit"), or all drawn.
Weights = Literal["copy", "widen", "inherit", "fresh"]


@dataclass(frozen=True, slots=True, eq=False)
class Channels:
    """The channels of a graph.

    Attributes:
        axes: for every node with data, a label for each index along each axis of a sample; equal
            labels are the same channel, or channels that are tied; 0 is fixed.
        made: the labels of the channels that a layer makes, by the name of its node.
    """

    axes: Mapping[fx.Node, Axes]
    made: Mapping[str, Ints]
    ties: Ties

    def labels(self, name: str, who: str) -> Ints:
        """Returns the labels of a layer's channels. Raises ConfigError."""
        if name not in self.made:
            raise ConfigError(
                f"{who}: node '{name}' makes no channels of its own; name a layer that does"
                f"{did_you_mean(name, self.made)}"
            )
        return self.made[name]

    def free(self, name: str) -> bool:
        """Returns whether a layer makes channels all of which may come and go."""
        return name in self.made and bool(self.made[name].all())

    def reason(self, name: str) -> str:
        """Returns why the channels of a layer cannot change ("": they can)."""
        fixed = np.flatnonzero(self.made[name] == 0)
        return self.ties.reason(int(self.ties.made[name][fixed[0]])) if len(fixed) else ""

    def partners(self, name: str) -> tuple[str, ...]:
        """Returns the other layers that make some of a layer's channels, with it or tied to it."""
        mine = set(self.made[name].tolist()) - {0}
        others = (other for other, labels in self.made.items() if mine & set(labels.tolist()))
        return tuple(other for other in others if other != name)


def read_channels(graph: MaseGraph) -> Channels:
    """Returns the channels of a float graph with common metadata.

    Raises PassOrderError where the graph is quantised.
    """
    ties, axes = Ties(), dict[fx.Node, Axes]()
    uses: dict[int, list[fx.Node]] = {}
    for node in graph.fx_graph.nodes:
        common, ties.node = common_of(node), node.name
        if common.operator == "output":
            for labels in (x for n in node.all_input_nodes for x in axes.get(n, ())):
                ties.fix(labels, "hands it on as a result of the network")
        if common.operator == "input":
            axes[node] = zeros(common.output.shape)
        elif common.carries_data:
            inputs = [axes[n] for n in data_inputs(node)]
            op, shape = operator(common.operator), common.output.shape
            axes[node] = op.tie_channels(common.attributes, inputs, shape, ties)
            for parameter in _parameters(graph, node):
                uses.setdefault(id(parameter), []).append(node)
    for nodes in uses.values():
        _tie_uses(nodes, axes, ties)
    return Channels(
        {node: tuple(ties.roots(labels) for labels in found) for node, found in axes.items()},
        {name: ties.roots(labels) for name, labels in ties.made.items()},
        ties,
    )


def _parameters(graph: MaseGraph, node: fx.Node) -> Iterable[nn.Parameter]:
    module = module_of(graph, node)
    if isinstance(module, QuantizedLayer) and module.formats:
        raise PassOrderError(
            f"node '{node.name}' is quantised already; change the network's channels before"
        )
    return () if module is None else module.parameters()


def _tie_uses(nodes: Sequence[fx.Node], axes: Mapping[fx.Node, Axes], ties: Ties) -> None:
    """Ties the channels of the nodes that share a parameter."""
    first = nodes[0]
    for other in nodes[1:]:
        ties.node = other.name
        mine = [axes[n] for n in (*data_inputs(first), first)]
        theirs = [axes[n] for n in (*data_inputs(other), other)]
        alike = first.target == other.target
        for a, b in zip(mine, theirs, strict=False):
            for x, y in zip(a, b, strict=False):
                if alike and len(x) == len(y):
                    ties.tie(x, y)
                else:
                    for labels in (x, y):
                        ties.fix(labels, f"shares a parameter with node '{first.name}'")


def select_channels(graph: MaseGraph, kept: Mapping[str, Sequence[int]]) -> MaseGraph:
    """Returns a graph in which layers make only the channels kept, by the name of their node.

    Everything that follows shrinks with them: norms, what reads them, and the channels that are
    tied to them, of residual partners above all. The result is what the old graph computes with
    zeros for those weights of linear layers and convolutions that read a channel that is gone.

    Raises ConfigError for a node that makes no channels, an index out of range, a channel that
    cannot go, or two layers whose tied channels are not both kept.
    """
    who = "select_channels"
    channels = read_channels(graph)
    copies: dict[int, int] = {}
    named: dict[int, str] = {}
    for name, indices in kept.items():
        labels = channels.labels(name, who)
        chosen = _chosen(indices, len(labels), f"{who}: node '{name}'")
        for label, stays in zip(labels.tolist(), chosen.tolist(), strict=True):
            if label == 0 and not stays:
                raise ConfigError(
                    f"{who}: node '{name}' must keep all of its channels: {channels.reason(name)}"
                )
            if copies.setdefault(label, int(stays)) != stays:
                raise ConfigError(
                    f"{who}: nodes '{named[label]}' and '{name}' have channels in common, or tied "
                    "to each other, of which only one keeps some; keep the same ones of both"
                )
            named.setdefault(label, name)
    result = graph.copy()
    resize_channels(result, read_channels(result), copies)
    return result


def _chosen(indices: Sequence[int], count: int, who: str) -> Ints:
    if not len(indices) or min(indices) < 0 or max(indices) >= count:
        raise ConfigError(f"{who} must keep some of its channels 0 to {count - 1}, got {indices}")
    chosen = np.zeros(count, np.int64)
    chosen[list(indices)] = 1
    return chosen


def resize_channels(
    graph: MaseGraph,
    channels: Channels,
    copies: Mapping[int, int],
    weights: Weights = "copy",
    seed: int = 0,
) -> None:
    """Changes the graph in place: each channel, by its label, is there as many times as `copies`.

    A channel without an entry stays. New weights are drawn from `seed` by the layers' own
    reset_parameters. Raises UnsupportedOpError for a node that cannot follow.
    """
    # Here, because the passes in that package import this file.
    from chop.passes.graph.transforms.refresh import refresh_metadata

    places = {
        node: tuple(_places(labels, copies) for labels in axes)
        for node, axes in channels.axes.items()
    }
    changed = [node for node in places if _changes(node, places)]
    annotator = Annotator(graph, graph.example_inputs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        done: set[str] = set()
        for node in changed:
            _resize_layer(graph, annotator, node, places, weights, done)
    _drop_unread_constants(graph)
    _follow(graph, places)
    graph.model.delete_all_unused_submodules()
    graph.model.recompile()
    refresh_metadata(graph)
    for node in graph.fx_graph.nodes:
        wanted = places.get(node)
        shape = common_of(node).output.shape
        if wanted is not None and shape != tuple(len(p) for p in wanted):
            raise VerifyError(f"node '{node.name}': got shape {shape} of other channels")


def draw_weights(graph: MaseGraph, seed: int) -> None:
    """Draws the parameters of all layers anew, as their own reset_parameters does."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in graph.model.modules():
            reset = getattr(module, "reset_parameters", None)
            if reset is not None:
                reset()


def _places(labels: Ints, copies: Mapping[int, int]) -> Ints:
    """Returns the old index of every new one along an axis.

    Neighbours of one label are repeated as a whole: the pixels of a channel, say.
    """
    ends = np.flatnonzero(np.diff(labels)) + 1
    runs = np.split(np.arange(len(labels), dtype=np.int64), ends)
    parts = [np.tile(run, copies.get(int(labels[run[0]]), 1)) for run in runs if len(run)]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _changes(node: fx.Node, places: Mapping[fx.Node, Axes]) -> bool:
    """Whether the node, or what it reads, has other channels than before."""
    common, nodes = common_of(node), (*data_inputs(node), node)
    shapes = [t.shape for t in (*common.inputs, common.output)]
    return any(
        len(p) != size or (p != np.arange(size)).any()
        for n, shape in zip(nodes, shapes[-len(nodes) :], strict=True)
        for p, size in zip(places[n], shape, strict=True)
    )


def _resize_layer(
    graph: MaseGraph,
    annotator: Annotator,
    node: fx.Node,
    places: Mapping[fx.Node, Axes],
    weights: Weights,
    done: set[str],
) -> None:
    """Gives the node a layer of its new channels, where it has one with parameters."""
    common, module = common_of(node), module_of(graph, node)
    if common.operator == "input" or (module is not None and str(node.target) in done):
        return
    op = operator(common.operator)
    wrapped = isinstance(module, QuantizedLayer)
    layer = module.layer if isinstance(module, QuantizedLayer) else module
    if layer is None:
        layer = op.layer(annotator.call(node))
    if layer is None or not [*layer.parameters(), *layer.buffers()]:
        return
    if hasattr(layer, "parametrizations"):
        raise UnsupportedOpError(
            f"node '{node.name}': its layer has parametrizations; remove them first"
        )
    resize = op.resized(layer, [places[n] for n in data_inputs(node)], places[node])
    made = _remade(layer, resize, weights)
    target = str(node.target)
    if module is None:
        # What a function was given becomes the layer's own.
        target = graph.free_name(f"{node.name}_layer")
        node.args, node.kwargs = tuple(data_inputs(node)), {}
        node.op, node.target = "call_module", target
    if module is None or wrapped:
        # The layer need not be a module that torch knows.
        made = QuantizedLayer(op.name, made, {}).train(graph.model.training)
    graph.model.add_submodule(target, made)
    done.add(target)


def _remade(layer: nn.Module, resize: Resize, weights: Weights) -> nn.Module:
    """Returns a layer with the parameters and sizes of a resizing."""
    made = copy.deepcopy(layer)
    for name, size in resize.sizes.items():
        setattr(made, name, size)
    old = {name: getattr(layer, name).detach() for name in resize.parameters}
    new = {name: _taken(old[name], axes) for name, axes in resize.parameters.items()}
    _set(made, new)
    for name, axes in resize.parameters.items():
        kept = mask_of(layer, name)
        if kept is not None:
            set_mask(made, name, _taken(kept, axes))
    reset = getattr(made, "reset_parameters", None)
    if weights == "copy" or reset is None:
        return made
    if weights == "widen":
        for name, axis in resize.summed.items():
            new[name] = _shared_out(new[name], axis, resize.parameters[name][axis])
        _set(made, new)
        return made
    reset()
    if weights == "inherit":
        for name, axes in resize.parameters.items():
            drawn = getattr(made, name).detach()
            new[name] = torch.where(_is_first(axes, drawn.shape), new[name], drawn)
        _set(made, new)
    return made


def _set(layer: nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    for name, value in values.items():
        place = getattr(layer, name)
        if isinstance(place, nn.Parameter):
            setattr(layer, name, nn.Parameter(value.clone(), place.requires_grad))
        else:
            setattr(layer, name, value.clone())


def _taken(values: torch.Tensor, axes: Sequence[Ints | None]) -> torch.Tensor:
    for axis, places in enumerate(axes):
        if places is not None:
            values = values.index_select(axis, torch.from_numpy(places))
    return values


def _copies(places: Ints) -> tuple[Ints, Ints]:
    """Returns how many copies of it there are, and which of them it is, for each index."""
    order = np.argsort(places, kind="stable")
    starts = np.searchsorted(places[order], places[order])
    number = np.empty_like(places)
    number[order] = np.arange(len(places)) - starts
    return np.bincount(places)[places], number


def _shared_out(values: torch.Tensor, axis: int, places: Ints | None) -> torch.Tensor:
    """Divides weights by how many copies of their input there are: the sum stays what it was."""
    if places is None:
        return values
    counts = torch.from_numpy(_copies(places)[0]).to(values.dtype)
    return values / counts.reshape([-1 if k == axis else 1 for k in range(values.dim())])


def _is_first(axes: Sequence[Ints | None], shape: Sequence[int]) -> torch.Tensor:
    """Returns where a parameter's element is not of a repeated channel."""
    found = torch.ones(tuple(shape), dtype=torch.bool)
    for axis, places in enumerate(axes):
        if places is not None:
            first = torch.from_numpy(_copies(places)[1] == 0)
            found &= first.reshape([-1 if k == axis else 1 for k in range(len(axes))])
    return found


def _drop_unread_constants(graph: MaseGraph) -> None:
    for node in reversed(list(graph.fx_graph.nodes)):
        if common_of(node).operator in ("constant", "shape") and not node.users:
            graph.fx_graph.erase_node(node)


def _follow(graph: MaseGraph, places: dict[fx.Node, Axes]) -> None:
    """Rewrites nodes that move elements where their arguments are of the old sizes.

    Whether a node moves the right elements is tested: it is run on their old indices.
    """
    runner = fx.Interpreter(graph.model, garbage_collect_values=False)
    runner.extra_traceback = False
    inputs = graph.example_inputs
    runner.args_iter = iter([_pair(inputs[name]) for name in graph.placeholders])
    with evaluating(graph.model):
        for node in list(graph.fx_graph.nodes):
            common = common_of(node)
            old = _old_places(common) if _moves(common) else None
            if old is not None and _changes(node, places):
                _move_right(runner, node, common, places, old)
            runner.env[node] = runner.run_node(node)


def _pair(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x[:1], x[:1]])


def _moves(common: CommonMeta) -> bool:
    if not common.carries_data or common.operator == "input":
        return False
    op = operator(common.operator)
    return op.is_layout or isinstance(common.attributes, Move)


def _old_places(common: CommonMeta) -> Ints:
    """Returns the index in its input that each element of the old result came from."""
    (x,) = common.inputs
    index = np.arange(x.elements, dtype=np.int64).reshape(x.shape)
    if isinstance(common.attributes, Move):
        return moved(common.attributes, index)
    return index.reshape(common.output.shape)


def _move_right(
    runner: fx.Interpreter,
    node: fx.Node,
    common: CommonMeta,
    places: Mapping[fx.Node, Axes],
    old: Ints,
) -> None:
    """Rewrites the node where it does not move what it should. Raises UnsupportedOpError."""
    (source,), (x,) = data_inputs(node), common.inputs
    index = np.arange(x.elements, dtype=np.int64).reshape(x.shape)[np.ix_(*places[source])]
    wanted = old[np.ix_(*places[node])]
    if _gives(runner, node, source, index, wanted):
        return
    call = _call_of_now(common, places[source], places[node])
    if call is not None:
        function, arguments = call
        node.op, node.target = "call_function", function
        node.args, node.kwargs = (source, *arguments), {}
        if _gives(runner, node, source, index, wanted):
            return
    raise UnsupportedOpError(
        f"node '{node.name}': '{common.operator}' moves channels whose number changes in a way "
        "that does not follow from their number; write it with sizes taken from its input "
        "(x.shape), or slices of whole layers' channels"
    )


def _gives(
    runner: fx.Interpreter, node: fx.Node, source: fx.Node, index: Ints, wanted: Ints
) -> bool:
    """Whether the node takes these indices to the wanted ones; -1 stands for any constant."""
    kept, labels = runner.env[source], torch.from_numpy(index).double()
    runner.env[source] = torch.stack([labels, labels])
    try:
        result = runner.run_node(node)[0].numpy()
    except (ChopError, RuntimeError, IndexError, TypeError, ValueError):
        # A size that was written down does not fit the new one.
        return False
    finally:
        runner.env[source] = kept
    return result.shape == wanted.shape and bool(((result == wanted) | (wanted < 0)).all())


def _call_of_now(
    common: CommonMeta, before: Axes, after: Axes
) -> tuple[Callable[..., torch.Tensor], tuple[Any, ...]] | None:
    """Returns a function that may do what the node does, and its arguments after the tensor."""
    if not isinstance(common.attributes, Move):
        return torch.reshape, ((-1, *(len(p) for p in after)),)
    match common.attributes.steps:
        case (Pick(axis, index),) if min(index) >= 0:
            wanted, numbers = np.asarray(index)[after[axis]], _copies(after[axis])[1]
            ones = zip(wanted, numbers, strict=True)
            found = [np.flatnonzero(before[axis] == i)[k] for i, k in ones]
            if found == list(range(int(found[0]), int(found[0]) + len(found))):
                return torch.narrow, (axis + 1, int(found[0]), len(found))
    return None
