"""The passes one by one, as MASE users know them: a model in two precisions, one of them emitted.

.venv/bin/python examples/passes.py
"""

import torch

from chop import MaseGraph
from chop.models import JSC_Three_Linear_Layers
from chop.passes.graph.analysis import (
    add_common_metadata_analysis_pass,
    add_hardware_metadata_analysis_pass,
    add_software_metadata_analysis_pass,
    init_metadata_analysis_pass,
    report_graph_analysis_pass,
)
from chop.passes.graph.transforms import (
    emit_bram_transform_pass,
    emit_internal_rtl_transform_pass,
    emit_verilog_tb_transform_pass,
    emit_verilog_top_transform_pass,
    quantize_transform_pass,
)

torch.manual_seed(0)
x = torch.randn(64, 16)

graph = MaseGraph(JSC_Three_Linear_Layers().eval())
graph = init_metadata_analysis_pass(graph, None)
graph = add_common_metadata_analysis_pass(graph, {"dummy_in": {"x": x}})
graph = add_software_metadata_analysis_pass(graph, None)

for weight_width in (4, 8):
    config = {
        "by": "type",
        "default": {"config": {"name": None}},
        "linear": {
            "config": {
                "name": "integer",
                "data_in_width": 8,
                "data_in_frac_width": "auto",
                "weight_width": weight_width,
                "weight_frac_width": "auto",
                "bias_width": 16,
                "bias_frac_width": "auto",
            }
        },
        "batch_norm": {
            "config": {
                "name": "integer",
                "data_in_width": 8,
                "data_in_frac_width": 5,
                "weight_width": 8,
                "weight_frac_width": 6,
                "bias_width": 8,
                "bias_frac_width": 6,
            }
        },
    }
    # The graph itself is never changed.
    candidate = quantize_transform_pass(graph, config)

candidate = add_hardware_metadata_analysis_pass(candidate, {"target_initiation_interval": 16})
candidate = report_graph_analysis_pass(candidate, {"show": True})

emitted = {"project_dir": "build/jsc_by_hand"}
for emit in (
    emit_verilog_top_transform_pass,
    emit_internal_rtl_transform_pass,
    emit_bram_transform_pass,
    emit_verilog_tb_transform_pass,
):
    candidate = emit(candidate, emitted)
print(f"emitted {emitted['project_dir']}; now: make sim BUILD={emitted['project_dir']}")
