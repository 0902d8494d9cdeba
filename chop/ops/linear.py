"""linear: y = W x + b on the last axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from chop.formats.rounding import Ints
from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.meta import Cost, Folding
from chop.ir.tensor_type import TensorType, stream_permutation
from chop.ops.accumulate import (
    LEVELS_PER_STAGE,
    accumulator_type,
    adder_luts,
    alignment,
    are_far,
    block_rams,
    product_scale,
    product_shift,
    ram_luts,
    rom_latency,
    rom_luts,
    rom_style,
    signed_width,
    start_of,
)
from chop.ops.adders import Adders, adders_of, digit_counts, is_solvable
from chop.ops.base import Binding, Build, Call, Case, Memory, Op, Site, Source, StreamOrder
from chop.ops.channels import Axes, Resize, Ties, resized_parameters
from chop.ops.events import EventGraph, Offer, folded_events, repeated_events
from chop.ops.factoring import Factoring, of_linear
from chop.ops.products import Products, products_of
from chop.ops.timing import Flow, folded, repeated

__all__ = ["Linear"]


@dataclass(frozen=True, slots=True)
class LinearAttributes:
    """`vectors` is the number of input vectors per sample: the axes before the last.

    The weights are [sets * out_features, in_features]. `set_vectors` vectors, one after the other,
    meet set 0, as many set 1, and so on in a circle that begins anew with every sample.
    """

    in_features: int
    out_features: int
    vectors: int
    has_bias: bool
    sets: int = 1
    set_vectors: int = 1

    @property
    def set_runs(self) -> int:
        """Runs of vectors with one set until set 0 is next, whatever set that was."""
        runs = self.vectors // self.set_vectors
        return self.sets if runs % self.sets == 0 else runs


class Linear(Op[LinearAttributes]):
    name = "linear"
    summary = "y = W x + b on the last axis, with or without bias"
    targets = (nn.Linear, functional.linear)
    module = "chop_linear"
    cycles = (
        "vectors * (in_features / in_lanes) * (out_features / out_lanes); latency RomLatency + "
        "ProductStages + 1 + ceil(log2(in_lanes) / LevelsPerStage) behind the step that completes "
        "an output, 1 more for minifloat weights, 1 more with block exponents; as an adder graph "
        "vectors * digits, latency 2 + ceil(depth / LevelsPerStage)"
    )
    limits = "weight and bias are constants"
    quantizes_input = True
    reads_coded = True
    gives_any_order = True
    channel_axis = -1

    def read(self, call: Call) -> LinearAttributes:
        layer = self.layer(call)
        shape = call.input_shapes[0]
        return LinearAttributes(
            layer.in_features, layer.out_features, math.prod(shape[:-1]), layer.bias is not None
        )

    def layer(self, call: Call) -> nn.Linear:
        if isinstance(call.module, nn.Linear):
            return call.module
        weight, bias = call.argument(1, "weight"), call.argument(2, "bias")
        if not isinstance(weight, torch.Tensor) or not isinstance(bias, torch.Tensor | None):
            raise call.refuse(
                "the weight or bias of a linear layer is computed from an input",
                "make it a parameter or a constant",
            )
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
        layer.weight = nn.Parameter(weight.detach().clone())
        if bias is not None:
            layer.bias = nn.Parameter(bias.detach().clone())
        return layer

    def reads(self, shape: tuple[int, ...]) -> StreamOrder:
        return StreamOrder.ROWS if math.prod(shape[:-1]) > 1 else StreamOrder.ANY

    def fold_before(self, layer: nn.Module, scale: torch.Tensor, shift: torch.Tensor) -> bool:
        if not isinstance(layer, nn.Linear):
            return False
        weight = layer.weight.detach().double()
        _set(layer, weight * scale, _bias_of(layer) + weight @ shift)
        return True

    def fold_after(self, layer: nn.Module, scale: torch.Tensor, shift: torch.Tensor) -> bool:
        if not isinstance(layer, nn.Linear):
            return False
        weight = layer.weight.detach().double()
        _set(layer, weight * scale[:, None], _bias_of(layer) * scale + shift)
        return True

    def tie_channels(
        self,
        attributes: LinearAttributes,
        inputs: Sequence[Axes],
        shape: tuple[int, ...],
        ties: Ties,
    ) -> Axes:
        return (*inputs[0][:-1], ties.fresh(attributes.out_features))

    def resized(self, layer: nn.Module, inputs: Sequence[Axes], output: Axes) -> Resize:
        into, out = inputs[0][-1], output[-1]
        sizes = {"in_features": len(into), "out_features": len(out)}
        return resized_parameters(layer, {"weight": (out, into), "bias": (out,)}, sizes, 1)

    def factoring(self, layer: nn.Module) -> Factoring | None:
        return of_linear(layer) if isinstance(layer, nn.Linear) else None

    def infer(self, site: Site[LinearAttributes]) -> TensorType:
        single = site.attributes.vectors == 1
        return accumulator_type(site, site.exact.layout if single else None)

    def infer_scale(self, site: Site[LinearAttributes]) -> Scale | None:
        return product_scale(site)

    def define(self, site: Site[LinearAttributes], inputs: Sequence[Value]) -> Value:
        _, shift, bias = alignment(site)
        products = inputs[0].matmul(site.parameters["weight"].values)
        return products.shift_left(shift) + bias

    def macs(self, attributes: LinearAttributes, output: TensorType) -> int:
        return attributes.in_features * attributes.out_features * attributes.vectors

    def foldings(self, site: Site[LinearAttributes]) -> tuple[Folding, ...]:
        a, products = site.attributes, _products(site)
        found = []
        for p in _divisors(a.in_features):
            if not products.summable(_order(site), p):
                continue
            for q in _divisors(a.out_features):
                beats, groups = a.in_features // p, a.out_features // q
                cycles = beats * groups * a.vectors
                # With one group, or one beat, the two orders are the same; the cheaper form of it.
                orders = (True,) if groups == 1 else (False,) if beats == 1 else (False, True)
                found += [Folding(p, q, cycles, p * q, order) for order in orders]
        return tuple(found)

    def adder_foldings(self, site: Site[LinearAttributes]) -> tuple[Folding, ...]:
        a, products = site.attributes, _products(site)
        if a.sets > 1 or site.inputs[0].coded or not is_solvable(_matrix(site)):
            return ()
        found = []
        for digits in digit_counts(site.inputs[0].fixed.width):
            luts = _adders(site, digits).cost(1, 1).luts
            worth = max(1, -(-luts // products.equivalent_luts))
            cycles = a.vectors * digits
            found.append(Folding(a.in_features, a.out_features, cycles, 0, True, digits, worth))
        return tuple(found)

    def sources(self, site: Site[LinearAttributes], build: Build) -> tuple[Source, ...]:
        if not build.folding.digits:
            return ()
        values = _adders(site, build.folding.digits).parameters()
        module = _module(site, build)
        return (Source(module, "adders.sv.j2", {"name": module, "node": site.name, **values}),)

    def memories(self, site: Site[LinearAttributes], build: Build) -> tuple[Memory, ...]:
        if build.folding.digits:
            return ()
        folding, products = build.folding, _products(site)
        width = products.code_width
        words = _words(site, folding, products.codes)
        memories = [Memory(build.rom.file(f"{site.name}_weight"), words, width)]
        if products.exponent_width:
            # The lanes of a beat have one exponent per output.
            powers = _words(site, folding, products.exponents)[:, :: folding.in_lanes]
            file = build.rom.file(f"{site.name}_exponent")
            memories.append(Memory(file, powers, products.exponent_width))
        start = _start(site)
        if start is not None:
            words = start.reshape(-1, folding.out_lanes)
            memories.append(Memory(build.rom.file(f"{site.name}_bias"), words, signed_width(start)))
        return tuple(memories)

    def bind(self, site: Site[LinearAttributes], build: Build) -> Binding:
        if build.folding.digits:
            depths = {"InDepth": build.in_depth, "OutDepth": build.out_depth}
            return Binding(_module(site, build), depths)
        a, folding, products, start = site.attributes, build.folding, _products(site), _start(site)
        files = {"WeightFile": f'"{build.rom.file(f"{site.name}_weight")}"'}
        if products.exponent_width:
            files["ExponentFile"] = f'"{build.rom.file(f"{site.name}_exponent")}"'
        if start is not None:
            files["BiasFile"] = f'"{build.rom.file(f"{site.name}_bias")}"'
        style = _style(site, build)
        return Binding(
            self.module,
            {
                "InFeatures": a.in_features,
                "OutFeatures": a.out_features,
                "InLanes": folding.in_lanes,
                "OutLanes": folding.out_lanes,
                "WeightSets": a.sets,
                "SetVectors": a.set_vectors,
                "SetRuns": a.set_runs,
                "InWidth": products.number.width,
                "InSigned": f"1'b{int(products.number.signed)}",
                "InExponentWidth": products.in_exponent_width,
                "WeightKind": f'"{products.kind}"',
                "WeightWidth": products.code_width,
                "MantissaWidth": products.mantissa_width,
                "WeightExponentWidth": products.exponent_width,
                "FullWidth": products.width,
                "BiasWidth": 1 if start is None else signed_width(start),
                "OutWidth": site.exact.fixed.width,
                "ProductShift": product_shift(site) + products.shift,
                "InputStationary": f"1'b{int(folding.input_stationary)}",
                "InDepth": build.in_depth,
                "OutDepth": build.out_depth,
                "LevelsPerStage": LEVELS_PER_STAGE,
                "RomLatency": _rom_latency(site, build),
                "RomStyle": f'"{style}"',
                "ProductStages": 1 + _are_far(site, build),
                "HasBias": f"1'b{int(start is not None)}",
                **files,
            },
        )

    def flow(
        self, site: Site[LinearAttributes], build: Build, valid: Sequence[Ints], samples: int
    ) -> Flow:
        a, folding = site.attributes, build.folding
        if folding.digits:
            return repeated(valid[0], folding.digits, _adders(site, folding.digits).latency)
        return folded(
            valid[0],
            samples * a.vectors,
            a.in_features // folding.in_lanes,
            a.out_features // folding.out_lanes,
            folding.input_stationary,
            _latency(site, build),
        )

    def events(
        self,
        site: Site[LinearAttributes],
        build: Build,
        graph: EventGraph,
        inputs: Sequence[Offer],
    ) -> Offer:
        a, folding = site.attributes, build.folding
        depths = (build.in_depth, build.out_depth)
        if folding.digits:
            latency = _adders(site, folding.digits).latency
            return repeated_events(graph, inputs[0], folding.digits, latency, depths)
        groups = a.out_features // folding.out_lanes
        return folded_events(
            graph,
            inputs[0],
            (a.vectors, a.in_features // folding.in_lanes, groups),
            folding.input_stationary,
            _latency(site, build),
            depths,
        )

    def cost(self, site: Site[LinearAttributes], build: Build) -> Cost:
        """Counts 4-input LUTs, as Yosys does for ECP5; benchmarks/ compares the two."""
        if build.folding.digits:
            return _adders(site, build.folding.digits).cost(build.in_depth, build.out_depth)
        a, folding = site.attributes, build.folding
        p, q = folding.in_lanes, folding.out_lanes
        beats, groups = a.in_features // p, a.out_features // q
        words, block = beats * groups * a.sets, _style(site, build) == "block"
        latency = _rom_latency(site, build)
        products, start, starts = _products(site), _start(site), groups * a.sets
        x_bits = p * products.stored_width + products.in_exponent_width
        sums = q * site.exact.fixed.width
        weight_bits = q * (p * products.code_width + products.exponent_width)
        product = products.width
        levels = range(1, (p - 1).bit_length() + 1)
        adders = [q * -(-p // (1 << k)) * adder_luts(product + k) for k in levels]
        registered = [n for k, n in zip(levels, adders, strict=True) if k % LEVELS_PER_STAGE == 0]
        stored_sums = folding.input_stationary and groups > 1
        control = 40 + 3 * words.bit_length()
        luts = (
            control
            + 30
            + p * q * products.luts
            + products.shift_width * (sums + q)
            + sum(adders)
            + 2 * sums
            + (0 if block or words == 1 else rom_luts(words, weight_bits))
            + (0 if start is None or starts == 1 else rom_luts(starts, q * signed_width(start)))
            + (ram_luts(groups, sums) if stored_sums else 0)
            + (ram_luts(build.out_depth, sums) if build.out_depth > 1 else 0)
            + (ram_luts(build.in_depth, x_bits) if build.in_depth > 1 else 0)
        )
        ffs = (
            control
            + x_bits * (latency - 1 + q if latency > 1 else 1 + (build.in_depth == 1))
            + (0 if words == 1 else weight_bits * (latency - block))
            + p * q * (product * (1 + _are_far(site, build)) + products.ffs)
            + sum(registered)
            + (len(levels) % LEVELS_PER_STAGE) * sums
            + sums
            + products.scaled * (sums + q * (1 + len(levels)) * products.shift_width)
            + (sums if build.out_depth == 1 else 0)
        )
        brams = block_rams(words, weight_bits) if block else 0
        # A constant weight that is zero or a power of two takes no multiplier.
        constants = np.abs(site.parameters["weight"].values) if words == 1 else None
        dsps = p * q if constants is None else int(np.count_nonzero(constants & (constants - 1)))
        return Cost(luts, ffs, dsps if products.multiplies else 0, brams)

    def cases(self) -> tuple[Case, ...]:
        return (
            Case("bias", nn.Linear(12, 8), ((12,),)),
            Case("no_bias", nn.Linear(8, 6, bias=False), ((8,),)),
            Case(
                "odd", nn.Sequential(nn.Linear(13, 7), nn.Linear(7, 5), nn.Linear(5, 1)), ((13,),)
            ),
            Case("last_axis", nn.Linear(6, 4), ((3, 6),)),
            Case("function", _LinearFunction(), ((6,),)),
        )


class _LinearFunction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 6))
        self.bias = nn.Parameter(torch.randn(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(functional.linear(x, self.weight, self.bias), weight=self.weight.T)


def _bias_of(layer: nn.Linear) -> torch.Tensor:
    if layer.bias is None:
        return torch.zeros(layer.out_features, dtype=torch.float64)
    return layer.bias.detach().double()


def _set(layer: nn.Linear, weight: torch.Tensor, bias: torch.Tensor) -> None:
    dtype = layer.weight.dtype
    layer.weight = nn.Parameter(weight.to(dtype))
    layer.bias = nn.Parameter(bias.to(dtype))


def _latency(site: Site[LinearAttributes], build: Build) -> int:
    """Returns the cycles from the step that completes a group to its beat."""
    levels = (build.folding.in_lanes - 1).bit_length()
    latency = _rom_latency(site, build) + 2 - (-levels // LEVELS_PER_STAGE)
    return latency + _are_far(site, build) + _products(site).more_latency


def _divisors(value: int) -> list[int]:
    return [d for d in range(1, value + 1) if value % d == 0]


def _products(site: Site[LinearAttributes]) -> Products:
    return products_of(site.inputs[0], site.parameters["weight"])


def _order(site: Site[LinearAttributes]) -> Ints:
    """Returns the index of the input at every stream position."""
    return stream_permutation(site.attributes.in_features, site.inputs[0].layout)


def _rows(site: Site[LinearAttributes]) -> Ints:
    """Returns the index of the output, of all sets, at every position of the result's stream."""
    a = site.attributes
    layout = site.exact.layout if a.vectors == 1 else None
    return stream_permutation(a.sets * a.out_features, layout)


def _words(site: Site[LinearAttributes], folding: Folding, values: Ints) -> Ints:
    """Returns [outputs, inputs] as a word per step, in step order: input lane lowest."""
    a, p, q = site.attributes, folding.in_lanes, folding.out_lanes
    # [set, group, out lane, beat, in lane]
    tiles = values[np.ix_(_rows(site), _order(site))].reshape(
        a.sets, a.out_features // q, q, a.in_features // p, p
    )
    axes = (0, 3, 1, 2, 4) if folding.input_stationary else (0, 1, 3, 2, 4)
    return tiles.transpose(axes).reshape(-1, p * q)


def _start(site: Site[LinearAttributes]) -> Ints | None:
    """Returns what every sum starts from, in the order of the result's stream."""
    found = start_of(site, _products(site).left_out)
    return None if found is None else found[_rows(site)]


def _matrix(site: Site[LinearAttributes]) -> Ints:
    """Returns the weights [outputs, inputs] in the order of the streams, at the sums' fraction."""
    weight: Ints = site.parameters["weight"].values[np.ix_(_rows(site), _order(site))]
    return weight << product_shift(site)


def _adders(site: Site[LinearAttributes], digits: int) -> Adders:
    x, (_, _, bias) = site.inputs[0], alignment(site)
    return adders_of(
        _matrix(site),
        bias[_rows(site)],
        (x.fixed.width, x.fixed.signed),
        (x.low, x.high),
        digits,
        site.exact.fixed.width,
    )


def _module(site: Site[LinearAttributes], build: Build) -> str:
    return f"adders_{build.rom.prefix}{site.name}"


def _rom_words(site: Site[LinearAttributes], folding: Folding) -> int:
    return folding.cycles // site.attributes.vectors * site.attributes.sets


def _rom_latency(site: Site[LinearAttributes], build: Build) -> int:
    return rom_latency(_style(site, build), _are_far(site, build))


def _are_far(site: Site[LinearAttributes], build: Build) -> bool:
    dsps = build.folding.multipliers if _products(site).multiplies else 0
    return are_far(_style(site, build), _rom_words(site, build.folding), dsps)


def _style(site: Site[LinearAttributes], build: Build) -> str:
    folding, words = build.folding, _rom_words(site, build.folding)
    return rom_style(build, words, words * folding.multipliers * _products(site).code_width)
