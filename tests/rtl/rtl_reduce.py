"""chop_reduce and chop_pool: their cycle-exact models, written from their headers, and cases."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from chop.ops.windows import WindowOrder, WindowShape, least_depth
from tests.rtl.rtl_case import Case, Cast, Signal, layer_ports
from tests.rtl.rtl_models import Beat, Expected, Model, Values, pack, split
from tests.rtl.rtl_windows import ParallelWindow, SerialWindow

_SUM, _MAX, _MIN = 0, 1, 2


@dataclass(frozen=True)
class Sizes:
    """What a sample is: outer x groups x inner x beats beats of taps x lanes elements."""

    kind: int
    taps: int
    lanes: int
    outer: int = 1
    groups: int = 1
    inner: int = 1
    beats: int = 1

    @property
    def stages(self) -> int:
        """Register stages before the result's, with two levels each."""
        return max(1, -(-(self.taps - 1).bit_length() // 2))

    def join(self, values: list[int]) -> int:
        if self.kind == _SUM:
            return sum(values)
        return max(values) if self.kind == _MAX else min(values)


@dataclass
class Reduced(Model):
    """Stages that hold beats, then the result's register."""

    sizes: Sizes
    cast: Cast
    stages: list[Beat | None] = field(default_factory=list)
    places: list[tuple[int, ...]] = field(default_factory=list)
    number: int = 0
    partial: dict[tuple[int, int], list[list[int]]] = field(default_factory=dict)
    result: Beat | None = None

    def __post_init__(self) -> None:
        s = self.sizes
        self.stages = [None] * s.stages
        self.places = list(itertools.product(*map(range, (s.outer, s.groups, s.inner, s.beats))))

    def ready(self, y_ready: int) -> bool:
        """Returns whether a beat is taken."""
        outer, _, inner, _ = self.places[self.number]
        last = (outer, inner) == (self.sizes.outer - 1, self.sizes.inner - 1)
        return None in self.stages or not last or self.result is None or bool(y_ready)

    def cycle(self, inputs: Values) -> Expected:
        taken = self.ready(inputs["y_ready"])
        out: Expected = {
            "x_ready": taken,
            "y_valid": self.result is not None,
            "y_data": self.result,
        }
        outer, group, inner, beat = self.places[self.number]
        last = (outer, inner) == (self.sizes.outer - 1, self.sizes.inner - 1)
        free = self.result is None or bool(inputs["y_ready"])
        if free:
            self.result = None
        moved = self.stages[-1]
        if moved is not None and (free or not last):
            s = self.sizes
            elements = split(moved, s.taps * s.lanes, self.cast.in_width, self.cast.in_signed)
            own = self.partial.setdefault((group, beat), [[] for _ in range(s.lanes)])
            for lane in range(s.lanes):
                own[lane] += elements[lane :: s.lanes]
            if last:
                values = [self.cast.finish(s.join(elements)) for elements in own]
                self.result = pack(values, self.cast.out_width)
                del self.partial[group, beat]
            self.number = (self.number + 1) % len(self.places)
            self.stages[-1] = None
        for k in range(len(self.stages) - 1, 0, -1):
            if self.stages[k] is None:
                self.stages[k], self.stages[k - 1] = self.stages[k - 1], None
        if taken and inputs["x_valid"]:
            self.stages[0] = inputs["x_data"]
        return out


def _values(sizes: Sizes, cast: Cast, sum_width: int, sum_signed: bool) -> dict[str, int | str]:
    return {
        "Kind": sizes.kind,
        **cast.parameters(),
        "SumWidth": sum_width,
        "SumSigned": int(sum_signed),
    }


def _reduce(sizes: Sizes, cast: Cast, sum_width: int = 12, sum_signed: bool = True) -> Case:
    s = sizes
    parameters = {
        "Taps": s.taps,
        "Lanes": s.lanes,
        "OuterSteps": s.outer,
        "Groups": s.groups,
        "InnerSteps": s.inner,
        "Beats": s.beats,
        **_values(sizes, cast, sum_width, sum_signed),
    }
    x = Signal("x", s.taps * s.lanes, cast.in_width)
    y = Signal("y", s.lanes, cast.out_width)
    return Case("chop_reduce", parameters, lambda: Reduced(sizes, cast), layer_ports(), (x,), (y,))


@dataclass
class Pooled(Model):
    """The windows, which wait for the reduction behind them."""

    windows: SerialWindow | ParallelWindow
    reduced: Reduced

    def cycle(self, inputs: Values) -> Expected:
        held, ready = self.windows.held, self.reduced.ready(inputs["y_ready"])
        behind = {"x_valid": held is not None, "x_data": held or 0, "y_ready": inputs["y_ready"]}
        before = self.windows.cycle({**inputs, "y_ready": ready})
        out = self.reduced.cycle(behind)
        return {"x_ready": before["x_ready"], "y_valid": out["y_valid"], "y_data": out["y_data"]}


def _pool(
    kind: int, shape: WindowShape, lanes: int, parallel: bool, cast: Cast, pad: int = 0
) -> Case:
    order = WindowOrder.PARALLEL if parallel else WindowOrder.CHANNELS
    depth, taps = least_depth(shape, lanes, order), shape.kernel[0] * shape.kernel[1]
    parameters: dict[str, int | str] = {
        **shape.parameters(lanes, order, depth),
        **_values(Sizes(kind, 1, lanes), cast, 12, True),
        "PadValue": f"64'h{pad & ((1 << 64) - 1):x}",
        "ResultWidth": cast.out_width,
        "ResultSigned": int(cast.out_signed),
    }
    parameters["OutWidth"] = shape.out[1]
    del parameters["ChannelOuter"], parameters["OutSigned"]

    def model() -> Model:
        word = pack([pad] * lanes, cast.in_width)
        common = (shape, shape.beats(lanes), lanes * cast.in_width, word, depth)
        windows = ParallelWindow(*common) if parallel else SerialWindow(*common, channel_outer=True)
        sizes = Sizes(kind, taps, lanes) if parallel else Sizes(kind, 1, lanes, inner=taps)
        return Pooled(windows, Reduced(sizes, cast))

    x, y = Signal("x", lanes, cast.in_width), Signal("y", lanes, cast.out_width)
    return Case("chop_pool", parameters, model, layer_ports(), (x,), (y,))


_SIGNED, _UNSIGNED = Cast(4, True, 12, True), Cast(3, False, 3, False)
_ROUNDED = Cast(4, True, 4, True, right=2, rounding=2)
_SAME = Cast(3, True, 3, True)
_OVER = WindowShape.of((4, 5, 4), (3, 3), (2, 1), padding=(1, 1, 1, 1))
_LINE = WindowShape.of((2, 1, 7), (1, 2), (1, 2), ceil_mode=True)

CASES = (
    # Everything at once, one beat, and every place of the partial results.
    _reduce(Sizes(_SUM, 4, 1), _SIGNED),
    _reduce(Sizes(_MAX, 3, 2), _UNSIGNED),
    _reduce(Sizes(_SUM, 9, 2, inner=3), _SIGNED),
    _reduce(Sizes(_SUM, 1, 2, inner=4, beats=3), _ROUNDED),
    _reduce(Sizes(_MIN, 1, 1, inner=3, beats=2), _SAME),
    _reduce(Sizes(_SUM, 2, 1, 2, 3, 2), _SIGNED),
    _reduce(Sizes(_MAX, 1, 1, 3, 2), _SAME),
    _reduce(Sizes(_MAX, 1, 2, 2, 3, 2, 2), _SAME),
    _reduce(Sizes(_SUM, 1, 1, 2, 2, 3, 3), Cast(3, False, 6, False), 6, sum_signed=False),
    _pool(_MAX, _OVER, 2, False, _SAME, -4),
    _pool(_MAX, _OVER, 4, True, _SAME, -4),
    _pool(_SUM, _OVER, 1, True, _ROUNDED),
    _pool(_SUM, _LINE, 1, False, _SIGNED),
    _pool(_MAX, _LINE, 2, False, _UNSIGNED),
)
