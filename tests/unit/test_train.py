"""Training: the same bits from the same seed, resumption, early stop, and files that fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from chop.config import Config, load_config
from chop.datasets import load_dataset
from chop.errors import ConfigError, DataError, ShapeError
from chop.flows.job import accuracy, load_job
from chop.flows.progress import SilentProgress
from chop.flows.weights import restore_weights, train_job

QUIET = SilentProgress()


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _config(**train: object) -> Config:
    return load_config(
        {
            "name": "tiny",
            "model": {
                "name": "mlp",
                "arguments": {"sizes": [4, 8, 3], "batch_norm": True},
            },
            "dataset": {"name": "iris", "batch_size": 16},
            "train": {"epochs": 4, "learning_rate": 0.02, **train},
        }
    )


def _weights(config: Config, resume: bool = False) -> dict[str, torch.Tensor]:
    job = load_job(config, QUIET)
    train_job(job, QUIET, resume)
    return dict(job.model.state_dict())


def _same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first)


def test_the_seed_decides_every_bit() -> None:
    torch.manual_seed(1)
    first = _weights(_config())
    torch.manual_seed(2)
    assert _same(first, _weights(_config()))
    assert not _same(first, _weights(_config().model_copy(update={"seed": 1})))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_a_resumed_training_gives_the_same_bits(optimizer: str) -> None:
    whole = _weights(_config(optimizer=optimizer, epochs=5))
    _weights(_config(optimizer=optimizer, epochs=2))
    assert _same(whole, _weights(_config(optimizer=optimizer, epochs=5), resume=True))
    metrics = json.loads(Path("runs/tiny/metrics.json").read_text())
    assert metrics["epochs"] == 5


def test_resuming_another_configuration_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        _weights(_config(), resume=True)
    assert str(caught.value) == "no training in 'runs/tiny' to resume; train without --resume"
    _weights(_config())
    with pytest.raises(ConfigError) as caught:
        _weights(_config(learning_rate=0.5), resume=True)
    assert str(caught.value) == (
        "the training in 'runs/tiny' had another configuration: only epochs and patience may "
        "change when it is resumed; train without --resume"
    )


def test_early_stop_keeps_the_best_weights() -> None:
    config = _config(epochs=400, patience=2, validation_fraction=0.3, learning_rate=0.1)
    job = load_job(config, QUIET)
    metrics = train_job(job, QUIET)
    assert metrics.epochs < 400
    assert metrics.checkpoint == "best.ckpt"
    best = torch.load("runs/tiny/best.ckpt", weights_only=True)
    last = torch.load("runs/tiny/last.ckpt", weights_only=True)
    # Two epochs without a better one ended it.
    assert last["epoch"] - best["epoch"] == 2
    assert torch.equal(best["state_dict"]["model.fc1.weight"], job.model.state_dict()["fc1.weight"])


def test_a_finished_training_is_found_again_and_another_is_not() -> None:
    trained = load_job(_config(), QUIET)
    assert not restore_weights(trained)
    metrics = train_job(trained, QUIET)
    again = load_job(_config(), QUIET)
    assert restore_weights(again)
    assert _same(dict(trained.model.state_dict()), dict(again.model.state_dict()))
    assert again.labels is not None
    assert accuracy(again.model, again.test, again.labels) == metrics.test_accuracy
    assert not restore_weights(load_job(_config(epochs=5), QUIET))
    calibrated = _config().model_copy(
        update={"dataset": _config().dataset.model_copy(update={"calibration_samples": 7})}  # type: ignore[union-attr]
    )
    assert restore_weights(load_job(calibrated, QUIET))


def test_where_checkpoints_are_written_changes_no_weight() -> None:
    whole = _weights(_config())
    often = _weights(_config(checkpoint_every_steps=2))
    assert _same(whole, often)
    # So the weights of the one are found for the other.
    assert restore_weights(load_job(_config(checkpoint_every_steps=3), QUIET))


def test_a_clipped_gradient_moves_no_further_than_the_clip() -> None:
    start = dict(load_job(_config(), QUIET).model.state_dict())
    clip: dict[str, object] = {"optimizer": "sgd", "momentum": 0.0, "gradient_clip": 1e-3}
    moved = _weights(_config(learning_rate=1.0, epochs=1, **clip))
    # 7 steps of rate 1.
    norm = sum(float((moved[k] - start[k]).square().sum()) for k in ("fc1.weight", "fc2.weight"))
    assert 0 < norm**0.5 <= 7e-3


def test_the_learning_rate_rises_and_falls() -> None:
    from chop.flows.train import rate_factor

    settings = {"epochs": 6, "warmup_epochs": 2, "schedule": "cosine"}
    config = _config(**settings).train
    assert config is not None
    factors = [rate_factor(config, epoch) for epoch in range(6)]
    expected = [1 / 3, 2 / 3, 1.0, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2]
    assert factors == pytest.approx(expected)
    constant = config.model_copy(update={"schedule": "constant"})
    assert [rate_factor(constant, epoch) for epoch in range(2, 6)] == [1.0] * 4
    # And the optimiser follows it.
    assert not _same(_weights(_config(**settings)), _weights(_config(epochs=6)))


def test_an_unfinished_training_is_not_taken() -> None:
    job = load_job(_config(), QUIET)
    train_job(job, QUIET)
    Path("runs/tiny/metrics.json").unlink()
    assert not restore_weights(load_job(_config(), QUIET))


def test_a_damaged_checkpoint_is_one_line() -> None:
    train_job(load_job(_config(), QUIET), QUIET)
    Path("runs/tiny/last.ckpt").write_bytes(b"damaged")
    with pytest.raises(DataError) as caught:
        restore_weights(load_job(_config(), QUIET))
    assert str(caught.value) == (
        "training file 'runs/tiny/last.ckpt' cannot be read; delete 'runs/tiny' and train again"
    )


def test_tensorboard_gets_the_loss() -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_job(load_job(_config(epochs=20), QUIET), QUIET)
    events = EventAccumulator("runs/tiny")
    events.Reload()
    assert "train_loss" in events.Tags()["scalars"]


def test_a_last_batch_of_one_sample_is_left_out() -> None:
    # 112 samples in batches of 37 leave one over, which batch norm cannot train on.
    config = load_config(
        _config().model_dump(exclude_none=True), ["dataset.batch_size=37", "train.epochs=1"]
    )
    assert load_dataset("iris").x_train.shape[0] % 37 == 1
    assert np.isfinite(_weights(config)["bn1.running_var"].numpy()).all()


def test_a_model_that_does_not_fit_the_data_is_one_line() -> None:
    def message(sizes: str) -> str:
        config = load_config(
            _config().model_dump(exclude_none=True), [f"model.arguments.sizes={sizes}"]
        )
        with pytest.raises(ShapeError) as caught:
            load_job(config, QUIET)
        return str(caught.value)

    assert message("[5, 3]") == (
        "job 'tiny': the model does not take samples of dataset 'iris', shape [4]: "
        "mat1 and mat2 shapes cannot be multiplied (2x4 and 5x3); change model.arguments"
    )
    assert message("[4, 2]") == (
        "job 'tiny': the model must give [2, 3] scores for two samples of dataset 'iris', "
        "got [2, 2]; change model.arguments"
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "job 'design': no model; add a [model] table or name one with --model"),
        (
            {"model": {"name": "JSC_Tiny"}},
            "job 'design': the input shapes are unknown; add a [dataset] table, or the shape of "
            "one sample of every input, e.g. model.inputs = [[16]]",
        ),
        (
            {"model": {"name": "JSC_Tiny"}, "train": {}},
            "job 'design': training needs a [dataset] table",
        ),
    ],
)
def test_a_job_with_a_part_missing_is_one_line(source: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_job(load_config(source), QUIET)
    assert str(caught.value) == message


def test_a_job_without_data_gets_random_samples() -> None:
    config = load_config(
        {
            "model": {"name": "JSC_Tiny", "inputs": [[16]]},
            "simulate": {"samples": 12},
        }
    )
    first, second = load_job(config, QUIET), load_job(config, QUIET)
    assert first.test[0].shape == (12, 16)
    assert first.calibration[0].shape == (256, 16)
    assert torch.equal(first.test[0], second.test[0])
    assert first.labels is None
