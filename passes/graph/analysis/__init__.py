"""Analysis passes: what is known of a graph, written on its nodes, in its `info` or to a file."""

from chop.passes.graph.analysis.add_hardware import add_hardware_metadata_analysis_pass
from chop.passes.graph.analysis.add_metadata import (
    add_common_metadata_analysis_pass,
    add_software_metadata_analysis_pass,
)
from chop.passes.graph.analysis.check_integerizable import check_integerizable_analysis_pass
from chop.passes.graph.analysis.compare_fake_true import compare_fake_true_analysis_pass
from chop.passes.graph.analysis.init_metadata import init_metadata_analysis_pass
from chop.passes.graph.analysis.plot import plot_graph_analysis_pass
from chop.passes.graph.analysis.profile import profile_statistics_analysis_pass
from chop.passes.graph.analysis.report import report_graph_analysis_pass
from chop.passes.graph.analysis.report_numbers import report_numbers_analysis_pass
from chop.passes.graph.analysis.verify import verify_metadata_analysis_pass

__all__ = [
    "add_common_metadata_analysis_pass",
    "add_hardware_metadata_analysis_pass",
    "add_software_metadata_analysis_pass",
    "check_integerizable_analysis_pass",
    "compare_fake_true_analysis_pass",
    "init_metadata_analysis_pass",
    "plot_graph_analysis_pass",
    "profile_statistics_analysis_pass",
    "report_graph_analysis_pass",
    "report_numbers_analysis_pass",
    "verify_metadata_analysis_pass",
]
