"""profile_statistics: ranges, moments and quantiles of weights and activations over data."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import fx

from chop.errors import ConfigError, DataError
from chop.formats.rounding import Floats
from chop.ir.graph import MaseGraph
from chop.ir.meta import TensorStatistics, common_of, software_of, update
from chop.nn.fake_quantize import fake_quantize
from chop.nn.layers import QuantizedLayer
from chop.ops.annotate import Annotator, module_of, record
from chop.ops.registry import operator
from chop.passes.batches import batches_of
from chop.passes.contract import PassArguments, analysis_pass

__all__ = ["Accumulator", "profile_statistics_analysis_pass"]

_WHO = "pass 'profile_statistics'"
# Values of one tensor kept for its quantiles: a quantile q is then off by about
# sqrt(q (1 - q) / 16384) in rank, at most 0.4 %.
_SAMPLE = 16384
_QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)

Hashes = npt.NDArray[np.uint64]


class ProfileArguments(PassArguments):
    """`data`: tensors by input name, or a loader; the example inputs where it is not given.

    `samples` bounds how many samples are looked at. `quantiles` are probabilities in 0..1.
    """

    data: Any = None
    samples: int | None = Field(default=None, ge=1)
    quantiles: tuple[float, ...] = _QUANTILES


@analysis_pass("profile_statistics", ProfileArguments, ("add_software_metadata",))
def profile_statistics_analysis_pass(graph: MaseGraph, arguments: ProfileArguments) -> MaseGraph:
    """Stores statistics of every node's "output", "weight" and "bias" in its software metadata.

    Count, minimum, maximum, mean and standard deviation (of the population) are of all values;
    the quantiles are of a sample of at most 16,384 values per tensor, exact below that. The sample
    depends on the values' positions in the data alone: neither on chance nor on the batch size.
    Constants are those that the operator computes with: rounded where the layer is quantised.
    `info["profile_statistics"]` has the same as plain data.

    Raises DataError for a value that is not finite, ConfigError or ShapeError for data that do not
    fit the inputs.
    """
    for probability in arguments.quantiles:
        if not 0 <= probability <= 1:
            raise ConfigError(f"{_WHO}: quantiles must lie in 0..1, got {probability}")
    quantiles = tuple(sorted(set(arguments.quantiles)))
    nodes = [node for node in graph.fx_graph.nodes if common_of(node).carries_data]
    outputs = {node.name: Accumulator() for node in nodes}
    data = graph.example_inputs if arguments.data is None else arguments.data
    samples = 0
    for batch in batches_of(_WHO, graph.placeholders, data, arguments.samples):
        values = record(graph, batch)
        for name, seen in outputs.items():
            _add(seen, values[name], name, "output")
        samples += len(next(iter(batch.values())))
    found: dict[str, dict[str, TensorStatistics]] = {}
    annotator = Annotator(graph, graph.example_inputs)
    for node in nodes:
        tensors = {"output": outputs[node.name], **_constants(graph, annotator, node)}
        found[node.name] = {k: v.statistics(quantiles) for k, v in tensors.items()}
        update(node, software=replace(software_of(node), statistics=found[node.name]))
    graph.info["profile_statistics"] = {
        "samples": samples,
        "nodes": {
            node: {tensor: asdict(seen) for tensor, seen in tensors.items()}
            for node, tensors in found.items()
        },
    }
    return graph


def _constants(graph: MaseGraph, annotator: Annotator, node: fx.Node) -> dict[str, Accumulator]:
    common = common_of(node)
    if common.operator == "input":
        return {}
    layer = operator(common.operator).layer(annotator.call(node))
    module = module_of(graph, node)
    found = {}
    for name in ("weight", "bias"):
        values = getattr(layer, name, None)
        if not isinstance(values, torch.Tensor):
            continue
        values = values.detach()
        if isinstance(module, QuantizedLayer) and name in module.formats:
            values = fake_quantize(values, module.formats[name], module.rounding)
        found[name] = Accumulator()
        _add(found[name], values.double().numpy(), node.name, name)
    return found


def _add(seen: Accumulator, values: Floats, node: str, tensor: str) -> None:
    if not np.isfinite(values).all():
        raise DataError(
            f"{_WHO}: node '{node}': the {tensor} has values that are not finite; "
            "mend the model or the data"
        )
    seen.add(values)


@dataclass(slots=True)
class Accumulator:
    """Statistics of a tensor that arrives in pieces.

    Moments are merged piece by piece (Chan, Golub, LeVeque 1979), which keeps the precision that a
    sum of squares loses. For the quantiles it keeps the values whose positions have the smallest
    hashes: a uniform sample that no period in the data can align with.
    """

    count: int = 0
    minimum: float = math.inf
    maximum: float = -math.inf
    mean: float = 0.0
    # Sum of squared distances from the mean.
    spread: float = 0.0
    _values: Floats = field(default_factory=lambda: np.empty(0))
    _hashes: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))

    def add(self, piece: Floats) -> None:
        """Takes the next values, all finite."""
        values = np.asarray(piece, np.float64).reshape(-1)
        if values.size == 0:
            return
        self._sample(values)
        mean = float(values.mean())
        spread = float(np.square(values - mean).sum())
        total = self.count + values.size
        step = mean - self.mean
        self.spread += spread + step * step * self.count * values.size / total
        self.mean += step * values.size / total
        self.minimum = min(self.minimum, float(values.min()))
        self.maximum = max(self.maximum, float(values.max()))
        self.count = total

    def statistics(self, quantiles: tuple[float, ...]) -> TensorStatistics:
        """Returns the statistics of everything taken so far, at least one value."""
        points = np.quantile(self._values, quantiles).tolist()
        # The mean of equal values may be off by a rounding error.
        mean = min(max(self.mean, self.minimum), self.maximum)
        return TensorStatistics(
            self.count,
            self.minimum,
            self.maximum,
            mean,
            math.sqrt(self.spread / self.count),
            tuple(zip(quantiles, points, strict=True)),
        )

    def _sample(self, values: Floats) -> None:
        positions = np.arange(self.count, self.count + values.size, dtype=np.uint64)
        hashes = _hash(positions)
        if self._hashes.size == _SAMPLE:
            low = hashes < self._hashes.max()
            values, hashes = values[low], hashes[low]
        self._values = np.concatenate([self._values, values])
        self._hashes = np.concatenate([self._hashes, hashes])
        if self._hashes.size > _SAMPLE:
            kept = np.argpartition(self._hashes, _SAMPLE)[:_SAMPLE]
            self._values, self._hashes = self._values[kept], self._hashes[kept]


def _hash(positions: Hashes) -> Hashes:
    """Returns 64 well-mixed bits per position, one to one (splitmix64; Steele et al. 2014)."""
    x = positions + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
