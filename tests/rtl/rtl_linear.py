"""Cases of chop_product and chop_linear: every kind of weight, every shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.rtl.rtl_case import RANDOM, Case, Signal, element, layer_ports, rom_file
from tests.rtl.rtl_models import Beat, Delay, Digits, Linear, LinearShape, pack, split


@dataclass(frozen=True)
class Weights:
    """How weights are stored: the kind of chop_product, the bits of a code and of its mantissa."""

    kind: str = "integer"
    width: int = 4
    mantissa: int = 0

    @property
    def latency(self) -> int:
        """The registers within a product."""
        return int(self.kind == "minifloat")

    def value(self, code: int) -> int:
        """Returns what a code stands for."""
        if self.kind in ("integer", "ternary"):
            return split(code, 1, self.width, True)[0]
        if self.kind in ("binary", "xnor"):
            return 1 if code else -1
        exponent = (code & ((1 << (self.width - 1)) - 1)) >> self.mantissa
        significand = code & ((1 << self.mantissa) - 1)
        if exponent:
            significand += 1 << self.mantissa
        magnitude = significand << max(exponent - 1, 0)
        return -magnitude if code >> (self.width - 1) else magnitude

    def draw(self) -> int:
        """Returns a random code, the largest and the smallest more often than others."""
        return element(self.width, self.kind == "integer") & ((1 << self.width) - 1)

    def left_out(self, codes: Sequence[int], exact: bool) -> int:
        """Returns what the hardware's sum of the products with these weights lacks."""
        if self.kind == "xnor":
            return -len(codes)
        if self.kind == "integer" or exact:
            return 0
        if self.kind == "binary":
            return codes.count(0)
        return sum(code >> (self.width - 1) for code in codes)

    def product_width(self, x_width: int) -> int:
        """Returns bits that hold every product with numbers of that width, signed or not."""
        if self.kind in ("xnor", "integer"):
            return 1 if self.kind == "xnor" else x_width + self.width
        largest = max(abs(self.value(code)) for code in range(1 << self.width))
        return x_width + 1 + largest.bit_length()


def _product(
    weights: Weights,
    x_width: int,
    *,
    signed: bool = True,
    negate: bool = False,
    out_width: int | None = None,
) -> Case:
    width = out_width or weights.product_width(x_width)

    def function(both: int) -> int:
        code, x = both >> x_width, both & ((1 << x_width) - 1)
        if weights.kind == "xnor":
            return int((-1 if x else 1) * weights.value(code) == 1)
        product = split(x, 1, x_width, signed)[0] * weights.value(code)
        return pack([product - weights.left_out([code], negate)], width)

    return Case(
        "chop_product",
        {
            "Kind": weights.kind,
            "InWidth": x_width,
            "InSigned": int(signed),
            "WeightWidth": weights.width,
            "MantissaWidth": weights.mantissa,
            "OutWidth": width,
            "Negate": int(negate),
        },
        lambda: Delay(function, weights.latency),
        {
            "x_i": f"x[{x_width - 1}:0]",
            "weight_i": f"x[{x_width + weights.width - 1}:{x_width}]",
            "product_o": "y",
        },
        randoms=(Signal("x", 1, x_width + weights.width),),
        wires=(Signal("y", 1, width),),
        resettable=False,
    )


def _times(a_width: int, b_width: int) -> Case:
    out_width = a_width + b_width

    def function(both: int) -> int:
        a, b = both & ((1 << a_width) - 1), both >> a_width
        return pack([split(a, 1, a_width, True)[0] * split(b, 1, b_width, True)[0]], out_width)

    return Case(
        "chop_times",
        {"AWidth": a_width, "BWidth": b_width},
        lambda: Delay(function, 0),
        {
            "a_i": f"x[{a_width - 1}:0]",
            "b_i": f"x[{out_width - 1}:{a_width}]",
            "product_o": "y",
        },
        randoms=(Signal("x", 1, out_width),),
        wires=(Signal("y", 1, out_width),),
        clocked=False,
        resettable=False,
    )


def _linear(
    ins: tuple[int, int],
    outs: tuple[int, int],
    depths: tuple[int, int] | None = None,
    *,
    stationary: bool = False,
    signed: bool = True,
    widths: tuple[int, int, int, int] = (4, 4, 8, 12),
    weights: Weights | None = None,
    exponents: tuple[int, int] = (0, 0),
    shift: int = 0,
    levels: int = 1,
    rom: int = 1,
    product: int = 1,
    bias: bool = True,
    style: str = "auto",
) -> Case:
    """Features and lanes of both sides, (InDepth, OutDepth), widths of x, weight, bias, y.

    `weights`: others than integers (theirs is the width, then); `exponents`: bits of the block
    exponents of x and of the weights.
    """
    (features_in, in_lanes), (features_out, out_lanes) = ins, outs
    in_beats, out_beats = features_in // in_lanes, features_out // out_lanes
    x_width, weight_width, bias_width, y_width = widths
    weights = weights or Weights(width=weight_width)
    scaled, xnor = exponents != (0, 0), weights.kind == "xnor"
    tree = -(-(in_lanes - 1).bit_length() // levels)
    latency = rom + product + 1 + tree + scaled + weights.latency
    in_depth, out_depth = depths or (1 if stationary else in_beats, latency + 1)
    codes = [[weights.draw() for _ in range(features_in)] for _ in range(features_out)]
    powers = [[RANDOM.getrandbits(exponents[1]) for _ in range(in_beats)] for _ in codes]
    weight = [
        [weights.value(c) << row_powers[k // in_lanes] for k, c in enumerate(row)]
        for row, row_powers in zip(codes, powers, strict=True)
    ]
    biases = [element(bias_width, True) for _ in range(features_out)] if bias else None
    starts = [
        b + (weights.left_out(row, scaled) << shift)
        for b, row in zip(biases or [0] * features_out, codes, strict=True)
    ]
    has_bias = bias or any(starts)

    def word(beat: int, group: int) -> int:
        rows = codes[group * out_lanes : (group + 1) * out_lanes]
        columns = slice(beat * in_lanes, (beat + 1) * in_lanes)
        return pack([c for row in rows for c in row[columns]], weights.width)

    def power(beat: int, group: int) -> int:
        rows = powers[group * out_lanes : (group + 1) * out_lanes]
        return pack([row[beat] for row in rows], exponents[1])

    def numbers(beat: Beat) -> list[int]:
        lanes = split(beat, in_lanes, exponents[0] + x_width, False)
        if xnor:
            return [-1 if lane >> (x_width - 1) else 1 for lane in lanes]
        mantissas = [split(lane, 1, x_width, signed)[0] for lane in lanes]
        return [m << (lanes[0] >> x_width) for m in mantissas]

    steps = (
        [(i, o) for i in range(in_beats) for o in range(out_beats)]
        if stationary
        else [(i, o) for o in range(out_beats) for i in range(in_beats)]
    )
    weight_file, roms = rom_file(
        "w", [word(*s) for s in steps], in_lanes * out_lanes * weights.width
    )
    params: dict[str, int | str] = {
        "InFeatures": features_in,
        "OutFeatures": features_out,
        "InLanes": in_lanes,
        "OutLanes": out_lanes,
        "InWidth": x_width,
        "InSigned": int(signed),
        "InExponentWidth": exponents[0],
        "WeightKind": weights.kind,
        "WeightWidth": weights.width,
        "MantissaWidth": weights.mantissa,
        "WeightExponentWidth": exponents[1],
        "FullWidth": weights.product_width(x_width),
        "BiasWidth": y_width if weights.kind != "integer" else bias_width,
        "OutWidth": y_width,
        "ProductShift": shift + xnor,
        "InputStationary": int(stationary),
        "InDepth": in_depth,
        "OutDepth": out_depth,
        "LevelsPerStage": levels,
        "RomLatency": rom,
        "RomStyle": style,
        "ProductStages": product,
        "WeightFile": weight_file,
        "HasBias": int(has_bias),
    }
    if exponents[1]:
        params["ExponentFile"], more = rom_file(
            "e", [power(*s) for s in steps], out_lanes * exponents[1]
        )
        roms |= more
    if has_bias:
        width = int(params["BiasWidth"])
        words = [pack(starts[o * out_lanes :][:out_lanes], width) for o in range(out_beats)]
        params["BiasFile"], more = rom_file("b", words, out_lanes * width)
        roms |= more
    shape = LinearShape(
        weight,
        biases,
        in_lanes,
        out_lanes,
        numbers,
        y_width,
        shift,
        stationary,
        in_depth,
        out_depth,
        latency,
    )
    x, y = Signal("x", in_lanes, exponents[0] + x_width), Signal("y", out_lanes, y_width)
    return Case("chop_linear", params, lambda: Linear(shape), layer_ports(), (x,), (y,), roms=roms)


_LINEAR = (
    # NI and NO in every combination of one and several, both dataflows.
    _linear((4, 4), (4, 4)),
    _linear((4, 4), (6, 2)),
    _linear((6, 2), (4, 4)),
    _linear((6, 2), (6, 2)),
    _linear((4, 4), (6, 2), stationary=True),
    _linear((6, 2), (4, 4), stationary=True),
    _linear((6, 2), (6, 2), stationary=True),
    _linear((4, 4), (4, 4), stationary=True),
    # Two groups: the shortest distance between a partial sum's write and its read.
    _linear((6, 2), (4, 2), stationary=True),
    _linear((6, 1), (4, 2), (3, 2), stationary=True, signed=False),
    # So many partial sums that they are read a cycle sooner.
    _linear((4, 2), (66, 1), stationary=True, widths=(2, 2, 3, 6)),
    # Every depth changes the timing.
    _linear((6, 2), (6, 2), (3, 1)),
    _linear((6, 2), (6, 2), (4, 2)),
    _linear((6, 2), (6, 2), (6, 3), stationary=True),
    _linear((6, 2), (6, 2), (1, 1), stationary=True),
    _linear((4, 4), (4, 4), (1, 1)),
    _linear((4, 4), (4, 4), (2, 5)),
    _linear((5, 1), (3, 1), (7, 4)),
    # Memory latency, tree registers, lanes that are no power of two.
    _linear((6, 3), (6, 2), rom=2, product=2),
    _linear((6, 3), (6, 2), rom=2, levels=2, stationary=True),
    _linear((6, 3), (6, 2), rom=3, product=2, style="block"),
    _linear((6, 1), (8, 2), rom=3, product=2, stationary=True),
    _linear((4, 4), (4, 4), (1, 1), rom=4, product=2),
    _linear((10, 5), (3, 3), levels=2),
    _linear((8, 8), (2, 1), levels=3, rom=2, style="block"),
    _linear((1, 1), (1, 1)),
    # Numbers: unsigned input, shifted products, no bias, sums that wrap, products that do.
    _linear((6, 2), (6, 2), signed=False),
    _linear((6, 2), (6, 2), shift=3, widths=(4, 4, 14, 14)),
    _linear((6, 2), (6, 2), bias=False),
    _linear((6, 2), (6, 2), bias=False, stationary=True, style="logic"),
    _linear((6, 3), (6, 2), widths=(8, 8, 10, 20)),
    _linear((6, 3), (6, 2), widths=(4, 4, 7, 7)),
    _linear((6, 3), (6, 2), widths=(4, 4, 5, 5), shift=6),
    _linear((6, 2), (2, 2), widths=(1, 1, 3, 6), signed=False),
)

_BINARY, _TERNARY = Weights("binary", 1), Weights("ternary", 2)
_LOG, _FLOAT = Weights("log", 4), Weights("minifloat", 5, 2)
_XNOR = Weights("xnor", 1)

_KINDS = (
    *(
        _linear((6, 2), (6, 2), weights=weights, widths=(4, 0, 6, 16), stationary=stationary)
        for weights in (_BINARY, _TERNARY, _LOG, _FLOAT)
        for stationary in (False, True)
    ),
    _linear((6, 3), (6, 2), weights=_BINARY, widths=(4, 0, 6, 12), bias=False, levels=2),
    _linear((6, 3), (6, 3), weights=_TERNARY, widths=(4, 0, 6, 10), signed=False, shift=2),
    _linear((6, 6), (4, 2), weights=_LOG, widths=(4, 0, 6, 8), signed=False, rom=3),
    _linear((6, 6), (4, 4), weights=_FLOAT, widths=(4, 0, 6, 9), shift=1, bias=False, product=2),
    _linear((4, 4), (4, 4), weights=Weights("log", 2), widths=(1, 0, 3, 6)),
    # Signs times signs: popcounts of one, of few and of many.
    _linear((6, 1), (6, 2), weights=_XNOR, widths=(2, 0, 3, 5)),
    _linear((12, 6), (6, 2), weights=_XNOR, widths=(2, 0, 3, 6), levels=2),
    _linear((20, 20), (4, 1), weights=_XNOR, widths=(2, 0, 3, 9), shift=2, bias=False),
    _linear((14, 7), (6, 3), weights=_XNOR, widths=(2, 0, 3, 6), stationary=True, rom=2),
    _linear((9, 9), (2, 2), weights=_XNOR, widths=(2, 0, 2, 4)),
    # Block exponents of x, of the weights, of both; with other weights.
    _linear((6, 2), (6, 2), exponents=(2, 0), widths=(4, 4, 8, 14)),
    _linear((6, 3), (6, 2), exponents=(0, 2), widths=(4, 4, 8, 14), signed=False),
    _linear((8, 4), (6, 3), exponents=(2, 3), widths=(4, 4, 8, 20), stationary=True, shift=1),
    _linear((4, 4), (6, 2), exponents=(3, 2), widths=(4, 4, 8, 12), rom=3, product=2, levels=2),
    _linear((4, 1), (4, 4), exponents=(2, 1), widths=(3, 3, 8, 12), bias=False),
    _linear((4, 4), (4, 4), exponents=(1, 1), widths=(3, 3, 8, 12)),
    _linear((6, 2), (6, 2), exponents=(2, 0), weights=_BINARY, widths=(4, 0, 6, 12)),
    _linear((6, 3), (6, 2), exponents=(2, 0), weights=_FLOAT, widths=(4, 0, 6, 18)),
)

_PRODUCTS = (
    *(
        _product(weights, 5, signed=signed, negate=negate)
        for weights in (_BINARY, _TERNARY, _LOG, _FLOAT)
        for signed in (False, True)
        for negate in (False, True)
    ),
    _product(Weights(), 5),
    _product(Weights(width=5), 4, signed=False, out_width=6),
    *(_product(Weights(width=n), 5, signed=n != 2) for n in (1, 2, 3)),
    *(_product(Weights(width=5), n, signed=n != 2) for n in (1, 2, 3)),
    _product(Weights(width=3), 3),
    _product(_XNOR, 1),
    _product(_FLOAT, 5, out_width=6),
    _product(_LOG, 6, out_width=4, negate=True),
    _product(_TERNARY, 6, signed=False, out_width=4),
    _product(Weights("minifloat", 4, 1), 3),
    _product(Weights("minifloat", 3, 1), 1, signed=False),
)


def _shell(width: int, digits: int, depths: tuple[int, int], *, signed: bool = True) -> Case:
    """Three lanes whose graph is wires: y = Start + x, or Start - x."""
    lanes, digit_width = 3, -(-width // digits)
    starts, negative = [RANDOM.randint(-40, 40) for _ in range(lanes)], 0b010
    sum_width, y_width = 8 if digits > 1 else width + 8, width + 8
    # Digits of signed numbers come with their sign inverted.
    more = 1 << (width - 1) if signed and digits > 1 else 0

    def function(beat: Beat) -> Beat:
        numbers = [x + more for x in split(beat, lanes, width, signed)]
        # Terms have a sign: of whole numbers that of x, of digits a zero in front.
        return pack(
            [
                s - x if negative >> o & 1 else s + x
                for o, (s, x) in enumerate(zip(starts, numbers, strict=True))
            ],
            y_width,
        )

    term_width = digit_width + (digits > 1 or not signed)
    terms = [
        f"{{1'b0, d[{(o + 1) * digit_width - 1}:{o * digit_width}]}}"
        if term_width > digit_width
        else f"d[{(o + 1) * digit_width - 1}:{o * digit_width}]"
        for o in reversed(range(lanes))
    ]
    parameters: dict[str, int | str] = {
        "InLanes": lanes,
        "OutLanes": lanes,
        "InWidth": width,
        "InSigned": int(signed),
        "Digits": digits,
        "DigitWidth": digit_width,
        "TermWidth": term_width,
        "SumWidth": sum_width,
        "OutWidth": y_width,
        "Stages": 0,
        "InDepth": depths[0],
        "OutDepth": depths[1],
        "Negative": f"{lanes}'h{negative:x}",
        "Start": f"{lanes * sum_width}'h{pack(starts, sum_width):x}",
    }
    return Case(
        "chop_adder_shell",
        parameters,
        lambda: Digits(function, digits, *depths, 2),
        {**layer_ports(), "digits_o": "d", "terms_i": f"{{{', '.join(terms)}}}"},
        (Signal("x", lanes, width),),
        (Signal("y", lanes, y_width),),
        wires=(Signal("d", lanes, digit_width),),
    )


_SHELLS = (
    _shell(5, 1, (1, 2)),
    _shell(4, 1, (2, 1), signed=False),
    _shell(6, 3, (1, 2)),
    _shell(5, 2, (2, 3), signed=False),
    _shell(4, 4, (1, 1)),
    _shell(3, 2, (3, 4)),
)

_TIMES = tuple(
    _times(*widths) for widths in ((4, 5), (3, 3), (3, 6), (6, 2), (5, 1), (1, 1), (2, 3))
)

CASES = (*_SHELLS, *_TIMES, *_PRODUCTS, *_LINEAR, *_KINDS)
