"""design.json: what an emitted folder holds; simulator, synthesiser and reports read only this."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from chop.errors import DataError
from chop.formats.fixed import Fixed
from chop.formats.rounding import Floats, Ints

__all__ = ["FormatEntry", "InstanceEntry", "LayerEntry", "Manifest", "StreamEntry"]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FormatEntry(_Entry):
    """How a tensor is carried: value = integer * 2^-frac_width * scale.

    `scale` holds nothing (1), one factor, or one per channel, along the axis that has `trailing`
    axes behind it; each is the float64 nearest to the exact one. `text` is the format in words.
    `coded` streams carry codes of `width` bits of that format, {exponent, mantissa}, and not
    integers.
    """

    width: int
    frac_width: int
    signed: bool
    scale: tuple[float, ...] = ()
    trailing: int = 0
    text: str = ""
    coded: bool = False

    def fixed(self) -> Fixed:
        return Fixed(self.width, self.frac_width, self.signed)

    def from_integers(self, levels: Ints) -> Floats:
        """Returns the real values of [N, *shape] integers, the nearest float64.

        Raises DataError for codes.
        """
        if self.coded:
            raise DataError(f"codes of {self.text} are no integers; cast to fixed point first")
        values = self.fixed().from_integers(levels)
        factors: Floats = np.array(self.scale or (1.0,))
        reals: Floats = values * factors.reshape(-1, *([1] * self.trailing))
        return reals


class StreamEntry(_Entry):
    """One stream of the top: a port, or a signal between two instances.

    `signal` is the prefix of its signals in the top: a port has <signal>_data_i (an input) or
    <signal>_data_o (an output), an internal stream <signal>_data; likewise _valid and _ready.
    `layout` is the (C, H, W) whose channels-last order the stream has; None is row-major order.
    """

    name: str
    signal: str
    node: str
    shape: tuple[int, ...]
    format: FormatEntry
    lanes: int
    layout: tuple[int, int, int] | None = None

    @property
    def elements(self) -> int:
        """Elements per sample."""
        return math.prod(self.shape)

    @property
    def beats(self) -> int:
        """Beats per sample."""
        return self.elements // self.lanes

    @property
    def data_width(self) -> int:
        """Bits per beat."""
        return self.lanes * self.format.width


class LayerEntry(_Entry):
    """One instance of the top that came from an operator; `instance` is its name there.

    `luts` to `brams` estimate the instance; `stream_luts` and `stream_ffs` the FIFOs, converters
    and forks around it.
    """

    node: str
    instance: str
    operator: str
    module: str
    in_shape: tuple[int, ...]
    in_format: str
    out_shape: tuple[int, ...]
    out_format: str
    in_lanes: int
    out_lanes: int
    cycles: int
    first_output_cycle: int
    multipliers: int
    parameters: int
    macs: int
    luts: int
    ffs: int
    dsps: int
    brams: int
    stream_luts: int = 0
    stream_ffs: int = 0


class InstanceEntry(_Entry):
    """One instance of the top, FIFOs, forks and converters included.

    `node` is the layer that it computes, None for streams' own modules. `sources` are the instances
    and input ports whose streams it reads, in the order of its inputs.
    """

    name: str
    module: str
    node: str | None
    parameters: dict[str, int | str]
    sources: tuple[str, ...]


class Manifest(_Entry):
    """The whole of design.json.

    `drivers` names for every output port the instance, or input port, that drives it.
    """

    name: str
    top: str
    rounding: str
    inputs: tuple[StreamEntry, ...]
    outputs: tuple[StreamEntry, ...]
    streams: tuple[StreamEntry, ...]
    layers: tuple[LayerEntry, ...]
    instances: tuple[InstanceEntry, ...] = ()
    drivers: dict[str, str] = {}
    multipliers: int
    ideal_initiation_interval: int
    predicted_initiation_interval: int
    predicted_latency_cycles: int
    rtl: tuple[str, ...]
    testbench: tuple[str, ...]
    rom: tuple[str, ...]
    config_hash: str
    weights_hash: str

    @staticmethod
    def load(directory: Path) -> Manifest:
        """Reads <directory>/design.json. Raises DataError when it is missing or malformed."""
        path = directory / "design.json"
        try:
            return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DataError(
                f"no design in '{directory}': design.json is missing; emit one with 'chop emit'"
            ) from error
        except ValidationError as error:
            raise DataError(
                f"'{path}' is not a design manifest: {error.errors()[0]['msg']}"
            ) from error

    def to_json(self) -> str:
        """Returns the file's text, byte-stable."""
        return self.model_dump_json(indent=2) + "\n"
