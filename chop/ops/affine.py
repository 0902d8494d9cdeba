"""The operators y = +-x * weight + bias with constants: one class, of which each is an instance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import fx, nn

from chop.errors import UnsupportedOpError
from chop.formats.fixed import covering
from chop.formats.rounding import Ints, shift_left
from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.meta import Cost, Folding
from chop.ir.tensor_type import TensorType, aligned_frac_width, stream_permutation
from chop.nn.layers import ChannelAffine
from chop.ops.base import Binding, Build, Call, Case, Memory, Op, Site, elementwise_foldings
from chop.ops.channels import Axes, Resize, along, resized_parameters
from chop.ops.elementwise import elementwise_parameters, flag
from chop.ops.timing import Flow, elastic

__all__ = ["AffineAttributes", "AffineOp", "constant_operand"]


@dataclass(frozen=True, slots=True)
class AffineAttributes:
    """Which of the constants there are, and the sign of x."""

    has_weight: bool
    has_bias: bool
    negate: bool


def constant_operand(call: Call) -> tuple[torch.Tensor, bool]:
    """Returns the constant of a two-operand call and whether it is the first operand.

    Raises UnsupportedOpError for a constant that varies over the batch, or a scale factor alpha.
    """
    if call.argument(2, "alpha", 1) != 1:
        raise call.refuse("alpha other than 1", "multiply the operand by it first")
    first, second = call.argument(0, "input"), call.argument(1, "other")
    leading = not isinstance(first, fx.Node)
    value = torch.as_tensor(first if leading else second).detach().to(torch.get_default_dtype())
    rank = len(call.output_shape) + 1
    if value.dim() >= rank and value.shape[-rank] != 1:
        raise call.refuse(
            f"the constant of shape {tuple(value.shape)} varies over the batch",
            "use a constant without a batch dimension",
        )
    if call.input_shapes[0] != call.output_shape:
        raise call.refuse(
            f"the constant of shape {tuple(value.shape)} broadcasts the tensor",
            "expand the tensor first",
        )
    return value, leading


class AffineOp(Op[AffineAttributes]):
    """An operator that is y = +-x * weight + bias; `to_layer` gives the constants of a call."""

    module = "chop_channel_affine"
    cycles = "elements / lanes; latency 3"
    limits = (
        "one scale for the whole tensor; the constant must not broadcast the tensor, nor vary "
        "over the batch"
    )
    quantizes_input = True
    is_elementwise = True

    def __init__(
        self,
        name: str,
        summary: str,
        targets: tuple[object, ...],
        to_layer: Callable[[Call], ChannelAffine],
        cases: tuple[tuple[str, type[nn.Module], tuple[int, ...]], ...],
        resize: Callable[[nn.Module, Axes], Resize] | None = None,
    ) -> None:
        self.name = name
        self.summary = summary
        self.targets = targets
        self._to_layer = to_layer
        self._cases = cases
        self._resize = resize

    def read(self, call: Call) -> AffineAttributes:
        layer = self.layer(call)
        return AffineAttributes(layer.weight is not None, layer.bias is not None, layer.negate)

    def layer(self, call: Call) -> ChannelAffine:
        if isinstance(call.module, ChannelAffine):
            return call.module
        return self._to_layer(call)

    def resized(self, layer: nn.Module, inputs: Sequence[Axes], output: Axes) -> Resize:
        if self._resize is not None and not isinstance(layer, ChannelAffine):
            return self._resize(layer, output)
        constants = {name: along(value.shape, output) for name, value in layer.named_parameters()}
        return resized_parameters(layer, constants, {})

    def infer(self, site: Site[AffineAttributes]) -> TensorType:
        x = site.inputs[0]
        weight, bias, frac_width = _constants(site)
        # Python's integers: a width that does not fit must be seen, not wrapped.
        w, b = weight.astype(object), bias.astype(object)
        ends = np.stack([w * x.low + b, w * x.high + b])
        low, high = int(ends.min()), int(ends.max())
        return TensorType.bounded(x.shape, low, high, frac_width, x.layout)

    def infer_scale(self, site: Site[AffineAttributes]) -> Scale | None:
        x, weight = site.inputs[0].scale, site.parameters.get("weight")
        scale = weight.scale if weight else None
        for found in (x, scale):
            if found is not None and found.per_channel:
                raise UnsupportedOpError(
                    f"node '{site.name}': operator '{self.name}' takes one scale for all channels; "
                    "cast its input to one scale, and quantise its weight per tensor"
                )
        return _product_scale(site)

    def define(self, site: Site[AffineAttributes], inputs: Sequence[Value]) -> Value:
        weight, bias, _ = _constants(site)
        shape = site.inputs[0].shape
        return inputs[0] * weight.reshape(shape) + bias.reshape(shape)

    def macs(self, attributes: AffineAttributes, output: TensorType) -> int:
        return output.elements if attributes.has_weight else 0

    def foldings(self, site: Site[AffineAttributes]) -> tuple[Folding, ...]:
        per_lane = int(site.attributes.has_weight)
        return tuple(
            replace(f, multipliers=per_lane * f.out_lanes)
            for f in elementwise_foldings(site.exact.elements)
        )

    def memories(self, site: Site[AffineAttributes], build: Build) -> tuple[Memory, ...]:
        weight, bias = _words(site, build)
        file = build.rom.file
        found = []
        if _multiplies(site):
            found.append(Memory(file(f"{site.name}_weight"), weight, _width(weight)))
        if site.attributes.has_bias:
            found.append(Memory(file(f"{site.name}_bias"), bias, _width(bias)))
        return tuple(found)

    def bind(self, site: Site[AffineAttributes], build: Build) -> Binding:
        weight, bias = _words(site, build)
        files = {
            f"{kind}File": f'"{build.rom.file(f"{site.name}_{kind.lower()}")}"'
            for kind, there in (("Weight", _multiplies(site)), ("Bias", site.attributes.has_bias))
            if there
        }
        return Binding(
            self.module,
            {
                **elementwise_parameters(site, build),
                "Channels": len(weight) * build.folding.out_lanes,
                "WeightWidth": _width(weight) if _multiplies(site) else 2,
                "BiasWidth": _width(bias) if site.attributes.has_bias else 2,
                "ProductShift": site.exact.fixed.frac_width - _product_frac_width(site),
                "HasWeight": flag(_multiplies(site)),
                "HasBias": flag(site.attributes.has_bias),
                "RomStyle": f'"{"logic" if build.rom.style == "auto" else build.rom.style}"',
                **files,
            },
        )

    def flow(
        self, site: Site[AffineAttributes], build: Build, valid: Sequence[Ints], samples: int
    ) -> Flow:
        # Three register stages: x and its constants, the product, the rounded sum.
        return elastic(valid[0], 3)

    def cost(self, site: Site[AffineAttributes], build: Build) -> Cost:
        weight, bias = _words(site, build)
        lanes = build.folding.out_lanes
        x, exact, out = (t.fixed.width for t in (site.inputs[0], site.exact, site.output))
        w_width = _width(weight) if _multiplies(site) else 0
        b_width = _width(bias) if site.attributes.has_bias else 0
        rom = lanes * (w_width + b_width) * -(-len(weight) // 64) if len(weight) > 1 else 0
        return Cost(
            luts=rom + lanes * (exact + out + 2 * exact),
            ffs=lanes * (x + w_width + 2 * b_width + exact + out) + 3,
            dsps=lanes if site.attributes.has_weight else 0,
        )

    def cases(self) -> tuple[Case, ...]:
        return tuple(Case(label, model(), (shape,)) for label, model, shape in self._cases)


def _multiplies(site: Site[AffineAttributes]) -> bool:
    return site.attributes.has_weight or site.attributes.negate


def _product_scale(site: Site[AffineAttributes]) -> Scale | None:
    x, weight = site.inputs[0].scale, site.parameters.get("weight")
    scale = weight.scale if weight else None
    return scale if x is None else x.times(scale)


def _product_frac_width(site: Site[AffineAttributes]) -> int:
    weight = site.parameters.get("weight")
    return site.inputs[0].fixed.frac_width + (weight.fixed.frac_width if weight else 0)


def _constants(site: Site[AffineAttributes]) -> tuple[Ints, Ints, int]:
    """Returns weight (products aligned) and bias per element [elements], and their fraction."""
    x = site.inputs[0]
    weight, bias = site.parameters.get("weight"), site.parameters.get("bias")
    product = _product_frac_width(site)
    bias_frac = product
    if bias:
        bias_frac = aligned_frac_width(bias, _product_scale(site), site.name)
    frac_width = max(product, bias_frac)
    sign = -1 if site.attributes.negate else 1
    w = np.int64(sign) * (weight.values if weight else np.ones(1, np.int64))
    b = shift_left(bias.values, frac_width - bias_frac) if bias else np.zeros(1, int)
    return (
        _per_element(shift_left(w, frac_width - product), x.shape),
        _per_element(np.asarray(b, np.int64), x.shape),
        frac_width,
    )


def _per_element(values: Ints, shape: tuple[int, ...]) -> Ints:
    squeezed = values.reshape(values.shape[-len(shape) :]) if values.ndim > len(shape) else values
    return np.ascontiguousarray(np.broadcast_to(squeezed, shape)).reshape(-1)


def _words(site: Site[AffineAttributes], build: Build) -> tuple[Ints, Ints]:
    """Returns [beats, lanes] of weights and biases over the shortest common period."""
    weight, bias, frac_width = _constants(site)
    weight = weight >> np.int64(frac_width - _product_frac_width(site))
    order = stream_permutation(len(weight), site.inputs[0].layout)
    both = np.stack([weight[order], bias[order]], axis=1)
    words = both.reshape(-1, build.folding.out_lanes, 2)
    period = next(
        p
        for p in range(1, len(words) + 1)
        if len(words) % p == 0 and (words.reshape(-1, p, *words.shape[1:]) == words[:p]).all()
    )
    return words[:period, :, 0], words[:period, :, 1]


def _width(values: Ints) -> int:
    format = covering(min(int(values.min()), -1), int(values.max()), 0)
    return max(format.width, 2)
