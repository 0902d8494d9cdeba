"""Passes that make the network which is trained: in a job they run before its training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from chop.config.load import load_config
from chop.config.schema import Config
from chop.errors import ConfigError
from chop.flows.job import accuracy, load_job
from chop.flows.prepare import compile_job, prepare_job
from chop.flows.progress import SilentProgress
from chop.flows.reshape import trained_first
from chop.flows.weights import restore_weights

QUIET = SilentProgress()
WIDTHS = {"name": "channel_multiplier", "by": "name", "fc1": {"config": {"channel_multiplier": 2}}}
QUANTIZE = {
    "name": "quantize",
    "default": {"config": {"name": "integer", "data_in_width": 8, "weight_width": 8}},
}


def config(*passes: dict[str, Any], **changes: Any) -> Config:
    return load_config(
        {
            "name": "iris",
            "model": {"name": "mlp", "arguments": {"sizes": [4, 6, 3]}},
            "dataset": {"name": "iris", "batch_size": 16},
            "train": {"epochs": 2, "learning_rate": 0.02},
            "passes": list(passes),
            **changes,
        }
    )


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def widths(model: nn.Module) -> list[int]:
    return [m.out_features for m in model.modules() if isinstance(m, nn.Linear)]


def test_what_is_trained_has_the_new_widths() -> None:
    job = prepare_job(config(WIDTHS, QUANTIZE), QUIET)
    assert (widths(job.model), job.reshaped) == ([12, 3], 1)
    metrics = json.loads(Path("runs/iris/metrics.json").read_text(encoding="utf-8"))
    assert job.dataset is not None
    found = accuracy(job.model, (torch.from_numpy(job.dataset.x_test),), job.dataset.y_test)
    assert found == metrics["test_accuracy"]
    # Compiled as it is: no pass is done twice.
    made = compile_job(job, Path("build"), QUIET)
    shapes = [entry.out_shape for entry in made.manifest.layers if entry.operator == "linear"]
    assert shapes == [(12,), (3,)]
    again = load_job(config(WIDTHS, QUANTIZE), QUIET)
    assert restore_weights(again)
    assert all(
        torch.equal(a, b)
        for a, b in zip(again.model.parameters(), job.model.parameters(), strict=True)
    )


def test_weights_of_other_widths_are_not_taken() -> None:
    prepare_job(config(WIDTHS, QUANTIZE), QUIET)
    other = {**WIDTHS, "fc1": {"config": {"channel_multiplier": 2.1}}}
    assert not restore_weights(load_job(config(other, QUANTIZE), QUIET))
    assert not restore_weights(load_job(config(QUANTIZE), QUIET))
    assert not restore_weights(load_job(config({**WIDTHS, "seed": 1}, QUANTIZE), QUIET))


def test_widths_that_keep_the_weights_come_after_training() -> None:
    job = load_job(config({**WIDTHS, "weights": "widen"}, QUANTIZE), QUIET)
    assert (widths(job.model), job.reshaped) == ([6, 3], 0)
    job = load_job(config(WIDTHS, QUANTIZE, train=None), QUIET)
    assert (widths(job.model), job.reshaped) == ([6, 3], 0)


def test_a_pass_for_the_trained_network_cannot_come_first() -> None:
    with pytest.raises(ConfigError) as caught:
        load_job(config({"name": "equalize"}, WIDTHS, QUANTIZE), QUIET)
    assert str(caught.value) == (
        "job 'iris': the pass 'channel_multiplier' makes the network that is trained, and "
        "'equalize' before it is for the trained one; put 'channel_multiplier' first"
    )


def test_a_training_behind_such_passes_alone_is_the_first_one() -> None:
    train = {"epochs": 3}
    late = config(WIDTHS, QUANTIZE, train=None, retrain=train)
    first = trained_first(late)
    assert (first.train, first.retrain) == (late.retrain, None)
    folded = config(WIDTHS, {"name": "fold_batch_norm"}, QUANTIZE, train=None, retrain=train)
    assert trained_first(folded) == folded
    assert trained_first(config(QUANTIZE)) == config(QUANTIZE)
