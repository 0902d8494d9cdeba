"""The typed metadata of a node, under the one key `node.meta["mase"]`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from chop.errors import PassOrderError
from chop.ir.tensor_type import Parameter, TensorType

if TYPE_CHECKING:
    from torch.fx import Node

__all__ = [
    "KEY",
    "CommonMeta",
    "Cost",
    "Folding",
    "HardwareMeta",
    "NodeMeta",
    "SoftwareMeta",
    "TensorStatistics",
    "common_of",
    "hardware_of",
    "meta_of",
    "software_of",
    "update",
]

KEY = "mase"


@dataclass(frozen=True, slots=True)
class CommonMeta:
    """What a node computes.

    `operator` is a name of the operator registry, or one of "input", "output", "constant" (a
    parameter or something computed from parameters only) and "shape" (sizes, tuples: no tensor).
    `parameters` is filled once the constants of the node have number formats. `blocked` is why the
    node has no integers where its formats are the reason ("": no such reason).
    """

    operator: str
    attributes: object
    inputs: tuple[TensorType, ...]
    output: TensorType
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    blocked: str = ""

    @property
    def carries_data(self) -> bool:
        """Whether the node's value depends on the inputs and is a tensor."""
        return self.operator not in ("output", "constant", "shape")


@dataclass(frozen=True, slots=True)
class TensorStatistics:
    """Moments and quantiles of one tensor over a data loader."""

    count: int
    minimum: float
    maximum: float
    mean: float
    standard_deviation: float
    quantiles: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class SoftwareMeta:
    """What a node costs in software terms, per sample."""

    parameters: int
    macs: int
    bit_operations: int
    statistics: Mapping[str, TensorStatistics] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Folding:
    """How much of an operator is computed in one cycle.

    `input_stationary`: every input beat is used up before the next is taken, and partial sums of
    all outputs are kept; otherwise one group of outputs is finished after the other.

    `digits`: into how many digits a number is cut that goes through an adder graph, 0 where there
    is none; `worth` is then the number of multipliers that take as many LUTs.
    """

    in_lanes: int
    out_lanes: int
    cycles: int
    multipliers: int
    input_stationary: bool = False
    digits: int = 0
    worth: int = 0

    @property
    def price(self) -> int:
        """The multipliers, or what an adder graph is worth in them."""
        return self.multipliers + self.worth


@dataclass(frozen=True, slots=True)
class Cost:
    """An estimate of FPGA resources."""

    luts: int = 0
    ffs: int = 0
    dsps: int = 0
    brams: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.luts + other.luts,
            self.ffs + other.ffs,
            self.dsps + other.dsps,
            self.brams + other.brams,
        )


@dataclass(frozen=True, slots=True)
class HardwareMeta:
    """How a node is built.

    `host` is the node that does this node's work: itself, or the neighbour that it was merged into.
    `in_depth` and `out_depth` are the beats that its input buffer and its output queue hold,
    `fifo_depth` those of a FIFO after it (0: none). `first_output_cycle` counts from the first
    input handshake of the design. `stages` are the units before, where the node is built as
    several of them, the first first.
    """

    host: str
    folding: Folding
    in_depth: int
    out_depth: int
    fifo_depth: int
    first_output_cycle: int
    cost: Cost
    stages: tuple[HardwareMeta, ...] = ()

    @property
    def total_cost(self) -> Cost:
        """The estimate with all stages."""
        return sum((stage.cost for stage in self.stages), self.cost)


@dataclass(frozen=True, slots=True)
class NodeMeta:
    """The metadata of one node; a field is None until the pass that owns it has run."""

    common: CommonMeta | None = None
    software: SoftwareMeta | None = None
    hardware: HardwareMeta | None = None


def meta_of(node: Node) -> NodeMeta:
    """Returns the node's metadata. Raises PassOrderError before init_metadata_analysis_pass."""
    meta = node.meta.get(KEY)
    if not isinstance(meta, NodeMeta):
        raise _too_early(node, "", "init_metadata_analysis_pass")
    return meta


def common_of(node: Node) -> CommonMeta:
    """Returns the common metadata. Raises PassOrderError when its pass has not run."""
    common = meta_of(node).common
    if common is None:
        raise _too_early(node, "common ", "add_common_metadata_analysis_pass")
    return common


def software_of(node: Node) -> SoftwareMeta:
    """Returns the software metadata. Raises PassOrderError when its pass has not run."""
    software = meta_of(node).software
    if software is None:
        raise _too_early(node, "software ", "add_software_metadata_analysis_pass")
    return software


def hardware_of(node: Node) -> HardwareMeta:
    """Returns the hardware metadata. Raises PassOrderError when its pass has not run."""
    hardware = meta_of(node).hardware
    if hardware is None:
        raise _too_early(node, "hardware ", "add_hardware_metadata_analysis_pass")
    return hardware


def update(
    node: Node,
    *,
    common: CommonMeta | None = None,
    software: SoftwareMeta | None = None,
    hardware: HardwareMeta | None = None,
) -> None:
    """Replaces the fields given; the others stay."""
    meta = meta_of(node)
    if common is not None:
        meta = replace(meta, common=common)
    if software is not None:
        meta = replace(meta, software=software)
    if hardware is not None:
        meta = replace(meta, hardware=hardware)
    node.meta[KEY] = meta


def _too_early(node: Node, what: str, remedy: str) -> PassOrderError:
    return PassOrderError(f"node '{node.name}': no {what}metadata yet; run {remedy} first")
