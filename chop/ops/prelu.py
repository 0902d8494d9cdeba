"""prelu: y = x where x >= 0, else x * weight, one weight or one per channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from chop.errors import UnsupportedOpError
from chop.formats.fixed import covering
from chop.formats.rounding import Ints
from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.meta import Cost, Folding
from chop.ir.tensor_type import TensorType, stream_permutation
from chop.ops.base import Binding, Build, Call, Case, Memory, Op, Site, elementwise_foldings
from chop.ops.channels import Axes, Resize, resized_parameters
from chop.ops.elementwise import elementwise_parameters
from chop.ops.timing import Flow, elastic

__all__ = ["Prelu"]


@dataclass(frozen=True, slots=True)
class PreluAttributes:
    """Nothing: the slopes are the parameter `weight`."""


class Prelu(Op[PreluAttributes]):
    name = "prelu"
    summary = "y = x where x >= 0, else x * weight, one weight or one per channel"
    targets = (nn.PReLU, functional.prelu, "prelu")
    module = "chop_prelu"
    cycles = "elements / lanes; latency 3"
    limits = "the slopes are constants: one, or one for each channel"
    absorbs_cast = True
    is_elementwise = True
    quantizes_input = True
    is_positively_homogeneous = True

    def read(self, call: Call) -> PreluAttributes:
        count = self.layer(call).weight.numel()
        channels = call.input_shapes[0][0] if call.input_shapes[0] else 1
        if count not in (1, channels):
            raise call.refuse(f"{count} slopes for {channels} channels", "use one for each channel")
        return PreluAttributes()

    def layer(self, call: Call) -> nn.PReLU:
        if isinstance(call.module, nn.PReLU):
            return call.module
        weight = call.argument(1, "weight")
        if not isinstance(weight, torch.Tensor):
            raise call.refuse("the slope depends on the inputs", "use a parameter")
        layer = nn.PReLU(weight.numel())
        layer.weight = nn.Parameter(weight.detach().clone().reshape(-1))
        return layer

    def resized(self, layer: nn.Module, inputs: Sequence[Axes], output: Axes) -> Resize:
        assert isinstance(layer, nn.PReLU)
        if layer.num_parameters == 1:
            return Resize({})
        sizes = {"num_parameters": len(output[0])}
        return resized_parameters(layer, {"weight": (output[0],)}, sizes)

    def infer(self, site: Site[PreluAttributes]) -> TensorType:
        (x,) = site.inputs
        low, high = self.program(site).bounds
        frac_width = x.fixed.frac_width + _shift(site)
        return TensorType.bounded(x.shape, low, high, frac_width, x.layout)

    def infer_scale(self, site: Site[PreluAttributes]) -> Scale | None:
        if site.parameters["weight"].scale is not None:
            raise UnsupportedOpError(
                f"node '{site.name}': a slope of scale {site.parameters['weight'].scale} takes "
                "negative inputs to another scale than positive ones; give it fixed point "
                '(weight_format = "integer")'
            )
        return site.inputs[0].scale

    def define(self, site: Site[PreluAttributes], inputs: Sequence[Value]) -> Value:
        (x,) = inputs
        weight = site.parameters["weight"].values
        slopes = weight.reshape(-1, *([1] * (len(x.shape) - 1))) if len(weight) > 1 else weight[0]
        extra = max(-site.parameters["weight"].fixed.frac_width, 0)
        below = x * (slopes << np.int64(extra))
        return x.where_nonnegative(x.shift_left(_shift(site)), below)

    def macs(self, attributes: PreluAttributes, output: TensorType) -> int:
        return output.elements

    def foldings(self, site: Site[PreluAttributes]) -> tuple[Folding, ...]:
        return tuple(
            replace(f, multipliers=f.out_lanes) for f in elementwise_foldings(site.exact.elements)
        )

    def memories(self, site: Site[PreluAttributes], build: Build) -> tuple[Memory, ...]:
        words = _words(site, build.folding.out_lanes)
        return (Memory(build.rom.file(f"{site.name}_weight"), words, _width(words)),)

    def bind(self, site: Site[PreluAttributes], build: Build) -> Binding:
        (memory,) = self.memories(site, build)
        return Binding(
            self.module,
            {
                **elementwise_parameters(site, build),
                "Channels": memory.words.size,
                "WeightWidth": memory.width,
                "SlopeShift": _shift(site),
                "WeightFile": f'"{memory.file}"',
                "RomStyle": f'"{"logic" if build.rom.style == "auto" else build.rom.style}"',
            },
        )

    def flow(
        self, site: Site[PreluAttributes], build: Build, valid: Sequence[Ints], samples: int
    ) -> Flow:
        # Three register stages: x and its slope, the product, the rounded result.
        return elastic(valid[0], 3)

    def cost(self, site: Site[PreluAttributes], build: Build) -> Cost:
        (memory,) = self.memories(site, build)
        lanes, beats = memory.words.shape[1], len(memory.words)
        x, exact, out = (t.fixed.width for t in (site.inputs[0], site.exact, site.output))
        rom = lanes * memory.width * -(-beats // 64) if beats > 1 else 0
        ffs = x + memory.width * (beats > 1) + exact + out
        return Cost(rom + lanes * (exact + out), lanes * ffs + 3, dsps=lanes)

    def cases(self) -> tuple[Case, ...]:
        return (
            Case("module", nn.PReLU(), ((6,),)),
            Case("channels", _slopes(nn.PReLU(6)), ((6,),)),
            Case("images", _slopes(nn.PReLU(3)), ((3, 2, 2),)),
            Case("function", _Function(), ((4,),)),
        )


class _Function(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([-0.75]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.prelu(x, self.slope)


def _slopes(layer: nn.PReLU) -> nn.PReLU:
    nn.init.uniform_(layer.weight, -1.0, 2.0)
    return layer


def _shift(site: Site[PreluAttributes]) -> int:
    """How far a positive input is moved to the fraction of the products."""
    return max(site.parameters["weight"].fixed.frac_width, 0)


def _words(site: Site[PreluAttributes], lanes: int) -> Ints:
    """Returns the slopes [beats, lanes] over their shortest period."""
    x, weight = site.inputs[0], site.parameters["weight"]
    extra = max(-weight.fixed.frac_width, 0)
    slopes = (weight.values << np.int64(extra)).reshape(-1, *([1] * (len(x.shape) - 1)))
    flat = np.broadcast_to(slopes, x.shape).reshape(-1)
    words = flat[stream_permutation(x.elements, x.layout)].reshape(-1, lanes)
    period = next(
        p
        for p in range(1, len(words) + 1)
        if len(words) % p == 0 and (words.reshape(-1, p, lanes) == words[:p]).all()
    )
    return words[:period]


def _width(values: Ints) -> int:
    return max(covering(min(int(values.min()), -1), int(values.max()), 0).width, 2)
