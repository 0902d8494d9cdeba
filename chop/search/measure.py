"""What tools say of one design: its area, its clock, the accuracy of its RTL."""

from __future__ import annotations

import torch

from chop.config.search import MeasureConfig
from chop.datasets.dataset import Labels
from chop.errors import ConfigError, VerifyError
from chop.flows.compile import Accelerator
from chop.flows.job import hit_rate
from chop.search.metrics import find_metric
from chop.synth.targets import find_target

__all__ = ["check_measure", "measure"]


def check_measure(table: MeasureConfig, has_labels: bool) -> None:
    """Raises ConfigError for a metric that no tool measures, or one that the target has not."""
    target = find_target(table.target)
    for name in table.metrics:
        metric = find_metric(name, "search.measure.metrics")
        if not metric.measured:
            raise ConfigError(
                f"search.measure.metrics: '{name}' is predicted in every trial, not measured; "
                "leave it out"
            )
        if metric.source == "nextpnr" and target.router is None:
            raise ConfigError(
                f"search.measure.metrics: target '{target.name}' has no 'fmax': {target.no_router}"
            )
        if metric.source == "rtl" and not has_labels:
            raise ConfigError("search.measure.metrics: 'rtl_accuracy' needs a [dataset] table")


def measure(
    design: Accelerator,
    table: MeasureConfig,
    inputs: tuple[torch.Tensor, ...],
    labels: Labels | None,
) -> dict[str, float]:
    """Returns the metrics that the table names.

    Raises VerifyError where the RTL differs from the integer reference, ToolError where a tool
    fails.
    """
    found: dict[str, float] = {}
    sources = {find_metric(name, "search.measure").source for name in table.metrics}
    if sources & {"yosys", "nextpnr"}:
        report = design.synthesize(table.target, "nextpnr" in sources)
        found |= {f"yosys_{name}": float(getattr(report, name)) for name in _RESOURCES}
        if report.fmax_mhz is not None:
            found["fmax"] = report.fmax_mhz
    if "rtl" in sources and labels is not None:
        count = table.samples or len(labels)
        run = design.simulate(tuple(x[:count] for x in inputs))
        if run.mismatches or run.deadlock:
            raise VerifyError(
                f"design '{design.manifest.name}': the RTL differs from the integer reference in "
                f"{run.mismatches} elements; this is a bug of chop, please report it"
            )
        found["rtl_accuracy"] = hit_rate(run.outputs[0], labels[:count])
    missing = [name for name in table.metrics if name not in found]
    if missing:
        raise VerifyError(f"design '{design.manifest.name}': no tool gave {', '.join(missing)}")
    return {name: found[name] for name in table.metrics}


_RESOURCES = ("luts", "ffs", "dsps", "brams")
