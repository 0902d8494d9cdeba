"""Trained weights: made into runs/<name>, and found there again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch

from chop.config.schema import Config
from chop.errors import ConfigError, DataError
from chop.flows.job import Job, accuracy
from chop.flows.places import run_directory
from chop.flows.progress import Progress

__all__ = ["Metrics", "restore_weights", "train_job"]

_METRICS = "metrics.json"
_KEY = "key.json"


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
    # Lightning takes seconds to import, and a job with trained weights has no use for it.
    from chop.flows.train import train_model

    config = job.config
    if config.train is None or config.dataset is None or job.dataset is None:
        raise ConfigError(f"job '{config.name}': training needs a [train] and a [dataset] table")
    directory = run_directory(config.name)
    key = _training_key(config)
    if resume:
        _check_resumable(directory, key)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _METRICS).unlink(missing_ok=True)
    _write_json(directory / _KEY, key)
    start = time.monotonic()
    training = train_model(
        job.model,
        job.dataset,
        config.train,
        batch_size=config.dataset.batch_size,
        seed=config.seed,
        directory=directory,
        resume=resume,
        progress=progress,
    )
    metrics = Metrics(
        checkpoint=training.checkpoint,
        epochs=training.epochs,
        seconds=round(time.monotonic() - start, 3),
        train_accuracy=accuracy(
            job.model, (torch.from_numpy(job.dataset.x_train),), job.dataset.y_train
        ),
        test_accuracy=accuracy(
            job.model, (torch.from_numpy(job.dataset.x_test),), job.dataset.y_test
        ),
    )
    _write_json(directory / _METRICS, asdict(metrics))
    return metrics


def restore_weights(job: Job) -> bool:
    """Loads the weights of a finished training of the same configuration; False without one."""
    directory = run_directory(job.config.name)
    path = directory / _METRICS
    # Metrics are written last: without them the training did not come to its end.
    if not path.is_file() or _read_key(directory) != _training_key(job.config):
        return False
    try:
        metrics = Metrics(**json.loads(path.read_text(encoding="utf-8")))
        path = directory / metrics.checkpoint
        state = torch.load(path, weights_only=True)["state_dict"]
        job.model.load_state_dict({key.removeprefix("model."): state[key] for key in state})
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, UnpicklingError) as error:
        raise DataError(
            f"training file '{path}' cannot be read; delete '{directory}' and train again"
        ) from error
    return True


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


def _training_key(config: Config) -> dict[str, object]:
    """Everything that the trained weights depend on."""
    key = config.model_dump(mode="json", include={"model", "dataset", "train", "seed"})
    if key["dataset"] is not None:
        del key["dataset"]["calibration_samples"]
    if config.model is not None:
        for source in (config.model.graph, (config.model.path or "").rpartition(":")[0]):
            if source:
                key["source"] = hashlib.sha256(Path(source).read_bytes()).hexdigest()
    return key
