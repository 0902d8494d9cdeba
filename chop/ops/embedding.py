"""embedding: the rows of a table at the indices that the input holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from chop.errors import UnsupportedOpError
from chop.formats.fixed import Fixed, covering
from chop.formats.rounding import Ints
from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.meta import Cost, Folding
from chop.ir.tensor_type import TensorType
from chop.nn.layers import Rows
from chop.ops.base import Binding, Build, Call, Case, Memory, Op, Site
from chop.ops.channels import Axes, Resize, Ties, resized_parameters
from chop.ops.timing import Flow, occupancy, serial

__all__ = ["Embedding"]

_BRAM_BITS = 1 << 14


@dataclass(frozen=True, slots=True)
class EmbeddingAttributes:
    """The rows of the table, and the elements of each."""

    rows: int
    features: int


class Embedding(Op[EmbeddingAttributes]):
    name = "embedding"
    summary = "the rows of a table at the indices that the input holds"
    targets = (nn.Embedding, functional.embedding)
    module = "chop_embedding"
    cycles = "indices * features / lanes; latency 3"
    limits = (
        "indices are whole numbers of a port or an argmax; a table quantised per tensor; no "
        "max_norm"
    )

    def read(self, call: Call) -> EmbeddingAttributes:
        limited = getattr(call.module, "max_norm", None) or call.argument(3, "max_norm")
        if limited is not None and not isinstance(call.module, Rows):
            raise call.refuse("max_norm changes the table", "normalise the table once")
        rows, features = self.layer(call).weight.shape
        return EmbeddingAttributes(rows, features)

    def layer(self, call: Call) -> Rows:
        if isinstance(call.module, Rows):
            return call.module
        weight = call.argument(1, "weight") if call.module is None else call.module.weight
        if not isinstance(weight, torch.Tensor):
            raise call.refuse("the table depends on the inputs", "use a parameter")
        return Rows(weight)

    def input_format(self, call: Call) -> Fixed:
        return covering(0, self.read(call).rows - 1, 0)

    def tie_channels(
        self,
        attributes: EmbeddingAttributes,
        inputs: Sequence[Axes],
        shape: tuple[int, ...],
        ties: Ties,
    ) -> Axes:
        for labels in inputs[0]:
            ties.fix(labels, "looks its values up in a table")
        return (*inputs[0], ties.fresh(attributes.features))

    def resized(self, layer: nn.Module, inputs: Sequence[Axes], output: Axes) -> Resize:
        sizes = {"embedding_dim": len(output[-1])} if isinstance(layer, nn.Embedding) else {}
        return resized_parameters(layer, {"weight": (None, output[-1])}, sizes)

    def infer(self, site: Site[EmbeddingAttributes]) -> TensorType:
        (x,) = site.inputs
        if x.low < 0 or x.fixed.frac_width != 0 or x.scale is not None or x.layout is not None:
            raise UnsupportedOpError(
                f"node '{site.name}': reads indices, got {x.format} in [{x.low}, {x.high}]; give "
                "it an input of whole numbers, or an argmax"
            )
        low, high = self.program(site).bounds
        weight = site.parameters["weight"]
        shape = (*x.shape, site.attributes.features)
        return TensorType.bounded(shape, low, high, weight.fixed.frac_width)

    def infer_scale(self, site: Site[EmbeddingAttributes]) -> Scale | None:
        scale = site.parameters["weight"].scale
        if scale is not None and scale.per_channel:
            raise UnsupportedOpError(
                f"node '{site.name}': every row of the table has a scale of its own; quantise the "
                "table per tensor"
            )
        return scale

    def define(self, site: Site[EmbeddingAttributes], inputs: Sequence[Value]) -> Value:
        (x,), features = inputs, site.attributes.features
        table = _table(site)
        # The place of every element in the table, row by row.
        column = x.minimum(site.attributes.rows - 1).reshape((*x.shape, 1))
        places = column.take(len(x.shape), (0,) * features) * features
        places = places + np.arange(features, dtype=np.int64)
        return places.lookup(table.reshape(-1), 0)

    def foldings(self, site: Site[EmbeddingAttributes]) -> tuple[Folding, ...]:
        elements, features = site.inputs[0].elements, site.attributes.features
        return tuple(
            Folding(1, lanes, elements * features // lanes, 0)
            for lanes in range(1, features + 1)
            if features % lanes == 0
        )

    def memories(self, site: Site[EmbeddingAttributes], build: Build) -> tuple[Memory, ...]:
        words = _table(site).reshape(-1, build.folding.out_lanes)
        file = build.rom.file(f"{site.name}_table")
        return (Memory(file, words, site.output.fixed.width),)

    def bind(self, site: Site[EmbeddingAttributes], build: Build) -> Binding:
        (memory,) = self.memories(site, build)
        beats = site.attributes.features // build.folding.out_lanes
        return Binding(
            self.module,
            {
                "IndexWidth": site.inputs[0].fixed.width,
                "Rows": len(memory.words) // beats,
                "Beats": beats,
                "OutLanes": build.folding.out_lanes,
                "OutWidth": memory.width,
                "InDepth": build.in_depth,
                "TableFile": f'"{memory.file}"',
                "RomStyle": f'"{build.rom.style}"',
            },
        )

    def flow(
        self, site: Site[EmbeddingAttributes], build: Build, valid: Sequence[Ints], samples: int
    ) -> Flow:
        beats = site.attributes.features // build.folding.out_lanes
        # An index can be used from the cycle after it is taken; two registers follow.
        first = serial(valid[0] + 1, beats)
        steps = (first[:, None] + np.arange(beats, dtype=np.int64)).reshape(-1)
        depth = occupancy(valid[0], first + beats - 1)
        return Flow((valid[0],), steps + 2, max(depth, 1), max(depth, 1))

    def cost(self, site: Site[EmbeddingAttributes], build: Build) -> Cost:
        (memory,) = self.memories(site, build)
        bits = memory.words.size * memory.width
        index = site.inputs[0].fixed.width
        if build.rom.style in ("logic", "distributed") or bits < _BRAM_BITS // 8:
            word = memory.width * build.folding.out_lanes
            return Cost(bits // 16 + 2 * index, word + 2 * index)
        return Cost(2 * index, 2 * index, brams=-(-bits // _BRAM_BITS))

    def cases(self) -> tuple[Case, ...]:
        return (
            Case("class", _Named(), ((4,),)),
            Case("pixels", _Coloured(), ((3, 2, 2),)),
        )


class _Named(nn.Module):
    """The index is the largest input's."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        row: torch.Tensor = self.table(x.argmax(dim=1))
        return row.relu()


class _Coloured(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(3, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.embedding(torch.argmax(x, 1), self.table)


def _table(site: Site[EmbeddingAttributes]) -> Ints:
    """Returns the rows [indices, features] of every index that can occur."""
    values = site.parameters["weight"].values
    reached = np.minimum(np.arange(site.inputs[0].high + 1), site.attributes.rows - 1)
    rows: Ints = values[reached]
    return rows
