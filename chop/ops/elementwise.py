"""What the element-wise operators share: the parameters that every element-wise RTL module has."""

from __future__ import annotations

from typing import Any

from chop.ops.base import Build, Site

__all__ = ["elementwise_parameters", "flag"]


def flag(value: bool) -> str:
    """Returns a one-bit SystemVerilog constant."""
    return f"1'b{int(value)}"


def elementwise_parameters(site: Site[Any], build: Build) -> dict[str, int | str]:
    """Returns lanes, widths, shifts and rounding, from the input to the output of the site."""
    x, y = site.inputs[0].fixed, site.output.fixed
    shift = site.exact.fixed.frac_width - y.frac_width
    return {
        "Lanes": build.folding.out_lanes,
        "InWidth": x.width,
        "InSigned": flag(x.signed),
        "OutWidth": y.width,
        "OutSigned": flag(y.signed),
        "ShiftRight": max(shift, 0),
        "ShiftLeft": max(-shift, 0),
        "Rounding": site.rounding.code,
    }
