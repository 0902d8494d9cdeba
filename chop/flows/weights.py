"""Trained weights: made into runs/<name>, and found there again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import nn

from chop.config.schema import Config, TrainConfig
from chop.errors import ConfigError, DataError
from chop.flows.job import Job, accuracy
from chop.flows.places import run_directory
from chop.flows.progress import Progress
from chop.flows.reshape import passes_before_training
from chop.ir.graph import MaseGraph
from chop.nn.controllers import Controller
from chop.passes.registry import resolve

__all__ = [
    "QAT",
    "RETRAIN",
    "Metrics",
    "read_metrics",
    "restore_weights",
    "retrain",
    "train_job",
    "train_quantised",
    "train_stage",
]

_METRICS = "metrics.json"
_KEY = "key.json"
# The tables that the weights of the float network depend on.
_FLOAT = ("model", "dataset", "train", "seed")
# The folders, inside that of the job, of the trainings of its graph: tables of the configuration.
QAT, RETRAIN = "qat", "retrain"


@dataclass(frozen=True, slots=True)
class Metrics:
    """What metrics.json of a finished training says.

    Attributes:
        checkpoint: the file that holds them.
        train_accuracy, test_accuracy: in 0..1.
    """

    checkpoint: str
    epochs: int
    seconds: float
    train_accuracy: float
    test_accuracy: float


def train_job(job: Job, progress: Progress, resume: bool = False) -> Metrics:
    """Trains into runs/<name> and returns the metrics that it wrote there.

    Raises ConfigError when the configuration has no [train] or no [dataset], or when it is to
    resume a training of another configuration; only epochs and patience may differ.
    """
    key = _training_key(job.config, _FLOAT)
    return _train(
        job, job.model, job.config.train, run_directory(job.config.name), key, progress, resume
    )


def restore_weights(job: Job) -> bool:
    """Loads the weights of a finished training of the same configuration; False without one."""
    key = _training_key(job.config, _FLOAT)
    return _restore(job.model, run_directory(job.config.name), key)


def train_quantised(
    job: Job, graph: MaseGraph, progress: Progress, resume: bool = False
) -> MaseGraph:
    """Returns the graph with the weights of the table [qat], its formats as they were learned.

    Trains into runs/<name>/qat, or takes them from there where the same network was trained with
    the same configuration before. With `resume`, an unfinished training goes on.
    """
    return _train_graph(job, graph, QAT, job.config.qat, progress, resume)


def retrain(job: Job, graph: MaseGraph, progress: Progress, resume: bool = False) -> MaseGraph:
    """Returns the float graph with the weights of the table [retrain]; as `train_quantised`."""
    return _train_graph(job, graph, RETRAIN, job.config.retrain, progress, resume)


def _train_graph(
    job: Job,
    graph: MaseGraph,
    stage: str,
    train: TrainConfig | None,
    progress: Progress,
    resume: bool,
) -> MaseGraph:
    directory = run_directory(job.config.name) / stage
    key = _training_key(job.config, (*_FLOAT, stage, "passes"))
    key["start"] = _digest(graph.model)
    if not _restore(graph.model, directory, key):
        unfinished = resume and _read_key(directory) == key
        _train(job, graph.model, train, directory, key, progress, unfinished)
    graph.model.eval()
    return resolve("refresh_metadata")(graph)


def train_stage(
    job: Job,
    model: nn.Module,
    stage: str,
    train: TrainConfig,
    settings: Mapping[str, object],
    progress: Progress,
    resume: bool,
    controllers: Sequence[Controller],
) -> Metrics:
    """Trains a model under controllers into runs/<name>/<stage>, or takes its weights from there.

    `settings` are what they depend on beside the model's state, the data set and the seed.
    """
    directory = run_directory(job.config.name) / stage
    key = _training_key(job.config, ("model", "dataset", "seed"))
    key |= {"train": train.model_dump(mode="json"), "stage": dict(settings)}
    key["start"] = _digest(model)
    if _restore(model, directory, key):
        for controller in controllers:
            controller.finish()
        return read_metrics(directory)
    unfinished = resume and _read_key(directory) == key
    return _train(job, model, train, directory, key, progress, unfinished, controllers)


def _train(
    job: Job,
    model: nn.Module,
    train: TrainConfig | None,
    directory: Path,
    key: Mapping[str, object],
    progress: Progress,
    resume: bool,
    controllers: Sequence[Controller] = (),
) -> Metrics:
    # Lightning takes seconds to import, and a job with trained weights has no use for it.
    from chop.flows.train import train_model

    config, dataset = job.config, job.dataset
    if train is None or config.dataset is None or dataset is None:
        raise ConfigError(f"job '{config.name}': training needs a [train] and a [dataset] table")
    if resume:
        _check_resumable(directory, key)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _METRICS).unlink(missing_ok=True)
    _write_json(directory / _KEY, key)
    start = time.monotonic()
    training = train_model(
        model,
        dataset,
        train,
        batch_size=config.dataset.batch_size,
        seed=config.seed,
        directory=directory,
        resume=resume,
        progress=progress,
        controllers=controllers,
    )
    metrics = Metrics(
        checkpoint=training.checkpoint,
        epochs=training.epochs,
        seconds=round(time.monotonic() - start, 3),
        train_accuracy=accuracy(model, (torch.from_numpy(dataset.x_train),), dataset.y_train),
        test_accuracy=accuracy(model, (torch.from_numpy(dataset.x_test),), dataset.y_test),
    )
    _write_json(directory / _METRICS, asdict(metrics))
    return metrics


def _restore(model: nn.Module, directory: Path, key: Mapping[str, object]) -> bool:
    path = directory / _METRICS
    # Metrics are written last: without them the training did not come to its end.
    if not path.is_file() or _read_key(directory) != key:
        return False
    try:
        metrics = read_metrics(directory)
        path = directory / metrics.checkpoint
        state = torch.load(path, weights_only=True)["state_dict"]
        model.load_state_dict({key.removeprefix("model."): state[key] for key in state})
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, UnpicklingError) as error:
        raise DataError(
            f"training file '{path}' cannot be read; delete '{directory}' and train again"
        ) from error
    return True


def read_metrics(directory: Path) -> Metrics:
    """Returns the metrics of a finished training in the folder."""
    return Metrics(**json.loads((directory / _METRICS).read_text(encoding="utf-8")))


def _digest(model: nn.Module) -> str:
    """Returns a hash of every parameter and buffer: what a training starts from."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        if isinstance(value, torch.Tensor):
            digest.update(value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _check_resumable(directory: Path, key: Mapping[str, object]) -> None:
    def fixed_part(whole: Mapping[str, object]) -> dict[str, object]:
        train = whole["train"]
        free = {"epochs", "patience"}
        kept = {k: v for k, v in train.items() if k not in free} if isinstance(train, dict) else {}
        return {**whole, "train": kept}

    old = _read_key(directory)
    if old is None:
        raise ConfigError(f"no training in '{directory}' to resume; train without --resume")
    if fixed_part(old) != fixed_part(key):
        raise ConfigError(
            f"the training in '{directory}' had another configuration: only epochs and patience "
            "may change when it is resumed; train without --resume"
        )


def _read_key(directory: Path) -> dict[str, object] | None:
    try:
        key: dict[str, object] = json.loads((directory / _KEY).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return key


def _write_json(path: Path, values: Mapping[str, object]) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def _training_key(config: Config, parts: Sequence[str]) -> dict[str, object]:
    """Everything that the trained weights depend on."""
    key = config.model_dump(mode="json", include=set(parts))
    for training in (key.get("train"), key.get(QAT), key.get(RETRAIN)):
        if training is not None:
            del training["checkpoint_every_steps"]
    if key["dataset"] is not None:
        del key["dataset"]["calibration_samples"]
    count = passes_before_training(config)
    if count:
        key["reshaped"] = config.model_dump(mode="json", include={"passes"})["passes"][:count]
    if config.model is not None:
        for source in (config.model.graph, (config.model.path or "").rpartition(":")[0]):
            if source:
                key["source"] = hashlib.sha256(Path(source).read_bytes()).hexdigest()
    return key
