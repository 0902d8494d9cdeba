"""Every tested module, in every tested shape."""

from __future__ import annotations

from tests.rtl import (
    rtl_bins,
    rtl_casts,
    rtl_depthwise,
    rtl_layers,
    rtl_linear,
    rtl_moves,
    rtl_operands,
    rtl_reduce,
    rtl_streams,
    rtl_windows,
)

CASES = (
    *rtl_streams.CASES,
    *rtl_linear.CASES,
    *rtl_layers.CASES,
    *rtl_casts.CASES,
    *rtl_windows.CASES,
    *rtl_depthwise.CASES,
    *rtl_moves.CASES,
    *rtl_operands.CASES,
    *rtl_reduce.CASES,
    *rtl_bins.CASES,
)
