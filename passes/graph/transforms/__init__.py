"""Transform passes: a new graph from a graph, or files from a graph."""

from chop.passes.graph.transforms.channel_multiplier import channel_multiplier_transform_pass
from chop.passes.graph.transforms.correct_bias import correct_bias_transform_pass
from chop.passes.graph.transforms.emit import (
    emit_bram_transform_pass,
    emit_internal_rtl_transform_pass,
    emit_verilog_tb_transform_pass,
    emit_verilog_top_transform_pass,
)
from chop.passes.graph.transforms.emit_pytorch import emit_pytorch_transform_pass
from chop.passes.graph.transforms.equalize import equalize_transform_pass
from chop.passes.graph.transforms.fake_to_true import fake_to_true_transform_pass
from chop.passes.graph.transforms.flatten_convolution import flatten_convolution_transform_pass
from chop.passes.graph.transforms.float_to_fake import float_to_fake_transform_pass
from chop.passes.graph.transforms.fold_batch_norm import fold_batch_norm_transform_pass
from chop.passes.graph.transforms.learn_rounding import learn_rounding_transform_pass
from chop.passes.graph.transforms.prune import prune_transform_pass
from chop.passes.graph.transforms.quantize import quantize_transform_pass
from chop.passes.graph.transforms.refresh import refresh_metadata_transform_pass
from chop.passes.graph.transforms.share_weights import share_weights_transform_pass
from chop.passes.graph.transforms.svd_low_rank import svd_low_rank_transform_pass

__all__ = [
    "channel_multiplier_transform_pass",
    "correct_bias_transform_pass",
    "emit_bram_transform_pass",
    "emit_internal_rtl_transform_pass",
    "emit_pytorch_transform_pass",
    "emit_verilog_tb_transform_pass",
    "emit_verilog_top_transform_pass",
    "equalize_transform_pass",
    "fake_to_true_transform_pass",
    "flatten_convolution_transform_pass",
    "float_to_fake_transform_pass",
    "fold_batch_norm_transform_pass",
    "learn_rounding_transform_pass",
    "prune_transform_pass",
    "quantize_transform_pass",
    "refresh_metadata_transform_pass",
    "share_weights_transform_pass",
    "svd_low_rank_transform_pass",
]
