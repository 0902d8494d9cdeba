"""chop_bins: its cycle-exact model, written from docs/streams.md, and cases."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.rtl.rtl_case import Case, Cast, Signal, layer_ports
from tests.rtl.rtl_models import Beat, Expected, Model, Values, pack, split

_SUM, _MAX = 0, 1


@dataclass(frozen=True)
class Sizes:
    """An axis of `size` positions of `beats` beats each, of which `bins` are made."""

    kind: int
    size: int
    bins: int
    beats: int
    lanes: int

    def of(self, position: int) -> list[int]:
        """Returns the bins that a position belongs to."""
        return [
            i
            for i in range(self.bins)
            # floor(i n / o) <= position < ceil((i + 1) n / o), times o.
            if i * self.size < (position + 1) * self.bins
            and position * self.bins < (i + 1) * self.size
        ]


@dataclass
class Binned(Model):
    """A stage that holds a beat, then the result's register."""

    sizes: Sizes
    cast: Cast
    number: int = 0
    stage: Beat | None = None
    result: Beat | None = None
    gathered: dict[tuple[int, int], list[list[int]]] = field(default_factory=dict)

    def _completed(self, position: int) -> int | None:
        """Returns the bin that ends with a position."""
        bins = self.sizes.of(position)
        later = self.sizes.of(position + 1) if position + 1 < self.sizes.size else []
        ended = [i for i in bins if i not in later]
        return ended[0] if ended else None

    def cycle(self, inputs: Values) -> Expected:
        s, free = self.sizes, self.result is None or bool(inputs["y_ready"])
        position, beat = divmod(self.number, s.beats)
        done = self._completed(position)
        ready = self.stage is None or done is None or free
        out: Expected = {
            "x_ready": ready,
            "y_valid": self.result is not None,
            "y_data": self.result,
        }
        if free:
            self.result = None
        if self.stage is not None and ready:
            elements = split(self.stage, s.lanes, self.cast.in_width, self.cast.in_signed)
            for i in s.of(position):
                own = self.gathered.setdefault((i, beat), [[] for _ in elements])
                for lane, element in zip(own, elements, strict=True):
                    lane.append(element)
            if done is not None:
                join = sum if s.kind == _SUM else max
                lanes = self.gathered.pop((done, beat))
                values = [self.cast.finish(join(lane)) for lane in lanes]
                self.result = pack(values, self.cast.out_width)
            self.number = (self.number + 1) % (s.size * s.beats)
            self.stage = None
        if ready and inputs["x_valid"]:
            self.stage = inputs["x_data"]
        return out


def _bins(sizes: Sizes, cast: Cast, sum_width: int = 7, sum_signed: bool = True) -> Case:
    parameters = {
        "Kind": sizes.kind,
        "Size": sizes.size,
        "Bins": sizes.bins,
        "Beats": sizes.beats,
        "Lanes": sizes.lanes,
        **cast.parameters(),
        "SumWidth": sum_width,
        "SumSigned": int(sum_signed),
    }
    x = Signal("x", sizes.lanes, cast.in_width)
    y = Signal("y", sizes.lanes, cast.out_width)
    return Case("chop_bins", parameters, lambda: Binned(sizes, cast), layer_ports(), (x,), (y,))


_SIGNED, _ROUNDED = Cast(4, True, 7, True), Cast(4, True, 4, True, right=2, rounding=2)
_SAME, _UNSIGNED = Cast(3, True, 3, True), Cast(3, False, 5, False)

CASES = (
    # One beat a position, two, and more; every place a bin can begin and end at.
    _bins(Sizes(_SUM, 5, 3, 1, 2), _SIGNED),
    _bins(Sizes(_SUM, 7, 4, 2, 1), _ROUNDED),
    _bins(Sizes(_SUM, 7, 3, 3, 2), _UNSIGNED, 5, sum_signed=False),
    _bins(Sizes(_MAX, 5, 2, 1, 1), _SAME),
    _bins(Sizes(_MAX, 9, 7, 2, 2), _SAME),
    _bins(Sizes(_MAX, 5, 3, 5, 1), Cast(3, False, 3, False)),
    # Bins that share nothing, one for all, one for each.
    _bins(Sizes(_SUM, 6, 3, 2, 1), _SIGNED),
    _bins(Sizes(_MAX, 3, 1, 2, 1), _SAME),
    _bins(Sizes(_SUM, 3, 3, 1, 1), _SIGNED),
)
