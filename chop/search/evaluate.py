"""A trial: settings in, metrics out. What all trials share is computed once."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from chop.config.schema import Config, TrainConfig
from chop.config.search import SearchConfig
from chop.datasets.dataset import Labels
from chop.errors import ChopError, ConfigError
from chop.flows.compile import (
    QUANTISING,
    Accelerator,
    FineTune,
    emit_graph,
    open_graph,
    road_of,
    run_road,
)
from chop.flows.job import Job, hit_rate
from chop.flows.progress import SilentProgress
from chop.formats.rounding import Floats, Ints
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of, meta_of
from chop.ir.modes import evaluating
from chop.ops.annotate import run_in_integers
from chop.passes.graph.analysis.add_metadata import software_meta
from chop.passes.registry import resolve
from chop.search.apply import apply_settings
from chop.search.energy import layer_energy_nj
from chop.search.measure import measure
from chop.search.products import product_luts
from chop.search.result import Setting
from chop.search.space import HARDWARE, Space, make_space, passes_of

__all__ = ["Evaluation", "Evaluator", "search_table", "staged"]

_VECTORS = 16
_BATCH = 2048
# Called after every epoch with its number and the accuracy so far; may raise to end the training.
Report = Callable[[int, float], None]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of one configuration: its scheduled graph, and that before fake_to_true."""

    config: Config
    graph: MaseGraph
    fake: MaseGraph | None
    metrics: Mapping[str, float]


def search_table(config: Config) -> SearchConfig:
    """Returns the table [search]. Raises ConfigError where there is none."""
    if config.search is None:
        raise ConfigError(
            f"job '{config.name}': a search needs a [search] table; see configs/search_digits.toml"
        )
    return config.search


def staged(config: Config) -> Config:
    """Returns the configuration that trials begin with: trained as the search says.

    Raises ConfigError where it is to train and says not how.
    """
    search = search_table(config)
    if search.train == "none":
        return config.model_copy(update={"qat": None, "retrain": None})
    given = (config.qat or config.train) if search.train == "fine_tune" else config.train
    if given is None:
        raise ConfigError(
            f"job '{config.name}': search.train = '{search.train}' needs a [train] table"
        )
    update = {} if search.epochs is None else {"epochs": search.epochs}
    table: TrainConfig = given.model_copy(update=update)
    if search.train == "fine_tune":
        if not any(name in QUANTISING for name, _ in road_of(config)):
            return config.model_copy(update={"qat": None, "retrain": table})
        return config.model_copy(update={"qat": table, "retrain": None})
    return config.model_copy(update={"train": None, "retrain": table})


class Evaluator:
    """Evaluates settings of one job's space.

    Attributes:
        space: of the job's network.
        float_metrics: accuracy and loss of the trained float network.
    """

    def __init__(self, job: Job, initial: nn.Module | None = None) -> None:
        """Builds the space, and the part of the road that no setting changes.

        `initial`: the untrained model, for search.train = "full". Raises ConfigError for a space
        that the network has not, or a configuration that is refused as it stands where nothing of
        the space could change that.
        """
        self._job = job
        self._search = search_table(job.config)
        self._base = staged(job.config)
        model = job.model if self._search.train != "full" or initial is None else initial
        # What the job's own model has been through is not done again.
        self._done = job.reshaped if model is job.model else 0
        self._inputs, self._labels = _evaluation_data(job, self._search)
        examples = tuple(tensor[:_VECTORS] for tensor in job.test)
        self._start = open_graph(model, examples)
        self._graphs: dict[str, MaseGraph] = {}
        self._open_space()
        self.space: Space = make_space(self._base, self._search.space, self._graphs)
        self._first = self._first_changed()
        road = slice(self._done, max(self._first, self._done))
        self._prefix, _ = run_road(self._start, self._base, job.calibration, passes=road)
        self.float_metrics = self._float_metrics()

    def config_of(self, settings: Mapping[str, Setting]) -> Config:
        """Returns the configuration of a trial: a file of it makes what the trial was."""
        made = apply_settings(self._base, self.space, settings, self._graphs)
        return made.model_copy(update={"search": None})

    def evaluate(self, settings: Mapping[str, Setting], report: Report | None = None) -> Evaluation:
        """Returns the metrics of one point of the space. Raises ChopError where it is refused."""
        config = self.config_of(settings)
        # An analysis pass works in place, and the graph is every trial's.
        graph, fake = run_road(
            self._prefix.copy(),
            config,
            self._job.calibration,
            self._trainer(config.qat, "qat", report),
            self._trainer(config.retrain, "retrain", report if config.qat is None else None),
            slice(self._first, None),
        )
        graph = resolve("add_hardware_metadata")(graph, config.hardware)
        metrics = {
            **self._label_metrics(graph),
            **_number_metrics(graph),
            **_hardware_metrics(graph),
        }
        return Evaluation(config, graph, fake, metrics)

    def measure(self, found: Evaluation) -> dict[str, float]:
        """Returns what the tools say of a trial. Raises ToolError, VerifyError."""
        table = self._search.measure
        if table is None:
            return {}
        with tempfile.TemporaryDirectory(prefix="chop-") as scratch:
            folder = Path(scratch) / found.config.name
            made: Accelerator = emit_graph(found.graph, found.config, folder, found.fake)
            return measure(made, table, self._job.test, self._job.labels)

    def check(self) -> None:
        """Tries every choice once, for all nodes of its part of the space together.

        Raises ConfigError for the first that a pass or the schedule refuses, with its reason.
        """
        tried: set[tuple[int, str]] = set()
        for parameter in self.space.parameters:
            if (parameter.index, parameter.key) in tried:
                continue
            tried.add((parameter.index, parameter.key))
            alike = [
                p
                for p in self.space.parameters
                if (p.index, p.key) == (parameter.index, parameter.key)
            ]
            for choice in parameter.choices:
                config = self.config_of({p.name: choice for p in alike})
                try:
                    self._refuse(config, parameter.pass_name)
                except ChopError as error:
                    raise ConfigError(
                        f"search.space.{parameter.index}: {parameter.key} = {choice!r} is refused: "
                        f"{error}"
                    ) from error

    def _refuse(self, config: Config, name: str) -> None:
        names = [n for n, _ in road_of(config)]
        if name != HARDWARE:
            run_road(
                self._prefix.copy(),
                config,
                self._job.calibration,
                passes=slice(self._first, names.index(name) + 1),
            )
            return
        resolve("add_hardware_metadata")(self._graphs[HARDWARE].copy(), config.hardware)

    def _open_space(self) -> None:
        """Finds the graph that each searched pass is given."""
        names = [name for name, _ in road_of(self._base)]
        wanted = passes_of(self._base, self._search.space)
        graph, done = self._start, self._done
        for i, name in enumerate((*names, HARDWARE)):
            if name not in wanted:
                continue
            if i < done:
                raise ConfigError(
                    f"search.space: pass '{name}' makes the network that is trained: every choice "
                    "needs a training of its own; set search.train = 'full'"
                )
            graph, _ = run_road(
                graph.copy(), self._base, self._job.calibration, passes=slice(done, i)
            )
            self._graphs[name], done = graph, i

    def _first_changed(self) -> int:
        """Returns the first pass whose graph may differ from trial to trial, by its place."""
        names = [name for name, _ in road_of(self._base)]
        changed = {p.pass_name for p in self.space.parameters} - {HARDWARE}
        first = min((names.index(name) for name in changed), default=len(names))
        training = [i for i, name in enumerate(names) if name in QUANTISING]
        if self._base.retrain is not None:
            first = min([first, *training, max(len(names) - 1, 0)])
        if self._base.qat is not None:
            first = min([first, *training])
        return first

    def _trainer(
        self, table: TrainConfig | None, stage: str, report: Report | None
    ) -> FineTune | None:
        if table is None:
            return None
        job, config = self._job, self._job.config
        dataset, batches = job.dataset, config.dataset
        if dataset is None or batches is None:
            raise ConfigError(f"job '{config.name}': a search that trains needs a [dataset] table")

        def train(graph: MaseGraph) -> MaseGraph:
            from chop.flows.train import train_model

            def after(epoch: int) -> None:
                if report is not None:
                    report(epoch, self._fake_accuracy(graph.model))

            with tempfile.TemporaryDirectory(prefix=f"chop-{stage}-") as scratch:
                train_model(
                    graph.model,
                    dataset,
                    table,
                    batch_size=batches.batch_size,
                    seed=config.seed,
                    directory=Path(scratch),
                    resume=False,
                    progress=SilentProgress(),
                    after_epoch=after,
                )
            graph.model.eval()
            return resolve("refresh_metadata")(graph)

        return train

    def _fake_accuracy(self, model: nn.Module) -> float:
        if self._labels is None:
            return math.nan
        with evaluating(model):
            return hit_rate(_scores(model, self._inputs), self._labels)

    def _float_metrics(self) -> dict[str, float]:
        if self._labels is None:
            return {}
        with evaluating(self._job.model):
            scores = _scores(self._job.model, self._inputs)
        accuracy = hit_rate(scores, self._labels)
        return {
            "accuracy": accuracy,
            "rtl_accuracy": accuracy,
            "loss": _cross_entropy(scores.double(), self._labels),
        }

    def _label_metrics(self, graph: MaseGraph) -> dict[str, float]:
        if self._labels is None:
            return {}
        names = graph.placeholders
        arrays = {n: x.double().numpy() for n, x in zip(names, self._inputs, strict=True)}
        scores = torch.from_numpy(_real_output(graph, run_in_integers(graph, arrays)))
        return {
            "accuracy": hit_rate(scores, self._labels),
            "loss": _cross_entropy(scores, self._labels),
        }


def _evaluation_data(
    job: Job, search: SearchConfig
) -> tuple[tuple[torch.Tensor, ...], Labels | None]:
    if search.data == "test":
        labels = None if job.labels is None else job.labels[: search.samples]
        return tuple(x[: search.samples] for x in job.test), labels
    config, dataset = job.config, job.dataset
    share = 0.0 if config.train is None else config.train.validation_fraction
    if dataset is None or not share:
        raise ConfigError(
            "search.data = 'validation' needs a data set and train.validation_fraction above 0"
        )
    from chop.flows.train import validation_indices

    held_out = validation_indices(len(dataset.x_train), share, config.seed)[: search.samples]
    return (torch.from_numpy(dataset.x_train)[held_out],), dataset.y_train[held_out.numpy()]


def _scores(model: nn.Module, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    count = len(inputs[0])
    return torch.cat([model(*(x[s : s + _BATCH] for x in inputs)) for s in range(0, count, _BATCH)])


def _real_output(graph: MaseGraph, integers: Mapping[str, Ints]) -> Floats:
    """Returns the first output's real values."""
    (output,) = (node for node in graph.fx_graph.nodes if node.op == "output")
    node = output.all_input_nodes[0]
    type = common_of(node).output
    scale = np.asarray(1.0) if type.scale is None else type.scale.floats()
    return np.asarray(integers[node.name] * np.ldexp(scale, -type.fixed.frac_width))


def _cross_entropy(scores: torch.Tensor, labels: Labels) -> float:
    target = torch.from_numpy(np.asarray(labels)).long()
    return float(nn.functional.cross_entropy(scores, target))


def _number_metrics(graph: MaseGraph) -> dict[str, float]:
    size = weights = weight_bits = zeros = energy = 0.0
    operations = 0
    for node in graph.fx_graph.nodes:
        common = common_of(node)
        if not common.carries_data or common.operator == "input":
            continue
        for name, parameter in common.parameters.items():
            count = parameter.values.size
            size += math.ceil(count * parameter.format.bits)
            if name == "weight":
                weights += count
                weight_bits += count * parameter.format.bits
                zeros += count - np.count_nonzero(parameter.values)
        found = software_meta(graph, node)
        operations += found.bit_operations
        weight = common.parameters.get("weight")
        data = common.inputs[0].format if common.inputs else None
        if found.macs and data is not None:
            bits = weight.format.bits if weight is not None else data.bits
            energy += layer_energy_nj(found.macs, data.bits, bits, common.output.fixed.width)
    return {
        "average_bits": weight_bits / weights if weights else 0.0,
        "sparsity": zeros / weights if weights else 0.0,
        "size": size / 8,
        "bit_ops": float(operations),
        "energy": energy,
    }


def _hardware_metrics(graph: MaseGraph) -> dict[str, float]:
    found = graph.info["add_hardware_metadata"]
    cost = found["cost"]
    products = 0.0
    for node in graph.fx_graph.nodes:
        hardware, common = meta_of(node).hardware, common_of(node)
        if hardware is None or not hardware.cost.dsps or not common.inputs:
            continue
        data = common.inputs[0].fixed.width
        weight = common.parameters.get("weight")
        other = weight.fixed.width if weight is not None else common.inputs[-1].fixed.width
        products += hardware.cost.dsps * product_luts(data, other)
    return {
        **{name: float(cost[name]) for name in ("luts", "ffs", "dsps", "brams")},
        "logic": float(cost["luts"]) + products,
        "interval": float(found["initiation_interval"]),
        "latency": float(found["latency_cycles"]),
    }
