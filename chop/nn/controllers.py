"""What changes weights while they train: pruning by a schedule, surgery, and shared values.

A training calls a controller around every step. All that one remembers is in buffers of the modules
that it works on, so that a training resumed from a checkpoint goes on as if never interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import nn

from chop.nn.masks import hold_zeros, mask_of, set_mask
from chop.nn.pruning import SCHEDULES, Criterion, choose_masks
from chop.nn.quantizer import Moment

__all__ = ["Controller", "GradualPruning", "PrunedGroup", "Rounds", "Sharing", "Surgery"]

_DENSE = "weight_dense"


class Controller(Protocol):
    """Is called around every training step, without gradients."""

    def before_step(self, moment: Moment) -> None:
        """Called before the forward pass."""

    def before_update(self) -> None:
        """Called when all gradients are there, before the optimiser uses them."""

    def after_step(self) -> None:
        """Called after the optimiser's step."""

    def finish(self) -> None:
        """Called once when the last weights are in place; leaves only masks behind."""


@dataclass(frozen=True, slots=True, eq=False)
class PrunedGroup:
    """Layers, by name, whose weights are chosen by one criterion."""

    criterion: Criterion
    layers: Mapping[str, nn.Module]

    def weights(self) -> dict[str, torch.Tensor]:
        """Returns the layers' weights, which must be parameters named so."""
        return {name: layer.get_parameter("weight") for name, layer in self.layers.items()}

    def prune(self, share: float = 1.0, seed: int = 0) -> None:
        """Masks the layers' weights, to this share of the sparsity that the criterion asks for."""
        self.mask(choose_masks(self.weights(), self.at(share), seed))

    def at(self, share: float) -> Criterion:
        """Returns the criterion of a share of the way: of its sparsity or threshold."""
        whole = self.criterion
        return replace(
            whole,
            sparsity=None if whole.sparsity is None else whole.sparsity * share,
            threshold=None if whole.threshold is None else whole.threshold * share,
        )

    def mask(self, masks: Mapping[str, torch.Tensor]) -> None:
        """Gives the layers these masks."""
        for name, layer in self.layers.items():
            set_mask(layer, "weight", masks[name])


@dataclass(frozen=True, slots=True)
class Rounds:
    """When masks change: `count` times, evenly from `begin` to `end`, shares of the training.

    `schedule` says how much of the sparsity there is after a share of the rounds.
    """

    count: int = 1
    begin: float = 0.0
    end: float = 0.0
    schedule: str = "cubic"

    def share(self, moment: Moment) -> float | None:
        """Returns the share of the sparsity from this step on; None where nothing changes."""
        last = max(moment.steps - 1, 0)
        found = None
        for number in range(1, self.count + 1):
            done = (number - 1) / (self.count - 1) if self.count > 1 else 0.0
            if round(last * (self.begin + (self.end - self.begin) * done)) == moment.step:
                found = SCHEDULES[self.schedule](number / self.count)
        return found


class GradualPruning:
    """Removes more and more weights; what is removed stays removed."""

    def __init__(self, groups: Sequence[PrunedGroup], rounds: Rounds) -> None:
        self._groups = groups
        self._rounds = rounds
        for group in groups:
            for layer in group.layers.values():
                _start_mask(layer)

    def before_step(self, moment: Moment) -> None:
        share = self._rounds.share(moment)
        if share is not None:
            for group in self._groups:
                group.prune(share, moment.seed)

    def before_update(self) -> None:
        pass

    def after_step(self) -> None:
        for group in self._groups:
            for layer in group.layers.values():
                hold_zeros(layer)

    def finish(self) -> None:
        self.after_step()


class Surgery:
    """Dynamic network surgery: what was removed comes back when it has grown again.

    A weight goes when its magnitude is below a and returns when it is above b = (1 + margin) a; in
    between it stays as it is. Removed weights are zero in the forward pass, and the optimiser
    changes them all the same: by the gradient there. a is the magnitude below which the sparsity's
    share lies at the round, or the threshold. Guo, Yao, Chen, "Dynamic network surgery for
    efficient DNNs", NeurIPS 2016.
    """

    def __init__(self, groups: Sequence[PrunedGroup], rounds: Rounds, margin: float) -> None:
        self._groups = groups
        self._rounds = rounds
        self._margin = margin
        self._layers = [layer for group in groups for layer in group.layers.values()]
        for layer in self._layers:
            _start_mask(layer)
            layer.register_buffer(_DENSE, layer.get_parameter("weight").detach().clone())

    def before_step(self, moment: Moment) -> None:
        share = self._rounds.share(moment)
        if share is not None:
            for group in self._groups:
                self._change(group, group.at(share))

    def _change(self, group: PrunedGroup, criterion: Criterion) -> None:
        dense = {name: layer.get_buffer(_DENSE) for name, layer in group.layers.items()}
        for name, below in self._limits(dense, criterion).items():
            layer = group.layers[name]
            size, kept = dense[name].abs(), mask_of(layer, "weight")
            assert kept is not None, "made at the start"
            kept = (kept & (size >= below)) | (size > below * (1 + self._margin))
            layer.get_parameter("weight").copy_(dense[name])
            set_mask(layer, "weight", kept)

    def _limits(self, dense: Mapping[str, torch.Tensor], criterion: Criterion) -> dict[str, float]:
        if criterion.threshold is not None:
            return dict.fromkeys(dense, criterion.threshold)
        assert criterion.sparsity is not None, "checked by whoever read the configuration"
        if not criterion.is_global:
            return {name: _quantile([w], criterion.sparsity) for name, w in dense.items()}
        return dict.fromkeys(dense, _quantile(list(dense.values()), criterion.sparsity))

    def before_update(self) -> None:
        for layer in self._layers:
            layer.get_parameter("weight").copy_(layer.get_buffer(_DENSE))

    def after_step(self) -> None:
        for layer in self._layers:
            layer.get_buffer(_DENSE).copy_(layer.get_parameter("weight"))
            hold_zeros(layer)

    def finish(self) -> None:
        for layer in self._layers:
            layer._buffers.pop(_DENSE, None)
            hold_zeros(layer)


@dataclass(frozen=True, slots=True, eq=False)
class _Shared:
    """A weight whose element i has the value number `index[i]`; number 0 is zero.

    `first` has for every number the place of its first element; one behind the end for none.
    """

    weight: nn.Parameter
    index: torch.Tensor
    first: torch.Tensor

    @staticmethod
    def of(weight: nn.Parameter) -> _Shared:
        flat = weight.detach().reshape(-1)
        values, number = torch.unique(flat, return_inverse=True)
        index = torch.where(flat == 0, 0, number + 1)
        places = torch.full((len(values) + 1,), len(flat))
        places.scatter_reduce_(0, index, torch.arange(len(flat)), "amin")
        return _Shared(weight, index, places)

    def sum_gradients(self) -> None:
        grad = self.weight.grad
        if grad is not None:
            sums = torch.zeros(len(self.first), dtype=grad.dtype)
            sums.index_add_(0, self.index, grad.reshape(-1))
            sums[0] = 0.0
            grad.copy_(sums[self.index].view_as(grad))

    def level(self) -> None:
        """Gives all members of a value the same bits: vector units may round them differently."""
        flat = self.weight.data.reshape(-1)
        values = torch.cat((flat, flat.new_zeros(1)))[self.first]
        values[0] = 0.0
        self.weight.data.copy_(values[self.index].view_as(self.weight))


class Sharing:
    """Trains the values that weights share: each by the sum of the gradients of its members.

    Han, Mao, Dally, "Deep compression", ICLR 2016, section 3.3. Weights that are equal when this is
    made stay equal, zeros stay zeros.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._shared = [_Shared.of(layer.get_parameter("weight")) for layer in layers]

    def before_step(self, moment: Moment) -> None:
        pass

    def before_update(self) -> None:
        for shared in self._shared:
            shared.sum_gradients()

    def after_step(self) -> None:
        for shared in self._shared:
            shared.level()

    def finish(self) -> None:
        self.after_step()


def _start_mask(layer: nn.Module) -> None:
    """Gives a layer a mask that keeps all: where a checkpoint finds its place."""
    if mask_of(layer, "weight") is None:
        set_mask(layer, "weight", torch.ones_like(layer.get_parameter("weight"), dtype=torch.bool))


def _quantile(weights: Sequence[torch.Tensor], share: float) -> float:
    """Returns a magnitude that round(share * n) of n magnitudes are below, if none are equal."""
    sizes = torch.cat([w.abs().reshape(-1) for w in weights]).sort().values
    count = round(share * len(sizes))
    return float(sizes[count]) if count < len(sizes) else float("inf")
