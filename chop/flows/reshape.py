"""Passes that make the network which is trained: they run before the first training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from chop.config.schema import Config
from chop.errors import ConfigError
from chop.flows.compile import QUANTISING, open_graph, road_of, run_road
from chop.passes.contract import precedes_training
from chop.passes.registry import resolve

__all__ = ["passes_before_training", "reshape_model", "trained_first"]


def passes_before_training(config: Config) -> int:
    """Returns how many passes, at the head of the list, are for the untrained network.

    None are where there is no [train]: they run in their turn then. Raises ConfigError where such
    a pass stands behind one for the trained network.
    """
    if config.train is None:
        return 0
    count, other = 0, ""
    for name, given in road_of(config):
        if not precedes_training(resolve(name), given):
            other = other or name
        elif other:
            raise ConfigError(
                f"job '{config.name}': the pass '{name}' makes the network that is trained, and "
                f"'{other}' before it is for the trained one; put '{name}' first"
            )
        else:
            count += 1
    return count


def trained_first(config: Config) -> Config:
    """Returns the configuration with [retrain], its only training, as [train] where it is the same.

    That is so where all passes before the first that quantises are for the untrained network: the
    float accuracy of a report is then that of the network which was trained.
    """
    if config.train is not None or config.retrain is None:
        return config
    names = [name for name, _ in road_of(config)]
    before = next((i for i, name in enumerate(names) if name in QUANTISING), len(names))
    made = config.model_copy(update={"train": config.retrain, "retrain": None})
    return made if passes_before_training(made) == before else config


def reshape_model(
    config: Config, model: nn.Module, inputs: Sequence[torch.Tensor]
) -> tuple[nn.Module, int]:
    """Returns the model that is to be trained, and how many passes it has been through.

    `inputs` are a few samples of every input. Raises any ChopError of these passes.
    """
    count = passes_before_training(config)
    if not count:
        return model, 0
    graph, _ = run_road(open_graph(model, inputs), config, inputs, passes=slice(count))
    return graph.model.eval(), count
