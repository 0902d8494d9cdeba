"""What a trial can be judged by: names, units, and which way is better."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from chop.errors import ConfigError, did_you_mean

__all__ = ["METRICS", "Metric", "find_metric", "measured_names", "shown"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a trial.

    Attributes:
        source: "labels" (the test set through the integer reference), "numbers" (bits), "hardware"
            (the schedule's prediction), "yosys", "nextpnr", "rtl" (measured).
        unit: "" for shares in 0..1 and counts.
    """

    name: str
    direction: Literal["maximize", "minimize"]
    source: Literal["labels", "numbers", "hardware", "yosys", "nextpnr", "rtl"]
    unit: str
    summary: str

    @property
    def measured(self) -> bool:
        return self.source in ("yosys", "nextpnr", "rtl")

    @property
    def share(self) -> bool:
        """Whether it is an accuracy, 0..1, of which a point is a hundredth."""
        return self.name in ("accuracy", "rtl_accuracy")


_ALL = (
    Metric("accuracy", "maximize", "labels", "", "of the integer reference"),
    Metric("loss", "minimize", "labels", "", "cross entropy of the integer reference's scores"),
    Metric("average_bits", "minimize", "numbers", "bits", "mean width of a weight"),
    Metric("sparsity", "maximize", "numbers", "", "share of the weights that are zero"),
    Metric("size", "minimize", "numbers", "bytes", "of all constants"),
    Metric("bit_ops", "minimize", "numbers", "", "multiplications times both widths, per sample"),
    Metric("energy", "minimize", "numbers", "nJ", "per sample, by the table in docs/search.md"),
    Metric("luts", "minimize", "hardware", "", "predicted"),
    Metric("logic", "minimize", "hardware", "", "predicted LUTs, were all products in LUTs"),
    Metric("ffs", "minimize", "hardware", "", "predicted"),
    Metric("dsps", "minimize", "hardware", "", "predicted"),
    Metric("brams", "minimize", "hardware", "", "predicted"),
    Metric("interval", "minimize", "hardware", "cycles", "between samples"),
    Metric("latency", "minimize", "hardware", "cycles", "to the first output"),
    Metric("yosys_luts", "minimize", "yosys", "", "after synthesis"),
    Metric("yosys_ffs", "minimize", "yosys", "", "after synthesis"),
    Metric("yosys_dsps", "minimize", "yosys", "", "after synthesis"),
    Metric("yosys_brams", "minimize", "yosys", "", "after synthesis"),
    Metric("fmax", "maximize", "nextpnr", "MHz", "after place and route"),
    Metric("rtl_accuracy", "maximize", "rtl", "", "of the simulated RTL"),
)

METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _ALL})


def find_metric(name: str, who: str) -> Metric:
    """Returns the metric of that name. Raises ConfigError with the nearest one."""
    if name not in METRICS:
        raise ConfigError(f"{who}: no metric '{name}'{did_you_mean(name, METRICS)}")
    return METRICS[name]


def measured_names(names: Iterable[str]) -> list[str]:
    """Returns those of the names that only tools can tell."""
    return [name for name in names if METRICS[name].measured]


def shown(name: str, value: float) -> str:
    """Returns the value as a person reads it."""
    metric = METRICS[name]
    if metric.share or name == "sparsity":
        return f"{100 * value:.2f} %"
    if metric.source == "hardware" or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.4g}"
