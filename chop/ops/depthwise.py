"""depthwise: a convolution of every channel by itself; hardware of a conv with as many groups.

No operator of torch: `conv` hands its depthwise sites on to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from chop.formats.rounding import Ints
from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.meta import Cost, Folding
from chop.ir.tensor_type import TensorType
from chop.ops.accumulate import (
    LEVELS_PER_STAGE,
    accumulator_type,
    adder_luts,
    alignment,
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
from chop.ops.base import Binding, Build, Call, Case, Memory, Op, Site
from chop.ops.events import EventGraph, Offer
from chop.ops.products import Products, products_of
from chop.ops.timing import Flow
from chop.ops.window import WindowAttributes, padded_type, window_cost, window_values
from chop.ops.window_events import window_events
from chop.ops.windows import (
    WindowOrder,
    WindowShape,
    cycles_per_frame,
    keeps_pace,
    least_depth,
    windows_flow,
)

__all__ = ["DEPTHWISE", "DepthwiseAttributes"]


@dataclass(frozen=True, slots=True)
class DepthwiseAttributes:
    """Channel c gives the results c * multiplier to c * multiplier + multiplier - 1."""

    windows: WindowShape
    multiplier: int

    @property
    def taps(self) -> int:
        return self.windows.kernel[0] * self.windows.kernel[1]

    @property
    def pixels(self) -> int:
        """Windows of a frame."""
        return self.windows.out[0] * self.windows.out[1]


class Depthwise(Op[DepthwiseAttributes]):
    """Its weights are [C * multiplier, T]."""

    name = "depthwise"
    summary = "every channel of [C, H, W] convolved by itself"
    targets = ()
    module = "chop_depthwise"

    def read(self, call: Call) -> DepthwiseAttributes:
        raise call.refuse("no operator of torch", "use a convolution with groups")

    def infer(self, site: Site[DepthwiseAttributes]) -> TensorType:
        return accumulator_type(_padded(site), None)

    def infer_scale(self, site: Site[DepthwiseAttributes]) -> Scale | None:
        return product_scale(site)

    def define(self, site: Site[DepthwiseAttributes], inputs: Sequence[Value]) -> Value:
        """Sums over the taps: [C * multiplier, OutHeight, OutWidth] from [C, H, W]."""
        a, (_, shift, bias) = site.attributes, alignment(site)
        weight = site.parameters["weight"].values
        outputs = len(weight)
        windows = window_values(inputs[0], a.windows).permute((4, 2, 3, 0, 1))
        windows = windows.reshape((a.windows.channels, a.taps, *a.windows.out))
        channels = tuple(np.repeat(np.arange(a.windows.channels), a.multiplier).tolist())
        parts = [
            windows.take(1, (tap,)).take(0, channels).reshape((outputs, *a.windows.out))
            * weight[:, tap].reshape(outputs, 1, 1)
            for tap in range(a.taps)
        ]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total.shift_left(shift) + bias.reshape(outputs, 1, 1)

    def macs(self, attributes: DepthwiseAttributes, output: TensorType) -> int:
        return output.elements * attributes.taps

    def foldings(self, site: Site[DepthwiseAttributes]) -> tuple[Folding, ...]:
        a, found = site.attributes, []
        channels = a.windows.channels
        for lanes in (n for n in range(1, channels + 1) if channels % n == 0):
            out = lanes * a.multiplier
            cycles = cycles_per_frame(a.windows, lanes, WindowOrder.CHANNELS)
            found.append(Folding(lanes, out, cycles, out))
            if a.taps > 1 and keeps_pace(a.windows, lanes):
                cycles = cycles_per_frame(a.windows, lanes, WindowOrder.PARALLEL)
                found.append(Folding(lanes, out, cycles, a.taps * out))
        return tuple(found)

    def memories(self, site: Site[DepthwiseAttributes], build: Build) -> tuple[Memory, ...]:
        products, start = _products(site), _start(site)
        words = _words(site, build.folding, products.codes)
        memories = [Memory(build.rom.file(f"{site.name}_weight"), words, products.code_width)]
        if start is not None:
            words = start.reshape(-1, build.folding.out_lanes)
            memories.append(Memory(build.rom.file(f"{site.name}_bias"), words, signed_width(start)))
        return tuple(memories)

    def bind(self, site: Site[DepthwiseAttributes], build: Build) -> Binding:
        a, folding, products, start = site.attributes, build.folding, _products(site), _start(site)
        window = a.windows.parameters(folding.in_lanes, _order(site, folding), _depth(site, build))
        del window["ChannelOuter"]
        files = {"WeightFile": f'"{build.rom.file(f"{site.name}_weight")}"'}
        if start is not None:
            files["BiasFile"] = f'"{build.rom.file(f"{site.name}_bias")}"'
        style = _style(site, build)
        return Binding(
            self.module,
            {
                **window,
                "Multiplier": a.multiplier,
                "InWidth": products.number.width,
                "InSigned": f"1'b{int(products.number.signed)}",
                "WeightKind": f'"{products.kind}"',
                "WeightWidth": products.code_width,
                "MantissaWidth": products.mantissa_width,
                "FullWidth": products.width,
                "BiasWidth": 1 if start is None else signed_width(start),
                "SumWidth": site.exact.fixed.width,
                "ProductShift": product_shift(site) + products.shift,
                "OutDepth": build.out_depth,
                "LevelsPerStage": LEVELS_PER_STAGE,
                "RomLatency": rom_latency(style),
                "RomStyle": f'"{style}"',
                "HasBias": f"1'b{int(start is not None)}",
                **files,
            },
        )

    def flow(
        self, site: Site[DepthwiseAttributes], build: Build, valid: Sequence[Ints], samples: int
    ) -> Flow:
        a, folding = site.attributes, build.folding
        order = _order(site, folding)
        windows = windows_flow(valid[0], samples, a.windows, folding.in_lanes, order)
        steps = 1 if order is WindowOrder.PARALLEL else a.taps
        reserved = windows.valid[steps - 1 :: steps]
        return Flow(
            windows.taken,
            reserved + _latency(site, build),
            windows.in_depth,
            windows.patient_depth,
            reserved,
        )

    def events(
        self,
        site: Site[DepthwiseAttributes],
        build: Build,
        graph: EventGraph,
        inputs: Sequence[Offer],
    ) -> Offer | None:
        a, lanes, order = site.attributes, build.folding.in_lanes, _order(site, build.folding)
        windows = window_events(graph, inputs[0], a.windows, lanes, order, build.in_depth)
        if windows is None:
            return None
        steps = 1 if order is WindowOrder.PARALLEL else a.taps
        taken = graph.take(windows)
        ends = np.arange(steps - 1, windows.count, steps, dtype=np.int64)
        return graph.offered(taken, ends, _latency(site, build), build.out_depth, 1)

    def cost(self, site: Site[DepthwiseAttributes], build: Build) -> Cost:
        """Counts 4-input LUTs, as linear does, and the windows' own."""
        a, folding, products, start = site.attributes, build.folding, _products(site), _start(site)
        taps, out = _tap_lanes(site, folding), folding.out_lanes
        words, block = _rom_words(site, folding), _style(site, build) == "block"
        pixels = a.windows.channels // folding.in_lanes
        sums, weight_bits = out * site.exact.fixed.width, folding.multipliers * products.code_width
        levels = range(1, (taps - 1).bit_length() + 1)
        adders = [out * -(-taps // (1 << k)) * adder_luts(products.width + k) for k in levels]
        control = 40 + 3 * words.bit_length()
        luts = (
            control
            + folding.multipliers * products.luts
            + sum(adders)
            + 2 * sums
            + (0 if block or words == 1 else rom_luts(words, weight_bits))
            + (0 if start is None or pixels == 1 else rom_luts(pixels, out * signed_width(start)))
            + (ram_luts(build.out_depth, sums) if build.out_depth > 1 else 0)
        )
        ffs = (
            control
            + taps * folding.in_lanes * products.stored_width
            + (0 if words == 1 else weight_bits)
            + folding.multipliers * (products.width + products.ffs)
            + sum(adders)
            + 2 * sums
        )
        constants = np.abs(site.parameters["weight"].values) if words == 1 else None
        count = folding.multipliers
        dsps = count if constants is None else int(np.count_nonzero(constants & (constants - 1)))
        brams = block_rams(words, weight_bits) if block else 0
        own = Cost(luts, ffs, dsps if products.multiplies else 0, brams)
        order, width = _order(site, folding), site.inputs[0].stream_width
        windows = window_cost(a.windows, folding.in_lanes, width, order, _depth(site, build))
        return own + windows

    def cases(self) -> tuple[Case, ...]:
        return ()


DEPTHWISE = Depthwise()


def _padded(site: Site[DepthwiseAttributes]) -> Site[DepthwiseAttributes]:
    """Returns the site with the padding among what its input may hold."""
    x = padded_type(site.inputs[0], WindowAttributes(site.attributes.windows))
    return replace(site, inputs=(x,))


def _products(site: Site[DepthwiseAttributes]) -> Products:
    return products_of(_padded(site).inputs[0], site.parameters["weight"])


def _order(site: Site[DepthwiseAttributes], folding: Folding) -> WindowOrder:
    parallel = folding.multipliers > folding.out_lanes
    return WindowOrder.PARALLEL if parallel else WindowOrder.CHANNELS


def _latency(site: Site[DepthwiseAttributes], build: Build) -> int:
    """Returns the cycles from the step that completes a beat to that beat."""
    levels = (_tap_lanes(site, build.folding) - 1).bit_length()
    latency = rom_latency(_style(site, build)) + 2 - (-levels // LEVELS_PER_STAGE)
    return latency + _products(site).more_latency


def _tap_lanes(site: Site[DepthwiseAttributes], folding: Folding) -> int:
    """Returns the taps of a window that are used in a cycle."""
    return folding.multipliers // folding.out_lanes


def _depth(site: Site[DepthwiseAttributes], build: Build) -> int:
    lanes, order = build.folding.in_lanes, _order(site, build.folding)
    return max(build.in_depth, least_depth(site.attributes.windows, lanes, order))


def _words(site: Site[DepthwiseAttributes], folding: Folding, values: Ints) -> Ints:
    """Returns [outputs, taps] as a word per step: beat outer, tap inner; tap lane lowest."""
    taps, out = _tap_lanes(site, folding), folding.out_lanes
    # [beat, out lane, step, tap lane]
    tiles = values.reshape(-1, out, site.attributes.taps // taps, taps)
    return tiles.transpose(0, 2, 1, 3).reshape(-1, out * taps)


def _rom_words(site: Site[DepthwiseAttributes], folding: Folding) -> int:
    weights = site.parameters["weight"].values.size
    return weights // folding.multipliers


def _start(site: Site[DepthwiseAttributes]) -> Ints | None:
    return start_of(site, _products(site).left_out)


def _style(site: Site[DepthwiseAttributes], build: Build) -> str:
    words = _rom_words(site, build.folding)
    bits = words * build.folding.multipliers * _products(site).code_width
    return rom_style(build, words, bits)
