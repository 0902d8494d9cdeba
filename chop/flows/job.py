"""A job: a configuration with its model and data, checked against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from chop.config.schema import Config
from chop.datasets.dataset import Dataset, Labels
from chop.datasets.registry import load_dataset
from chop.errors import ConfigError, ShapeError
from chop.flows.progress import Progress
from chop.flows.reshape import reshape_model
from chop.flows.samples import RANDOM_SAMPLES, random_inputs
from chop.models.create import create_model

__all__ = ["Job", "accuracy", "hit_rate", "load_job"]

_ACCURACY_BATCH, _EXAMPLES = 2048, 16


@dataclass(frozen=True, slots=True)
class Job:
    """A configuration with its model, and its data where there is any.

    Attributes:
        calibration: one tensor [N, *shape] per input of the model.
        test: the same for the samples that are simulated.
        labels: of the test samples; None without a data set.
        reshaped: how many of the first passes made the model what it is.
    """

    config: Config
    model: nn.Module
    dataset: Dataset | None
    calibration: tuple[torch.Tensor, ...]
    test: tuple[torch.Tensor, ...]
    labels: Labels | None
    reshaped: int = 0


def load_job(config: Config, progress: Progress) -> Job:
    """Returns the job with initial weights, drawn from the configuration's seed.

    Where it is to be trained, its model has been through the passes that come before that.
    Raises ConfigError, DataError or ShapeError when a part is missing or they do not fit.
    """
    if config.model is None:
        raise ConfigError(
            f"job '{config.name}': no model; add a [model] table or name one with --model"
        )
    dataset = None
    if config.dataset is not None:
        with progress.task(f"load {config.dataset.name}"):
            dataset = load_dataset(config.dataset.name)
    model = create_model(config.model, config.seed)
    model.eval()
    if dataset is None or config.dataset is None:
        return _job_without_data(config, model, config.model.inputs)
    samples = config.simulate.samples
    job = Job(
        config,
        model,
        dataset,
        (torch.from_numpy(dataset.x_train[: config.dataset.calibration_samples]),),
        (torch.from_numpy(dataset.x_test[:samples]),),
        dataset.y_test[:samples],
    )
    _check_fit(job, dataset)
    examples = tuple(tensor[:_EXAMPLES] for tensor in job.calibration)
    made, count = reshape_model(config, model, examples)
    return replace(job, model=made, reshaped=count)


def accuracy(model: nn.Module, inputs: tuple[torch.Tensor, ...], labels: Labels) -> float:
    """Returns the share of samples, in 0..1, whose largest score is at the label."""
    model.eval()
    with torch.inference_mode():
        # In parts: a convolution's results are many times larger than the images.
        starts = range(0, len(labels), _ACCURACY_BATCH)
        scores = torch.cat([model(*(x[s : s + _ACCURACY_BATCH] for x in inputs)) for s in starts])
    return hit_rate(scores, labels)


def hit_rate(scores: torch.Tensor, labels: Labels) -> float:
    """Returns the share of rows of scores [N, classes] whose largest score is at the label."""
    return float(np.mean(scores.argmax(dim=1).numpy() == labels))


def _job_without_data(config: Config, model: nn.Module, shapes: Sequence[Sequence[int]]) -> Job:
    if config.train is not None:
        raise ConfigError(f"job '{config.name}': training needs a [dataset] table")
    if not shapes:
        raise ConfigError(
            f"job '{config.name}': the input shapes are unknown; add a [dataset] table, or the "
            "shape of one sample of every input, e.g. model.inputs = [[16]]"
        )
    calibration = random_inputs(shapes, RANDOM_SAMPLES, config.seed)
    test = random_inputs(shapes, config.simulate.samples or RANDOM_SAMPLES, config.seed + 1)
    return Job(config, model, None, calibration, test, None)


def _check_fit(job: Job, dataset: Dataset) -> None:
    who = f"job '{job.config.name}'"
    try:
        with torch.inference_mode():
            scores = job.model(*(tensor[:2] for tensor in job.calibration))
    except RuntimeError as error:
        raise ShapeError(
            f"{who}: the model does not take samples of dataset '{dataset.name}', "
            f"shape {list(dataset.shape)}: {str(error).splitlines()[0]}; change model.arguments"
        ) from error
    if not isinstance(scores, torch.Tensor) or scores.shape != (2, dataset.classes):
        got = list(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise ShapeError(
            f"{who}: the model must give [2, {dataset.classes}] scores for two samples of dataset "
            f"'{dataset.name}', got {got}; change model.arguments"
        )
