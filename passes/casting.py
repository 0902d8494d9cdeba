"""Casts between the nodes of a graph that is being quantised: what is in which format already.

Rounding is monotone. So what only moves or compares elements gives the same rounded before as
behind it, and a cast may stand in front of it: there its operands may differ in scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import fx

from chop.formats.base import Format
from chop.formats.calibrate import sqnr_db
from chop.formats.fixed import Fixed
from chop.formats.rounding import Floats, Rounding
from chop.ir.graph import MaseGraph
from chop.ir.meta import KEY as META
from chop.ir.meta import NodeMeta, common_of
from chop.ir.tensor_type import TensorType
from chop.nn.fake_quantize import Cast
from chop.nn.quantizer import Static
from chop.ops.annotate import Annotator, data_inputs, module_of
from chop.ops.registry import find, operator
from chop.passes.layer_plan import TensorPlan

__all__ = ["Casts"]


@dataclass(frozen=True, slots=True)
class _Row:
    """One format chosen, for the report."""

    node: str
    tensor: str
    format: str
    chosen: str
    algorithm: str
    sqnr_db: float


class Casts:
    """Inserts casts into one graph, each once, and reports the formats that it chooses."""

    def __init__(
        self,
        graph: MaseGraph,
        annotator: Annotator,
        values: Mapping[str, Floats],
        rounding: Rounding,
        who: str,
    ) -> None:
        """`values` are those of the float graph on the calibration data, by node name."""
        self._graph = graph
        self._annotator = annotator
        self._values = values
        self._rounding = rounding
        self._who = who
        self._casts: dict[tuple[fx.Node, Format, str], fx.Node] = {}
        self._trainings: dict[fx.Node, str] = {}
        # Nodes before which a cast stands for one behind them; whether a reader may choose it.
        self._joint: dict[fx.Node, bool] = {}
        self._rows: list[_Row] = []

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row per format chosen, for the report."""
        return [asdict(row) for row in dict.fromkeys(self._rows)]

    def who(self, node: fx.Node) -> str:
        """Returns how messages begin that are about a node."""
        return f"{self._who}: node '{node.name}'"

    def data(self, plan: TensorPlan, side: str, node: fx.Node, tensor: fx.Node) -> Format:
        """Returns the format of a layer's data, and reports it."""
        format = self.fit(plan, side, node, tensor)
        self.report(node, side, plan, self.recorded(tensor), format)
        return format

    def fit(self, plan: TensorPlan, side: str, node: fx.Node, tensor: fx.Node) -> Format:
        """Returns the format of a layer's data."""
        values = self.recorded(tensor)
        negative = _may_be_negative(common_of(tensor).output, values)
        return plan.fit(values, f"{self.who(node)}: {side}", negative)

    def report(
        self, node: fx.Node, tensor: str, plan: TensorPlan, values: Floats, format: Format
    ) -> None:
        """Adds a row."""
        chosen = "auto" if plan.calibrated else "given"
        row = _Row(node.name, tensor, str(format), chosen, plan.algorithm, sqnr_db(values, format))
        self._rows.append(row)

    def recorded(self, tensor: fx.Node) -> Floats:
        """Returns a node's values in the float graph; an inserted cast has those of its source."""
        while tensor.name not in self._values:
            tensor = tensor.all_input_nodes[0]
        return self._values[tensor.name]

    def cast_to(
        self,
        node: fx.Node,
        source: fx.Node,
        plan: TensorPlan,
        format: Format,
        side: str = "data_in",
    ) -> None:
        """Lets a node read a tensor in a format; a cast is named after the side that it is of."""
        training = plan.training
        # A cast that trains is wanted even where it changes nothing yet.
        trained = training in ("ste", self._trainings.get(source))
        if trained and _holds(format, common_of(source).output):
            return
        known = self._casts.get((source, format, training))
        if known is not None:
            node.replace_input_with(source, known)
        else:
            owner = node if side == "data_in" else source
            self.insert(source, plan, format, f"{owner.name}_{side}", [node])

    def insert(
        self,
        source: fx.Node,
        plan: TensorPlan,
        format: Format,
        name: str,
        readers: list[fx.Node],
    ) -> None:
        """Inserts a cast behind a node, for these readers."""
        graph = self._graph
        target = graph.free_name(name)
        values = self.recorded(source)
        quantizer = plan.quantizer(values, format, "data", self._rounding, self.who(source))
        graph.model.add_submodule(
            target, Cast(quantizer, inserted=True).train(graph.model.training)
        )
        with graph.fx_graph.inserting_after(source):
            cast = graph.fx_graph.create_node("call_module", target, (source,), name=name)
        cast.stack_trace = source.stack_trace
        cast.meta[META] = NodeMeta()
        for reader in readers:
            reader.replace_input_with(source, cast)
        self._annotator.share(cast, source)
        self._annotator.annotate(cast)
        self._casts[(source, format, plan.training)] = cast
        self._trainings[cast] = plan.training

    def moves(self, node: fx.Node) -> bool:
        """Returns whether a node commutes with casts; it need not have metadata yet."""
        op = find(node, module_of(self._graph, node), len(data_inputs(node)))
        return op.is_layout or op.commutes_with_casts(op.read(self._annotator.call(node)))

    def is_joint(self, node: fx.Node) -> bool:
        """Returns whether `cast_jointly` was called for the node."""
        return node in self._joint

    def cast_jointly(self, node: fx.Node, plan: TensorPlan, any_format: bool) -> None:
        """Casts what a node reads to one format, that of its result: a cast moved in front of it.

        With `any_format` its reader may replace the format by the one that it wants.
        """
        self._joint[node] = any_format
        # Several quantisers that learn would part.
        plan = replace(plan, algorithm="ste", algorithm_options={})
        values, sources = self.recorded(node), dict.fromkeys(data_inputs(node))
        negative = any(
            _may_be_negative(common_of(source).output, self.recorded(source)) for source in sources
        )
        format = plan.fit(values, f"{self.who(node)}: data_in", negative)
        self.report(node, "data_in", plan, values, format)
        for source in sources:
            self.cast_to(node, source, plan, format)

    def take_over(self, node: fx.Node, source: fx.Node, plan: TensorPlan, format: Format) -> bool:
        """Moves the cast of a node's input in front of a join, where one of any format stands.

        Returns whether it could: the node is the only reader, and all between commutes with casts.
        """
        even = format.levels() is None and type(format).encode is Format.encode
        if plan.training != "ste" or not even or _holds(format, common_of(source).output):
            return False
        chain = [source]
        while chain[-1] not in self._joint and _commutes(chain[-1]):
            chain += data_inputs(chain[-1])
        join = chain[-1]
        if not self._joint.get(join, False):
            return False
        casts = {cast: module_of(self._graph, cast) for cast in data_inputs(join)}
        readers = [*zip(chain, (node, *chain), strict=False), *((cast, join) for cast in casts)]
        if any(list(tensor.users) != [reader] for tensor, reader in readers):
            return False
        found = [m for m in casts.values() if isinstance(m, Cast) and m.inserted]
        if len(found) < len(casts):
            return False
        for module in found:
            module.quantizer = Static(format, self._rounding)
        self._casts = {key: cast for key, cast in self._casts.items() if cast not in casts}
        for changed in (*casts, *reversed(chain)):
            self._annotator.annotate(changed)
        self._rows = [r for r in self._rows if (r.node, r.tensor) != (join.name, "data_in")]
        return True


def _may_be_negative(type: TensorType, values: Floats) -> bool:
    """Returns whether a tensor can be below zero: by its integers, else by what was recorded."""
    return type.low < 0 if type.exact else bool((values < 0).any())


def _holds(format: Format, given: TensorType) -> bool:
    """Whether casting the tensor to the format would change nothing."""
    if given.format is None:
        return False
    if not isinstance(format, Fixed) or given.scale is not None or not given.exact:
        return format == given.format
    shift = format.frac_width - given.fixed.frac_width
    return shift >= 0 and given.low << shift >= format.low and given.high << shift <= format.high


def _commutes(node: fx.Node) -> bool:
    """Whether rounding the one tensor that a node reads is rounding what it gives."""
    common = common_of(node)
    if common.operator == "input" or not common.carries_data or len(data_inputs(node)) != 1:
        return False
    op = operator(common.operator)
    return op.is_layout or op.commutes_with_casts(common.attributes)
