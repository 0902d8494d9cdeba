"""The number formats, by the names that configurations use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType

from chop.errors import ConfigError, FormatError, did_you_mean
from chop.formats.base import Format, Options
from chop.formats.binary import Binary
from chop.formats.binary_residual import BinaryResidual
from chop.formats.block_fp import BlockFp
from chop.formats.block_log import BlockLog
from chop.formats.block_minifloat import BlockMinifloat
from chop.formats.fixed import Fixed
from chop.formats.log import Log
from chop.formats.minifloat_denorm import MinifloatDenorm
from chop.formats.minifloat_ieee import MinifloatIeee
from chop.formats.mxint import MxInt
from chop.formats.scaled import Scaled
from chop.formats.ternary import Ternary

__all__ = ["FORMATS", "format_class", "formats", "hardware_formats", "preset_options"]
__all__ += ["required_options"]


@dataclass(frozen=True, slots=True)
class _Named:
    """A format under a name; `preset` is what the name says of the options."""

    format: type[Format]
    summary: str
    preset: Options = field(default_factory=Options)


def _plain(*formats: type[Format]) -> dict[str, _Named]:
    return {format.kind: _Named(format, format.summary) for format in formats}


def _float(
    width: int, exponent_width: int, bias: int, summary: str, reserved: str | None = None
) -> _Named:
    preset = Options(
        width=width, exponent_width=exponent_width, exponent_bias=bias, reserved=reserved
    )
    return _Named(MinifloatIeee, summary, preset)


_FORMATS: Mapping[str, _Named] = {
    "integer": _Named(Fixed, Fixed.summary),
    "fixed": _Named(Fixed, "another name of integer"),
    **_plain(Scaled, Binary, BinaryResidual, Ternary, Log),
    "power_of_two": _Named(Log, "another name of log"),
    **_plain(MinifloatDenorm, MinifloatIeee),
    "fp8_e4m3": _float(8, 4, 7, "OCP fp8 e4m3 (up to 448)", "code"),
    "fp8_e5m2": _float(8, 5, 15, "OCP fp8 e5m2 (up to 57344)"),
    "fp6_e3m2": _float(6, 3, 3, "OCP fp6 e3m2 (up to 28)", "none"),
    "fp6_e2m3": _float(6, 2, 1, "OCP fp6 e2m3 (up to 7.5)", "none"),
    "fp4_e2m1": _float(4, 2, 1, "OCP fp4 e2m1 (up to 6)", "none"),
    "fp16": _float(16, 5, 15, "IEEE 754 half precision, saturating"),
    "bf16": _float(16, 8, 127, "bfloat16, saturating"),
    "fp32": _float(32, 8, 127, "IEEE 754 single precision, saturating"),
    **_plain(BlockFp, BlockMinifloat, BlockLog, MxInt),
}

_FLOAT = "NA"

# What `chop list formats` prints: name and summary.
FORMATS: Mapping[str, str] = MappingProxyType(
    {name: named.summary for name, named in _FORMATS.items()}
    | {_FLOAT: "floating point: the layer is left as it is (refused at emit)"}
)


def formats() -> tuple[str, ...]:
    """Returns the names."""
    return tuple(FORMATS)


def hardware_formats(role: str) -> tuple[str, ...]:
    """Returns the names of the formats with hardware for "weight", "bias" or "data".

    Second names and presets are left out.
    """
    named = ((name, named.format) for name, named in _FORMATS.items())
    return tuple(n for n, format in named if n == format.kind and role in format.hardware)


def format_class(name: str) -> type[Format]:
    """Returns the class of the format of that name.

    Raises ConfigError for an unknown name, and for "NA", which is no format.
    """
    return _named(name).format


def preset_options(name: str, options: Options) -> Options:
    """Returns the options with what a preset's name ("fp8_e4m3") stands for filled in.

    Raises FormatError for an option that says something else than the name, ConfigError for an
    unknown name.
    """
    preset = _named(name).preset
    filled = options
    for entry in fields(Options):
        meant, default = getattr(preset, entry.name), entry.default
        if meant == default:
            continue
        given = getattr(options, entry.name)
        if given not in (default, meant):
            raise FormatError(
                f"{name}: {entry.name} is {meant}, got {given}; leave it out, or name the format "
                f"{_named(name).format.kind}"
            )
        filled = replace(filled, **{entry.name: meant})
    return filled


def required_options(name: str) -> frozenset[str]:
    """Returns the options that the format needs and its name does not say."""
    named = _named(name)
    return frozenset(o for o in named.format.required if getattr(named.preset, o) is None)


def _named(name: str) -> _Named:
    if name == _FLOAT:
        raise ConfigError("format 'NA' leaves a layer in floating point: it has no levels")
    if name not in _FORMATS:
        raise ConfigError(f"no format '{name}'{did_you_mean(name, FORMATS)}")
    return _FORMATS[name]
