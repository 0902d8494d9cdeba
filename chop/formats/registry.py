"""The number formats, by the names that configurations use."""

from __future__ import annotations

from types import MappingProxyType

from chop.formats.base import Format, Options

__all__ = ["FORMATS", "format_class", "formats", "hardware_formats", "preset_options"]

FORMATS = MappingProxyType(
    {
        "integer": "fixed point: k * 2^-frac_width, k an integer of width bits",
        "fixed": "another name of integer",
        "NA": "floating point: the layer is left as it is (refused at emit)",
    }
)


def formats() -> tuple[str, ...]:
    """Returns the names."""
    return tuple(FORMATS)


def hardware_formats(role: str) -> tuple[str, ...]:
    """Returns the names of the formats with hardware for "weight", "bias" or "data"."""
    return ("fixed", "scaled_integer")


def format_class(name: str) -> type[Format]:
    """Returns the class of the format of that name."""
    from chop.formats.fixed import Fixed
    from chop.formats.scaled import Scaled

    return Scaled if name == "scaled_integer" else Fixed


def preset_options(name: str, options: Options) -> Options:
    """Returns the options with what a preset's name ("fp8_e4m3") stands for filled in."""
    return options
