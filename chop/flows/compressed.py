"""A network as a compressed file, and back."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from chop.compress.arrays import Array
from chop.compress.file import read_compressed, write_compressed
from chop.config.parse import parse_section
from chop.config.schema import ModelConfig
from chop.errors import ChopError, DataError, VerifyError
from chop.flows.compile import open_graph
from chop.ir.graph import MaseGraph
from chop.models.create import create_model
from chop.nn.masks import masked_parameters, set_mask
from chop.passes.channels import select_channels
from chop.passes.graph.transforms.refresh import refresh_metadata
from chop.passes.pruning import prunable_layers

__all__ = ["load_compressed", "open_network", "save_compressed", "tensors_of"]

# By node, the outputs that are left of it.
Channels = Mapping[str, Sequence[int]]


def tensors_of(graph: MaseGraph) -> dict[str, Array]:
    """Returns the parameters and buffers of a network by name; masks are no part of it."""
    names = {id(module): name for name, module in graph.model.named_modules()}
    masks = {f"{names[id(m)]}.{parameter}_mask" for m, parameter in masked_parameters(graph.model)}
    state = graph.model.state_dict()
    return {name: value.numpy().copy() for name, value in state.items() if name not in masks}


def open_network(model: nn.Module, inputs: Sequence[torch.Tensor]) -> MaseGraph:
    """Returns a copy of the model as a graph in which every weight has a layer."""
    graph = open_graph(copy.deepcopy(model).eval(), tuple(inputs))
    for _ in prunable_layers(graph):
        pass
    graph.model.delete_all_unused_submodules()
    graph.model.recompile()
    refresh_metadata(graph)
    return graph


def save_compressed(
    path: Path,
    graph: MaseGraph,
    config: ModelConfig,
    selections: Sequence[Channels],
    position_bits: int | None,
) -> int:
    """Writes the network, reads it again and returns the bytes of the file.

    `selections` are the channels that each pruning has left. Raises VerifyError where what was read
    is not the same, bit for bit.
    """
    shapes = [list(x.shape[1:]) for x in graph.example_inputs.values()]
    table = config.model_dump(mode="json", exclude_defaults=True) | {"inputs": shapes}
    description = {"model": table, "channels": [dict(kept) for kept in selections if kept]}
    tensors = tensors_of(graph)
    size = write_compressed(path, description, tensors, position_bits)
    decoded = load_compressed(path)
    again = tensors_of(decoded)
    for name, values in tensors.items():
        if values.tobytes() != again[name].tobytes():
            raise VerifyError(f"compressed file '{path}': '{name}' is decoded to other bits")
    inputs = tuple(graph.example_inputs[name] for name in graph.placeholders)
    with torch.inference_mode():
        if not torch.equal(graph.model.eval()(*inputs), decoded.model(*inputs)):
            raise VerifyError(f"compressed file '{path}': the decoded network computes otherwise")
    return size


def load_compressed(path: Path) -> MaseGraph:
    """Returns the network of a compressed file, its zeros masked.

    Raises DataError, of one line, for a file that is damaged or does not fit the model it names.
    """
    content = read_compressed(path)
    who = f"compressed file '{path}'"
    try:
        config = parse_section(ModelConfig, content.description["model"], who)
        inputs = [torch.zeros(2, *shape) for shape in config.inputs]
        graph = open_network(create_model(config, 0), inputs)
        for kept in content.description["channels"]:
            graph = select_channels(graph, kept)
        state = {name: torch.from_numpy(values) for name, values in content.tensors.items()}
        graph.model.load_state_dict(state)
    except (ChopError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise DataError(f"{who}: does not fit its model: {str(error).splitlines()[0]}") from error
    for _, layer in prunable_layers(graph):
        kept = layer.get_parameter("weight").detach() != 0
        if not bool(kept.all()):
            set_mask(layer, "weight", kept)
    refresh_metadata(graph)
    return graph
