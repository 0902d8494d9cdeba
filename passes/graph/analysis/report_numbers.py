"""report_numbers: what every number format costs, and what it does to the values, node by node."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx

from chop.errors import ConfigError
from chop.formats.calibrate import sqnr_db
from chop.formats.rounding import Floats, Ints
from chop.ir.files import write_text
from chop.ir.graph import MaseGraph
from chop.ir.meta import CommonMeta, common_of
from chop.ir.tensor_type import TensorType
from chop.nn.layers import QuantizedLayer
from chop.ops.annotate import data_inputs, module_of, record, run_in_integers, site_of
from chop.ops.registry import operator
from chop.passes.batches import batches_of
from chop.passes.contract import PassArguments, analysis_pass
from chop.passes.graph.analysis.add_metadata import software_meta
from chop.passes.graph.transforms.dequantize import take_back_formats

__all__ = ["NumbersRow", "report_numbers_analysis_pass"]

_WHO = "pass 'report_numbers'"
_FLOAT_BITS = 32
_MOST_SAMPLES = 1024


@dataclass(frozen=True, slots=True)
class NumbersRow:
    """One node whose tensor has a number format.

    Attributes:
        step: the real value of one integer step; the smallest where there is one per channel.
        scales: how many scales the tensor has.
        bits: of the format, per element; width: of the integers that carry it.
        low, high: the integers that it can reach; seen_low, seen_high: those in the data.
        sqnr_db: of the integers' values against the float network, in dB; None where exact.
        elements, differing, largest_difference: integers of the fake-quantised network in float32
            against the true ones, the last in steps.
        requantiser, proof: how a cast is computed in hardware, and why that is exact.
        zeros: how many of the elements are 0.
        weight, weight_bits, weight_sqnr_db: the weights' format, bits per weight and error.
        weights, weight_zeros: how many weights there are, and how many of them are 0.
        size_bits, size_ratio: of all constants of the node, and fp32's size over it.
        bit_operations, bit_operations_ratio: multiplications times both widths, fp32's over it.
    """

    node: str
    operator: str
    format: str
    bits: float
    width: int
    step: float
    scales: int
    low: int
    high: int
    seen_low: int
    seen_high: int
    sqnr_db: float | None
    elements: int
    differing: int
    largest_difference: int
    requantiser: str
    proof: str
    weight: str
    weight_bits: float | None
    weight_sqnr_db: float | None
    zeros: int
    weights: int
    weight_zeros: int
    size_bits: int
    size_ratio: float | None
    bit_operations: int
    bit_operations_ratio: float | None


class NumbersArguments(PassArguments):
    """`data`: tensors by input name, or a loader; the example inputs where None. `file`: JSON."""

    data: Any = None
    file: Path | None = None


@analysis_pass("report_numbers", NumbersArguments, ("add_common_metadata",))
def report_numbers_analysis_pass(graph: MaseGraph, arguments: NumbersArguments) -> MaseGraph:
    """Puts a row per node in a number format, and the totals, into `info["report_numbers"]`.

    The float network is this one without its formats, with the weights that it has now. Raises
    UnsupportedOpError for a node left in floating point, ConfigError for a file that is not JSON.
    """
    if arguments.file is not None and arguments.file.suffix.lower() != ".json":
        raise ConfigError(f"{_WHO}: 'file' must end in .json, got '{arguments.file}'")
    data = graph.example_inputs if arguments.data is None else arguments.data
    batches = list(batches_of(_WHO, graph.placeholders, data, _MOST_SAMPLES))
    inputs = {n: torch.cat([b[n] for b in batches]) for n in graph.placeholders}
    float_graph = graph.copy()
    take_back_formats(float_graph)
    values = _Values(
        record(float_graph, inputs),
        record(graph, inputs),
        run_in_integers(graph, {n: x.double().numpy() for n, x in inputs.items()}),
    )
    rows = [
        _row(graph, node, values)
        for node in graph.fx_graph.nodes
        if common_of(node).carries_data and node.name in values.integers
    ]
    graph.info["report_numbers"] = {
        "samples": len(next(iter(inputs.values()))),
        "rows": [asdict(row) for row in rows],
        "totals": _totals(rows),
    }
    if arguments.file is not None:
        write_text(arguments.file, json.dumps(graph.info["report_numbers"], indent=2) + "\n")
    return graph


@dataclass(frozen=True, slots=True)
class _Values:
    """What every node computes, by name: in float, fake-quantised, and in integers."""

    floats: Mapping[str, Floats]
    fakes: Mapping[str, Floats]
    integers: Mapping[str, Ints]

    def float_of(self, node: fx.Node) -> Floats | None:
        """Returns the float network's values; a cast that it has not shows its source's."""
        while node.name not in self.floats:
            sources = data_inputs(node)
            if len(sources) != 1:
                return None
            node = sources[0]
        return self.floats[node.name]


def _row(graph: MaseGraph, node: fx.Node, values: _Values) -> NumbersRow:
    common = common_of(node)
    type, found = common.output, values.integers[node.name]
    steps = _steps(type)
    real = found * steps
    difference = np.abs(np.rint(values.fakes[node.name] / steps).astype(np.int64) - found)
    meta = software_meta(graph, node)
    size, size_float = _size(common)
    kind, proof = _requantiser(node, common)
    weight = common.parameters.get("weight")
    return NumbersRow(
        node=node.name,
        operator=common.operator,
        format=str(type.format),
        bits=type.format.bits if type.format else _FLOAT_BITS,
        width=type.fixed.width,
        step=float(steps.min()),
        scales=1 if type.scale is None else len(type.scale.factors),
        low=type.low,
        high=type.high,
        seen_low=int(found.min()),
        seen_high=int(found.max()),
        sqnr_db=_sqnr(values.float_of(node), real),
        elements=found.size,
        differing=int(np.count_nonzero(difference)),
        largest_difference=int(difference.max()),
        requantiser=kind,
        proof=proof,
        weight="" if weight is None else str(weight.format),
        weight_bits=None if weight is None else weight.format.bits,
        weight_sqnr_db=_weight_sqnr(graph, node),
        zeros=int(found.size - np.count_nonzero(found)),
        weights=0 if weight is None else weight.values.size,
        weight_zeros=0 if weight is None else int(np.count_nonzero(weight.values == 0)),
        size_bits=size,
        size_ratio=size_float / size if size else None,
        bit_operations=meta.bit_operations,
        bit_operations_ratio=_ratio(meta.macs * _FLOAT_BITS**2, meta.bit_operations),
    )


def _steps(type: TensorType) -> Floats:
    """Returns the real value of one step, shaped to broadcast against [N, *shape]."""
    scale = np.asarray(1.0) if type.scale is None else type.scale.floats()
    return np.asarray(np.ldexp(scale, -type.fixed.frac_width))


def _sqnr(reference: Floats | None, real: Floats) -> float | None:
    """Returns the ratio in dB; None where there is no error, or nothing to compare with."""
    if reference is None or reference.shape != real.shape:
        return None
    noise, signal = float(np.mean((reference - real) ** 2)), float(np.mean(reference**2))
    if noise == 0.0 or signal == 0.0:
        return None
    return 10 * math.log10(signal / noise)


def _weight_sqnr(graph: MaseGraph, node: fx.Node) -> float | None:
    module = module_of(graph, node)
    if not isinstance(module, QuantizedLayer) or "weight" not in module.formats:
        return None
    weight = module.layer.get_parameter("weight").detach().double().numpy()
    ratio = sqnr_db(weight, module.formats["weight"])
    return ratio if math.isfinite(ratio) else None


def _requantiser(node: fx.Node, common: CommonMeta) -> tuple[str, str]:
    """Returns kind and proof; the first cast of an input is the host's, and needs none."""
    if not all(t.exact for t in common.inputs):
        return "", ""
    return operator(common.operator).requantiser(site_of(node))


def _size(common: CommonMeta) -> tuple[int, int]:
    """Returns the bits of a node's constants, and what they take in fp32."""
    size = elements = 0
    for parameter in common.parameters.values():
        size += math.ceil(parameter.values.size * parameter.format.bits)
        elements += parameter.values.size
    return size, elements * _FLOAT_BITS


def _ratio(whole: int, part: int) -> float | None:
    return whole / part if part else None


def _totals(rows: list[NumbersRow]) -> dict[str, Any]:
    size = sum(row.size_bits for row in rows)
    size_float = sum(row.size_bits * row.size_ratio for row in rows if row.size_ratio)
    operations = sum(row.bit_operations for row in rows)
    in_float = sum(
        row.bit_operations * row.bit_operations_ratio for row in rows if row.bit_operations_ratio
    )
    return {
        "size_bits": size,
        "size_ratio": size_float / size if size else None,
        "bit_operations": operations,
        "bit_operations_ratio": in_float / operations if operations else None,
        "elements": sum(row.elements for row in rows),
        "differing": sum(row.differing for row in rows),
        "largest_difference": max((row.largest_difference for row in rows), default=0),
    }
