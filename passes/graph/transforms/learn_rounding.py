"""learn_rounding: every weight goes up or down as the layer's result asks, not to the nearest."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import nn

from chop.errors import VerifyError
from chop.formats.fixed import Fixed
from chop.formats.rounding import Ints, Rounding
from chop.formats.scaled import Scaled
from chop.ir.graph import MaseGraph
from chop.nn.masks import mask_of
from chop.nn.rewritten import rewrite_constant
from chop.passes.contract import PassArguments, transform_pass
from chop.passes.graph.transforms.refresh import refresh_metadata
from chop.passes.layerwise import Stop, walk_layers

__all__ = ["learn_rounding_transform_pass"]

# The stretch of the sigmoid, gamma and zeta of the paper: it reaches 0 and 1.
_LOW, _HIGH = -0.1, 1.1
Beta = Annotated[float, Field(gt=0)]


class LearnRoundingArguments(PassArguments):
    """How the roundings are learned; `calibration` is data, as for quantize.

    `warm_start` is the share of the iterations without the regulariser, `beta` what its exponent
    falls from and to, `regularization` its weight beside the layer's squared error, which counts 1
    at the nearest rounding.
    """

    calibration: Any = None
    iterations: int = Field(default=1000, ge=1)
    learning_rate: float = Field(default=0.03, gt=0)
    batch_size: int = Field(default=256, ge=1)
    warm_start: float = Field(default=0.2, ge=0, lt=1)
    beta: tuple[Beta, Beta] = (20.0, 2.0)
    regularization: float = Field(default=1.0, gt=0)
    seed: int = Field(default=0, ge=0)

    @field_validator("beta")
    @classmethod
    def _falls(cls, beta: tuple[float, float]) -> tuple[float, float]:
        if beta[0] < beta[1]:
            raise ValueError(f"must fall, got {list(beta)}")
        return beta


@dataclass(frozen=True, slots=True)
class _Row:
    """One layer: weights, those not at the normal rounding, mean squared error before and after.

    "before" is with every weight rounded as the format does.
    """

    node: str
    weights: int = 0
    moved: int = 0
    error_before: float = 0.0
    error_after: float = 0.0
    skipped: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Target:
    """The levels low..high times a step, and the error that the learned ones are to undercut."""

    step: torch.Tensor
    low: int
    high: int
    error: float


@transform_pass("learn_rounding", LearnRoundingArguments, ("add_common_metadata",))
def learn_rounding_transform_pass(graph: MaseGraph, arguments: LearnRoundingArguments) -> MaseGraph:
    """Returns a quantised graph whose weights are rounded up or down, whichever serves the layer.

    AdaRound: Nagel et al., "Up or down? Adaptive rounding for post-training quantization", ICML
    2020. Layer after layer, W~ = s clip(floor(W / s) + h(V), low, high) with the rectified sigmoid
    h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1) minimises the squared difference between the layer's
    result on the quantised network's data and the float network's, plus an annealed
    sum 1 - |2 h - 1|^beta that drives h to 0 or 1. The weights become the chosen levels, so that
    normal rounding gives them exactly; a choice with no smaller error than normal rounding on the
    calibration data is dropped.

    `info["learn_rounding"]` has a row per layer. Raises PassOrderError on a float graph.
    """
    rows: list[_Row] = []

    def visit(stop: Stop) -> None:
        rows.append(_learn(stop, arguments))

    with _one_thread():
        walk_layers(graph, arguments.calibration, ("weight",), "pass 'learn_rounding'", visit)
    graph.info["learn_rounding"] = [asdict(row) for row in rows]
    refresh_metadata(graph)
    return graph


def _learn(stop: Stop, arguments: LearnRoundingArguments) -> _Row:
    name, layer = stop.node.name, stop.layer
    if not isinstance(getattr(stop.inner, "weight", None), nn.Parameter):
        return _Row(name, skipped="the layer has no weight")
    format = layer.formats.get("weight")
    if not isinstance(format, Fixed | Scaled):
        kind = "float" if format is None else f"the format '{format.kind}'"
        return _Row(name, skipped=f"its weight is in {kind}; learned rounding needs integers")
    if stop.shared:
        return _Row(name, skipped="the layer's parameters are used at another place too")
    rounding = layer.quantizer("weight").rounding
    weight = stop.inner.get_parameter("weight").detach().double()
    step = torch.from_numpy(_steps(format, weight.dim()))
    normal = torch.tensor(format.to_integers(weight.numpy(), rounding)).double()
    before = _error(stop, normal * step)
    if before == 0.0:
        return _Row(name, weight.numel())
    up = _choose_up(stop, weight / step, _Target(step, format.low, format.high, before), arguments)
    learned = ((weight / step).floor() + up).clamp(format.low, format.high)
    kept = mask_of(stop.inner, "weight")
    if kept is not None:
        # What was pruned is zero, whatever the layer would gain by less.
        learned = learned * kept
    after = _error(stop, learned * step)
    if after >= before:
        return _Row(name, weight.numel(), 0, before, before)
    _write(stop, learned.long().numpy(), format, rounding)
    return _Row(name, weight.numel(), int((learned != normal).sum()), before, after)


def _steps(format: Fixed | Scaled, rank: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Returns the real value of a step, shaped for axis 0."""
    if isinstance(format, Fixed):
        return np.array(format.step)
    return np.array(format.scales).reshape(-1, *([1] * (rank - 1)))


def _error(stop: Stop, weight: torch.Tensor) -> float:
    """Returns the mean squared difference of the layer's result, over all calibration data."""
    result = stop.result(**{**stop.levels(), "weight": weight})
    return float((result - stop.wanted).square().mean())


def _choose_up(
    stop: Stop, weight: torch.Tensor, target: _Target, arguments: LearnRoundingArguments
) -> torch.Tensor:
    """Returns 1 where a weight goes up, 0 where it goes down; `weight` is in steps."""
    x, wanted = stop.x.float(), stop.wanted.float()
    others = {k: v.float() for k, v in stop.levels().items() if k != "weight"}
    down, step = weight.floor().float(), target.step.float()
    fraction = (weight - weight.floor()).float()
    variable = torch.logit((fraction - _LOW) / (_HIGH - _LOW)).requires_grad_()
    generator = torch.Generator().manual_seed(arguments.seed)
    optimizer = torch.optim.Adam([variable], lr=arguments.learning_rate)
    start = round(arguments.iterations * arguments.warm_start)
    first, last = arguments.beta
    for iteration in range(arguments.iterations):
        chosen = torch.randperm(len(x), generator=generator)[: arguments.batch_size]
        with torch.enable_grad():
            up = _rectified(variable)
            soft = (down + up).clamp(target.low, target.high) * step
            constants = {**others, "weight": soft}
            result = torch.func.functional_call(stop.inner, constants, (x[chosen],))
            loss = (result - wanted[chosen]).square().mean() / target.error
            if iteration >= start:
                done = (iteration - start) / (arguments.iterations - start)
                beta = last + 0.5 * (first - last) * (1 + math.cos(math.pi * done))
                undecided = 1 - (2 * up - 1).abs().pow(beta)
                loss = loss + arguments.regularization * undecided.mean()
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
    return (_rectified(variable.detach()) >= 0.5).double()


def _rectified(variable: torch.Tensor) -> torch.Tensor:
    return (variable.sigmoid() * (_HIGH - _LOW) + _LOW).clamp(0, 1)


def _write(stop: Stop, levels: Ints, format: Fixed | Scaled, rounding: Rounding) -> None:
    """Writes weights that the format's rounding takes to these levels."""
    # Rounding down has its decision at the level itself: a value in the middle is safe from floats.
    middle = 0.5 if rounding is Rounding.FLOOR else 0.0
    values = torch.tensor((levels + middle) * _steps(format, levels.ndim))
    rewrite_constant(stop.layer, "weight", values)
    written = stop.inner.get_parameter("weight").detach().double().numpy()
    if not np.array_equal(format.to_integers(written, rounding), levels):
        raise VerifyError(
            f"pass 'learn_rounding': node '{stop.node.name}': the weights chosen are not levels "
            f"of {format}, which float32 cannot tell apart; use a narrower weight"
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order on every machine, as training does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
