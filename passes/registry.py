"""The passes by name: one table for Python, TOML and `chop list passes`."""

from __future__ import annotations

import importlib
from types import MappingProxyType
from typing import cast

from chop.errors import ConfigError, did_you_mean
from chop.passes.contract import Pass

__all__ = ["PASSES", "resolve"]

_ANALYSIS = "chop.passes.graph.analysis"
_TRANSFORMS = "chop.passes.graph.transforms"

PASSES = MappingProxyType(
    {
        "init_metadata": f"{_ANALYSIS}.init_metadata:init_metadata_analysis_pass",
        "add_common_metadata": f"{_ANALYSIS}.add_metadata:add_common_metadata_analysis_pass",
        "add_software_metadata": f"{_ANALYSIS}.add_metadata:add_software_metadata_analysis_pass",
        "add_hardware_metadata": f"{_ANALYSIS}.add_hardware:add_hardware_metadata_analysis_pass",
        "verify_metadata": f"{_ANALYSIS}.verify:verify_metadata_analysis_pass",
        "report_graph": f"{_ANALYSIS}.report:report_graph_analysis_pass",
        "report_numbers": f"{_ANALYSIS}.report_numbers:report_numbers_analysis_pass",
        "profile_statistics": f"{_ANALYSIS}.profile:profile_statistics_analysis_pass",
        "plot_graph": f"{_ANALYSIS}.plot:plot_graph_analysis_pass",
        "channel_multiplier": (
            f"{_TRANSFORMS}.channel_multiplier:channel_multiplier_transform_pass"
        ),
        "fold_batch_norm": f"{_TRANSFORMS}.fold_batch_norm:fold_batch_norm_transform_pass",
        "flatten_convolution": (
            f"{_TRANSFORMS}.flatten_convolution:flatten_convolution_transform_pass"
        ),
        "svd_low_rank": f"{_TRANSFORMS}.svd_low_rank:svd_low_rank_transform_pass",
        "equalize": f"{_TRANSFORMS}.equalize:equalize_transform_pass",
        "quantize": f"{_TRANSFORMS}.quantize:quantize_transform_pass",
        "prune": f"{_TRANSFORMS}.prune:prune_transform_pass",
        "share_weights": f"{_TRANSFORMS}.share_weights:share_weights_transform_pass",
        "refresh_metadata": f"{_TRANSFORMS}.refresh:refresh_metadata_transform_pass",
        "float_to_fake": f"{_TRANSFORMS}.float_to_fake:float_to_fake_transform_pass",
        "learn_rounding": f"{_TRANSFORMS}.learn_rounding:learn_rounding_transform_pass",
        "correct_bias": f"{_TRANSFORMS}.correct_bias:correct_bias_transform_pass",
        "check_integerizable": f"{_ANALYSIS}.check_integerizable:check_integerizable_analysis_pass",
        "compare_fake_true": f"{_ANALYSIS}.compare_fake_true:compare_fake_true_analysis_pass",
        "fake_to_true": f"{_TRANSFORMS}.fake_to_true:fake_to_true_transform_pass",
        "emit_pytorch": f"{_TRANSFORMS}.emit_pytorch:emit_pytorch_transform_pass",
        "emit_verilog_top": f"{_TRANSFORMS}.emit:emit_verilog_top_transform_pass",
        "emit_internal_rtl": f"{_TRANSFORMS}.emit:emit_internal_rtl_transform_pass",
        "emit_bram": f"{_TRANSFORMS}.emit:emit_bram_transform_pass",
        "emit_verilog_tb": f"{_TRANSFORMS}.emit:emit_verilog_tb_transform_pass",
    }
)


def resolve(name: str) -> Pass:
    """Returns the pass of that name. Raises ConfigError with the nearest one."""
    try:
        module, function = PASSES[name].split(":")
    except KeyError:
        raise ConfigError(f"no pass '{name}'{did_you_mean(name, PASSES)}") from None
    return cast(Pass, getattr(importlib.import_module(module), function))
