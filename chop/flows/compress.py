"""Compression: prune, retrain, share, code, with what every stage takes and how well it does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from chop.compress.tensors import Form, TensorSize, raw_size, size_of
from chop.config.parse import parse_section
from chop.config.schema import CompressConfig, CompressStage, Config
from chop.errors import ConfigError
from chop.flows.compressed import Channels, open_network, save_compressed, tensors_of
from chop.flows.job import Job, accuracy, load_job
from chop.flows.places import run_directory
from chop.flows.progress import Progress, SilentProgress
from chop.flows.weights import restore_weights, train_job, train_stage
from chop.ir.files import write_text
from chop.ir.graph import MaseGraph
from chop.nn.controllers import Controller, GradualPruning, PrunedGroup, Rounds, Sharing, Surgery
from chop.passes.pruning import PruneArguments, layers_to_prune, prunable_layers, pruned_groups
from chop.passes.registry import resolve

__all__ = [
    "Compression",
    "StageReport",
    "compress_design",
    "compress_job",
    "rehearse_compression",
    "report_to_json",
    "trained_stages",
]

_REPORT = "compression.json"
_VERSION = 1
# Samples that a decoded network is compared on, beside its weights.
_EXAMPLES = 64


@dataclass(frozen=True, slots=True)
class StageReport:
    """The network after a stage.

    Attributes:
        kind: "float", that of the stage, or "code".
        accuracy: on the test set, in 0..1.
        params, kept: elements of all tensors, and those that are not zero.
        bytes: of all tensors in the form of the stage; of "code" those of the file, all of it.
        ratio: how many times more bytes the float network has.
        weight_ratio: how many times more weights the float network has than are kept.
        layers: what every tensor takes.
    """

    name: str
    kind: str
    accuracy: float
    params: int
    kept: int
    bytes: int
    ratio: float
    weight_ratio: float
    layers: tuple[TensorSize, ...]


@dataclass(frozen=True, slots=True)
class Compression:
    """What `chop compress` made: runs/<name>/compression.json and the file."""

    name: str
    file: str
    stages: tuple[StageReport, ...]


def compress_design(config: Config, progress: Progress, resume: bool = False) -> Compression:
    """Trains where needed, compresses, writes runs/<name>/<name>.chz and compression.json.

    Raises ConfigError for a configuration without [compress], [dataset] or a model that fits.
    """
    job = load_job(config, progress)
    rehearse_compression(job)
    if config.train is not None and not restore_weights(job):
        train_job(job, progress, resume)
    return _Compressor(job, progress, resume).run()


def rehearse_compression(job: Job) -> None:
    """Takes the job's model through all stages without a training, and keeps nothing of it.

    What a stage would refuse after hours of training is refused in seconds. Raises ConfigError.
    """
    rehearsal = _Compressor(job, SilentProgress(), False, trains=False)
    for _ in rehearsal.stages():
        pass


def compress_job(job: Job, progress: Progress, resume: bool = False) -> MaseGraph:
    """Returns the trained job's model after all stages of its [compress] table."""
    compressor = _Compressor(job, progress, resume)
    compressor.run()
    return compressor.graph


def trained_stages(config: CompressConfig) -> tuple[str, ...]:
    """Returns the folders, inside that of the job, of the stages with a training."""
    stages = enumerate(config.stages)
    return tuple(_folder(index, stage) for index, stage in stages if stage.train is not None)


def _folder(index: int, stage: CompressStage) -> str:
    return f"compress_{index + 1}_{stage.kind}"


def report_to_json(report: Compression) -> str:
    """Returns the report as JSON text."""
    table: dict[str, Any] = {"version": _VERSION, **asdict(report)}
    # What there is in the end, for readers who want no history.
    table["layers"] = table["stages"][-1]["layers"]
    return json.dumps(table, indent=2) + "\n"


class _Compressor:
    """Takes one network through the stages; `graph` is what it has come to."""

    def __init__(self, job: Job, progress: Progress, resume: bool, *, trains: bool = True) -> None:
        who = f"job '{job.config.name}'"
        if job.config.compress is None:
            raise ConfigError(f"{who}: nothing to do; add a table [compress] with stages")
        if job.dataset is None or job.config.model is None:
            raise ConfigError(f"{who}: a compression needs a [dataset] table")
        if job.reshaped:
            raise ConfigError(
                f"{who}: a pass changes the model before it is trained, and the compressed file "
                "names the model as it was; save the changed graph and give it as model.graph"
            )
        self._job, self._progress, self._resume = job, progress, resume
        self._trains = trains
        self._who = who
        self._dataset = job.dataset
        self._config = job.config.compress
        self._model = job.config.model
        self._selections: list[Channels] = []
        self._reports: list[StageReport] = []
        self.graph = open_network(job.model, [x[:_EXAMPLES] for x in job.calibration])

    def run(self) -> Compression:
        directory = run_directory(self._job.config.name)
        self._report("float", "float", None)
        shared = False
        for name, kind in self.stages():
            shared = shared or kind == "share"
            self._report(name, kind, "shared" if shared else "pruned")
        path = directory / f"{self._job.config.name}.chz"
        with self._progress.task("code"):
            size = save_compressed(
                path, self.graph, self._model, self._selections, self._config.position_bits
            )
            self._report("code", "code", "coded", size)
        report = Compression(self._job.config.name, path.as_posix(), tuple(self._reports))
        write_text(directory / _REPORT, report_to_json(report))
        return report

    def stages(self) -> Iterator[tuple[str, str]]:
        """Yields the name and the kind of every stage once the network went through it."""
        kinds = [stage.kind for stage in self._config.stages]
        for index, stage in enumerate(self._config.stages):
            several = kinds.count(stage.kind) > 1
            name = f"{stage.kind}_{kinds[:index].count(stage.kind) + 1}" if several else stage.kind
            self._apply(stage, _folder(index, stage), name)
            yield name, stage.kind

    def _apply(self, stage: CompressStage, folder: str, name: str) -> None:
        who = f"{self._who}: stage '{name}'"
        if stage.kind == "share":
            self._run("share_weights", stage)
            shared = {row["node"] for row in self.graph.info["share_weights"]}
            layers = [layer for node, layer in prunable_layers(self.graph) if node.name in shared]
            self._train(stage, folder, [] if stage.train is None else [Sharing(layers)])
            return
        arguments = parse_section(PruneArguments, stage.arguments, who)
        plan = layers_to_prune(self.graph, arguments, who)
        if any(p.activation.sparsity or p.activation.threshold for p in plan):
            raise ConfigError(f"{who}: pruned activations make no file smaller; use the pass prune")
        structured = any(p.weight.is_structured and p.weight.prunes for p in plan)
        if structured and (stage.rounds > 1 or stage.kind == "surgery"):
            raise ConfigError(
                f"{who}: filters and channels go all at once; use several stages of kind 'prune'"
            )
        if structured or stage.train is None:
            self._run("prune", stage)
            self._selections.append(self.graph.info["prune_channels"])
            self._train(stage, folder, [])
            return
        rounds = Rounds(stage.rounds, stage.begin, stage.end, stage.schedule)
        groups = pruned_groups(plan)
        if stage.kind == "prune":
            self._train(stage, folder, [GradualPruning(groups, rounds)])
        else:
            _check_surgery(groups, who)
            self._train(stage, folder, [Surgery(groups, rounds, stage.margin)])

    def _run(self, name: str, stage: CompressStage) -> None:
        arguments = dict(stage.arguments)
        if name == "prune":
            data = dict(zip(self.graph.placeholders, self._job.calibration, strict=True))
            arguments = {"calibration": data, **arguments}
        self.graph = resolve(name)(self.graph, arguments)

    def _train(self, stage: CompressStage, folder: str, controllers: Sequence[Controller]) -> None:
        if stage.train is not None and self._trains:
            train_stage(
                self._job,
                self.graph.model,
                folder,
                stage.train,
                stage.model_dump(mode="json", exclude={"train"}),
                self._progress,
                self._resume,
                controllers,
            )
            self.graph = resolve("refresh_metadata")(self.graph)

    def _report(self, name: str, kind: str, form: Form | None, file_bytes: int = 0) -> None:
        sizes = [
            raw_size(n, v) if form is None else size_of(n, v, form, self._config.position_bits)
            for n, v in tensors_of(self.graph).items()
        ]
        first = self._reports[0] if self._reports else None
        params, kept = sum(s.params for s in sizes), sum(s.kept for s in sizes)
        size = file_bytes or sum(s.bytes for s in sizes)
        x = torch.from_numpy(self._dataset.x_test)
        self._reports.append(
            StageReport(
                name=name,
                kind=kind,
                accuracy=accuracy(self.graph.model, (x,), self._dataset.y_test),
                params=params,
                kept=kept,
                bytes=size,
                ratio=1.0 if first is None else first.bytes / size,
                weight_ratio=(params if first is None else first.params) / max(kept, 1),
                layers=tuple(sizes),
            )
        )


def _check_surgery(groups: Sequence[PrunedGroup], who: str) -> None:
    for group in groups:
        if group.criterion.pattern is not None or group.criterion.method == "random":
            raise ConfigError(
                f"{who}: a surgery compares magnitudes; use sparsity or threshold with l1-norm"
            )
