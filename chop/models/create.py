"""A model from its [model] table: a registered name, a function in a file, or a saved graph."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from chop.config.schema import ModelConfig
from chop.errors import ConfigError, did_you_mean
from chop.models.registry import MODELS

__all__ = ["create_model"]


def create_model(config: ModelConfig, seed: int) -> nn.Module:
    """Returns the model that the table describes, its initial weights drawn from `seed`.

    torch's global generator is left as it was. Raises ConfigError for an unknown name, a missing
    file or function, arguments that do not fit, or a function that returns something else.
    """
    if config.graph is not None:
        return _saved_graph(config.graph, config.arguments)
    if config.path is not None:
        who = f"model '{config.path}'"
        function = _function_in_file(config.path)
    else:
        name = str(config.name)
        who = f"model '{name}'"
        function = _registered(name)
    _check_arguments(who, function, config.arguments)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = function(**config.arguments)
    if not isinstance(model, nn.Module):
        raise ConfigError(f"{who}: must return a torch.nn.Module, got {type(model).__name__}")
    return model


def _registered(name: str) -> Callable[..., object]:
    if name not in MODELS:
        near = did_you_mean(name, MODELS)
        raise ConfigError(f"unknown model '{name}'{near}; or name path/to/file.py:function")
    module, attribute = MODELS[name].split(":")
    function: Callable[..., object] = getattr(importlib.import_module(module), attribute)
    return function


def _function_in_file(source: str) -> Callable[..., object]:
    file, _, name = source.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise ConfigError(f"model '{source}': no file '{file}'; write path/to/file.py:function")
    # One module per path, registered so that the classes in it can be found again by torch.
    module_name = f"chop_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"model '{source}': '{file}' must be a Python file, ending in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        known = [
            key
            for key, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module_name
        ]
        raise ConfigError(f"model '{source}': no function '{name}'{did_you_mean(name, known)}")
    found: Callable[..., object] = function
    return found


def _check_arguments(
    who: str, function: Callable[..., object], arguments: Mapping[str, object]
) -> None:
    parameters = inspect.signature(function).parameters
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        for key in arguments:
            if key not in parameters:
                near = did_you_mean(key, parameters)
                raise ConfigError(f"{who}: unknown argument '{key}'{near}")
    for key, parameter in parameters.items():
        required = parameter.default is inspect.Parameter.empty and parameter.kind not in (
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        )
        if required and key not in arguments:
            raise ConfigError(f"{who}: argument '{key}' is missing; add model.arguments.{key}")


def _saved_graph(path: str, arguments: Mapping[str, object]) -> nn.Module:
    from chop.ir.serialize import load_graph

    if arguments:
        raise ConfigError(f"graph '{path}': a saved graph takes no arguments; remove them")
    if not Path(path).is_file():
        raise ConfigError(
            f"graph '{path}': no such file; save_graph of chop.ir.serialize makes one"
        )
    return load_graph(Path(path)).model
