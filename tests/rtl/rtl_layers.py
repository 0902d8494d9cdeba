"""Cases of the element-wise layers."""

from __future__ import annotations

from collections.abc import Callable

from tests.rtl.rtl_case import Case, Cast, Signal, element, layer_ports, rom_file
from tests.rtl.rtl_models import Beat, Elastic, Register, pack, round_saturate, split


def _elementwise(
    module: str, cast: Cast, lanes: int, exact: Callable[[int], int], **extra: int | str
) -> Case:
    def function(beat: Beat) -> Beat:
        elements = split(beat, lanes, cast.in_width, cast.in_signed)
        return pack([cast.finish(exact(v)) for v in elements], cast.out_width)

    x, y = Signal("x", lanes, cast.in_width), Signal("y", lanes, cast.out_width)
    params = {"Lanes": lanes, **cast.parameters(), **extra}
    return Case(module, params, lambda: Register(function), layer_ports(), (x,), (y,))


def _cast(cast: Cast, lanes: int = 2) -> Case:
    return _elementwise("chop_cast", cast, lanes, lambda v: v)


def _relu(cast: Cast, lanes: int = 2) -> Case:
    return _elementwise("chop_relu", cast, lanes, lambda v: max(v, 0))


def _leaky(cast: Cast, slope_shift: int) -> Case:
    def exact(v: int) -> int:
        return v << slope_shift if v >= 0 else v

    return _elementwise("chop_leaky_relu", cast, 2, exact, SlopeShift=slope_shift)


def _clamp(cast: Cast, low: int | None, high: int | None) -> Case:
    def exact(v: int) -> int:
        v = v if low is None else max(v, low)
        return v if high is None else min(v, high)

    def literal(v: int | None) -> str:
        return f"64'h{(v or 0) & ((1 << 64) - 1):016x}"

    return _elementwise(
        "chop_clamp",
        cast,
        2,
        exact,
        HasLow=int(low is not None),
        Low=literal(low),
        HasHigh=int(high is not None),
        High=literal(high),
    )


def _affine(
    cast: Cast,
    lanes: int,
    channels: int,
    *,
    weight_width: int = 4,
    bias_width: int = 6,
    shift: int = 0,
    has_weight: bool = True,
    has_bias: bool = True,
) -> Case:
    beats = channels // lanes
    weight = [element(weight_width, True) if has_weight else 1 for _ in range(channels)]
    bias = [element(bias_width, True) if has_bias else 0 for _ in range(channels)]
    roms: dict[str, str] = {}
    params: dict[str, int | str] = {
        "Lanes": lanes,
        "Channels": channels,
        **cast.parameters(),
        "WeightWidth": weight_width,
        "BiasWidth": bias_width,
        "ProductShift": shift,
        "HasWeight": int(has_weight),
        "HasBias": int(has_bias),
    }
    for kind, used, values, width in (
        ("Weight", has_weight, weight, weight_width),
        ("Bias", has_bias, bias, bias_width),
    ):
        if used:
            words = [pack(values[k * lanes :][:lanes], width) for k in range(beats)]
            params[f"{kind}File"], more = rom_file(kind[0].lower(), words, lanes * width)
            roms |= more

    def function(position: int, beat: Beat) -> Beat:
        elements = split(beat, lanes, cast.in_width, cast.in_signed)
        start = position * lanes
        exact = [
            ((v * weight[start + k]) << shift) + bias[start + k] for k, v in enumerate(elements)
        ]
        return pack([cast.finish(v) for v in exact], cast.out_width)

    x, y = Signal("x", lanes, cast.in_width), Signal("y", lanes, cast.out_width)
    return Case(
        "chop_channel_affine",
        params,
        lambda: Elastic(function, beats),
        layer_ports(),
        (x,),
        (y,),
        roms=roms,
    )


def _prelu(cast: Cast, lanes: int, channels: int, slope_shift: int, width: int = 4) -> Case:
    weight = [element(width, True) for _ in range(channels)]
    words = [pack(weight[k * lanes :][:lanes], width) for k in range(channels // lanes)]
    file, roms = rom_file("w", words, lanes * width)

    def function(position: int, beat: Beat) -> Beat:
        elements = split(beat, lanes, cast.in_width, cast.in_signed)
        own = weight[position * lanes :][:lanes]
        exact = [v << slope_shift if v >= 0 else v * w for v, w in zip(elements, own, strict=True)]
        return pack([cast.finish(v) for v in exact], cast.out_width)

    x, y = Signal("x", lanes, cast.in_width), Signal("y", lanes, cast.out_width)
    own = {"Channels": channels, "WeightWidth": width, "SlopeShift": slope_shift}
    params: dict[str, int | str] = {
        "Lanes": lanes,
        **cast.parameters(),
        **own,
        "WeightFile": file,
    }
    model = lambda: Elastic(function, channels // lanes)  # noqa: E731
    return Case("chop_prelu", params, model, layer_ports(), (x,), (y,), roms=roms)


def _add(
    a: tuple[int, bool, int],
    b: tuple[int, bool, int],
    out: tuple[int, bool],
    *,
    negate: bool = False,
    right: int = 0,
    rounding: int = 0,
) -> Case:
    """Width, signedness and left shift of a and b; width and signedness of y."""
    lanes = 2

    def function(a_beat: Beat, b_beat: Beat) -> Beat:
        pairs = zip(split(a_beat, lanes, *a[:2]), split(b_beat, lanes, *b[:2]), strict=True)
        sums = [(u << a[2]) + (-1 if negate else 1) * (v << b[2]) for u, v in pairs]
        return pack([round_saturate(s, right, 0, rounding, *out) for s in sums], out[0])

    params = {
        "Lanes": lanes,
        "AWidth": a[0],
        "ASigned": int(a[1]),
        "BWidth": b[0],
        "BSigned": int(b[1]),
        "AShiftLeft": a[2],
        "BShiftLeft": b[2],
        "BNegate": int(negate),
        "OutWidth": out[0],
        "OutSigned": int(out[1]),
        "ShiftRight": right,
        "Rounding": rounding,
    }
    sources = (Signal("a", lanes, a[0]), Signal("b", lanes, b[0]))
    return Case(
        "chop_add",
        params,
        lambda: Register(function, ("a", "b")),
        layer_ports("ab"),
        sources,
        (Signal("y", lanes, out[0]),),
    )


_SIGNED = Cast(8, True, 5, True, 2)
_UNSIGNED = Cast(8, False, 5, False, 3, 0, 2)

CASES = (
    _cast(_SIGNED),
    _cast(_UNSIGNED, 1),
    _cast(Cast(4, True, 8, True, left=2), 3),
    _relu(Cast(8, True, 5, False, 2)),
    _relu(Cast(8, True, 8, True)),
    _relu(Cast(8, False, 5, True, 1, 0, 1)),
    _relu(Cast(4, True, 8, False, left=3)),
    _leaky(Cast(8, True, 8, True, 3), 3),
    _leaky(Cast(8, True, 6, True, 5, 0, 2), 2),
    _leaky(Cast(6, False, 6, True, 4, 0, 1), 2),
    _leaky(Cast(6, True, 8, True), 0),
    _clamp(Cast(8, True, 8, True), -5, 37),
    _clamp(Cast(8, True, 5, False, 1), 0, None),
    _clamp(Cast(8, True, 8, True, 1, 0, 2), None, 20),
    _clamp(Cast(8, False, 6, False, 2, 0, 1), 9, 200),
    _clamp(Cast(6, True, 8, True), -40, 100),
    _clamp(Cast(6, True, 8, True), 60, 100),
    _clamp(Cast(6, True, 8, True), 10, -10),
    _clamp(Cast(6, False, 10, True), -(1 << 40), 1 << 40),
    _clamp(Cast(6, True, 8, True, left=1), None, None),
    _affine(Cast(6, True, 8, True, 2), 2, 6),
    _affine(Cast(6, False, 6, False, 3, 0, 1), 2, 4, shift=1),
    _affine(Cast(6, True, 6, True, 3, 0, 2), 3, 3),
    _affine(Cast(6, True, 8, True), 2, 6, has_weight=False),
    _affine(Cast(6, False, 8, True), 1, 5, has_bias=False),
    _affine(Cast(6, False, 8, True, left=1), 2, 6, has_weight=False, shift=2),
    _affine(Cast(6, False, 8, True), 2, 2, has_weight=False, has_bias=False),
    _affine(Cast(4, True, 12, True), 2, 4, bias_width=14),
    _prelu(Cast(6, True, 8, True, 2), 2, 6, 3),
    _prelu(Cast(5, True, 9, False, 1, 0, 2), 2, 2, 6, 3),
    _prelu(Cast(5, False, 8, True, left=1), 1, 3, 0),
    _add((5, True, 0), (5, True, 0), (6, True)),
    _add((5, True, 2), (6, False, 0), (6, True), right=2),
    _add((5, False, 0), (4, True, 3), (6, False), negate=True, right=1, rounding=2),
    _add((5, False, 1), (5, False, 0), (4, False), negate=True, right=1, rounding=1),
)
