"""The number formats, by the names that configurations use."""

from __future__ import annotations

from types import MappingProxyType

__all__ = ["FORMATS", "formats", "hardware_formats"]

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
