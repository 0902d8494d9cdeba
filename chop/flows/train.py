"""Training through Lightning: the same configuration and seed give the same weights, bit for bit.

Importing this file imports Lightning, which takes seconds; import it where a model is trained.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.nn.functional import cross_entropy

from chop.config.schema import TrainConfig
from chop.datasets.dataset import Dataset
from chop.flows.progress import Advance, Progress
from chop.nn.controllers import Controller
from chop.nn.masks import hold_zeros, masked_parameters
from chop.nn.quantizer import Moment
from chop.nn.quantizers.control import (
    Driven,
    after_step,
    before_step,
    number_depths,
    parameter_groups,
    quantizers_of,
)

__all__ = ["BEST", "LAST", "Training", "rate_factor", "train_model", "validation_indices"]

LAST = "last.ckpt"
BEST = "best.ckpt"

# Keeps the streams of (seed, epoch) pairs apart; any large odd number does.
_SEED_STRIDE = 1_000_003


@dataclass(frozen=True, slots=True)
class Training:
    """What a training run did.

    Attributes:
        epochs: how many ran, over all resumptions.
        checkpoint: the file name of the kept weights: the best ones where there is validation
            data, else the last ones.
    """

    epochs: int
    checkpoint: str


def train_model(
    model: nn.Module,
    dataset: Dataset,
    config: TrainConfig,
    *,
    batch_size: int,
    seed: int,
    directory: Path,
    resume: bool,
    progress: Progress,
    controllers: Sequence[Controller] = (),
    after_epoch: Callable[[int], None] | None = None,
) -> Training:
    """Trains `model`, float or quantised, in place and leaves it in evaluation mode.

    Drives the controllers of its quantisers, and `controllers` before these; pruned weights stay
    zero. Writes LAST after every epoch (and in between, where
    the configuration asks for it), BEST where there is validation data, and TensorBoard logs into
    `directory`. With `resume`, continues from LAST when there is one, to the very bits of a
    training that was never interrupted. `after_epoch` is called with the number of every epoch that
    ended, from 0; what it raises ends the training.
    """
    data = _Data(dataset, config.validation_fraction, batch_size, seed)
    module = _Classifier(model, config, seed)
    # Lightning trains in the mode that it finds.
    module.train()
    last = directory / LAST
    resumed = resume and last.is_file()
    if not resumed:
        for name in (LAST, BEST):
            (directory / name).unlink(missing_ok=True)
    with (
        _quiet(),
        _one_thread(),
        torch.random.fork_rng(devices=[]),
        progress.task(f"train on {dataset.name}", config.epochs) as advance,
    ):
        trainer = lightning.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=config.epochs,
            logger=TensorBoardLogger(str(directory), name="", version=""),
            callbacks=[
                *([] if after_epoch is None else [_AfterEpoch(after_epoch)]),
                *_callbacks(model, config, seed, directory, advance, controllers),
            ],
            gradient_clip_val=config.gradient_clip or None,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            reload_dataloaders_every_n_epochs=1,
        )
        trainer.fit(module, datamodule=data, ckpt_path=str(last) if resumed else None)
    kept = BEST if config.validation_fraction else LAST
    module.load_state_dict(torch.load(directory / kept, weights_only=True)["state_dict"])
    for controller in controllers:
        controller.finish()
    model.eval()
    return Training(trainer.current_epoch, kept)


def _callbacks(
    model: nn.Module,
    config: TrainConfig,
    seed: int,
    directory: Path,
    advance: Advance,
    controllers: Sequence[Controller],
) -> list[Callback]:
    driver = _Controllers(model, config, seed, controllers)
    callbacks: list[Callback] = [driver, _EpochBar(advance)]
    if config.patience:
        callbacks.append(EarlyStopping("val_loss", patience=config.patience))
    # Lightning calls checkpoints last, so that they hold what the others have come to.
    return [*callbacks, _Keep(directory, config.checkpoint_every_steps)]


class _Controllers(Callback):
    """Drives the quantisers of a model, its masks, and what else changes its weights."""

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        seed: int,
        controllers: Sequence[Controller],
    ) -> None:
        self._model = model
        self._controllers = controllers
        self._epochs = config.epochs
        self._seed = seed
        self._driven: list[Driven] = []
        self._masked: list[nn.Module] = []

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        number_depths(self._model)
        self._driven = quantizers_of(self._model)
        self._masked = list(dict.fromkeys(module for module, _ in masked_parameters(self._model)))

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: object,
        batch_idx: int,
    ) -> None:
        steps = self._epochs * int(trainer.num_training_batches)
        moment = Moment(trainer.current_epoch, self._epochs, trainer.global_step, steps, self._seed)
        with torch.no_grad():
            for controller in self._controllers:
                controller.before_step(moment)
        before_step(self._driven, moment)

    @torch.no_grad()
    def on_before_optimizer_step(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        for controller in self._controllers:
            controller.before_update()

    @torch.no_grad()
    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        for controller in self._controllers:
            controller.after_step()
        for module in self._masked:
            hold_zeros(module)
        after_step(self._driven)


class _Keep(Checkpoint):
    """Writes LAST and BEST, each in one piece: a run may be killed at any moment."""

    def __init__(self, directory: Path, every_steps: int) -> None:
        self._directory = directory
        self._every_steps = every_steps
        self._best: float | None = None

    def state_dict(self) -> dict[str, float | None]:
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, float | None]) -> None:
        self._best = state_dict["best"]

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        # The last batch of an epoch is kept with its epoch: Lightning restarts there cleanly.
        if (
            self._every_steps
            and trainer.global_step % self._every_steps == 0
            and batch_idx + 1 < trainer.num_training_batches
        ):
            self._save(trainer, LAST)

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        if "val_loss" in trainer.callback_metrics:
            loss = float(trainer.callback_metrics["val_loss"])
            if self._best is None or loss < self._best:
                self._best = math.inf if math.isnan(loss) else loss
                self._save(trainer, BEST)
        # After BEST: what is resumed from must know how good that one was.
        self._save(trainer, LAST)

    def _save(self, trainer: lightning.Trainer, name: str) -> None:
        unfinished = self._directory / f".{name}"
        trainer.save_checkpoint(unfinished)
        os.replace(unfinished, self._directory / name)


class _EpochBar(Callback):
    def __init__(self, advance: Advance) -> None:
        self._advance = advance

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        self._advance(trainer.current_epoch)

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        self._advance(1)


class _AfterEpoch(Callback):
    def __init__(self, call: Callable[[int], None]) -> None:
        self._call = call

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        self._call(trainer.current_epoch)


class _Classifier(lightning.LightningModule):
    def __init__(self, model: nn.Module, config: TrainConfig, seed: int) -> None:
        super().__init__()
        self.model = model
        self._config = config
        self._seed = seed

    def on_train_batch_start(
        self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int
    ) -> None:
        # Dropout draws from torch's generator: seeded per step, a resumed run draws the same.
        stream = np.random.SeedSequence((self._seed, self.global_step))
        torch.manual_seed(int(stream.generate_state(1, np.uint64)[0] >> 1))

    def training_step(
        self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int
    ) -> torch.Tensor:
        x, y = batch
        loss = cross_entropy(self.model(x), y)
        self.log("train_loss", loss, on_step=True, on_epoch=False, batch_size=len(x))
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> None:
        x, y = batch
        scores = self.model(x)
        hits = (scores.argmax(dim=1) == y).float().mean()
        self.log("val_loss", cross_entropy(scores, y), batch_size=len(x))
        self.log("val_accuracy", hits, batch_size=len(x))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        config = self._config
        rate = config.learning_rate
        groups = [
            {
                "params": list(group.parameters),
                "lr": rate * group.tuning.rate,
                "weight_decay": config.weight_decay
                if group.tuning.weight_decay is None
                else group.tuning.weight_decay,
            }
            for group in parameter_groups(self.model)
        ]
        optimizer: torch.optim.Optimizer
        if config.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, lr=rate, momentum=config.momentum)
        else:
            kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
            optimizer = kind(groups, lr=rate)
        if config.schedule == "constant" and not config.warmup_epochs:
            return {"optimizer": optimizer}
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(rate_factor, config))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler}}


def rate_factor(config: TrainConfig, epoch: int) -> float:
    """Returns the factor on the learning rate: a linear rise, then constant or half a cosine."""
    warmup = config.warmup_epochs
    if epoch < warmup:
        return (epoch + 1) / (warmup + 1)
    if config.schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * (epoch - warmup) / max(config.epochs - warmup, 1))) / 2


def validation_indices(count: int, fraction: float, seed: int) -> torch.Tensor:
    """Returns which of `count` training samples are held out for validation."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[: round(count * fraction)]


class _Data(lightning.LightningDataModule):
    """The train split in memory; the order of an epoch depends on (seed, epoch) alone."""

    def __init__(
        self, dataset: Dataset, validation_fraction: float, batch_size: int, seed: int
    ) -> None:
        super().__init__()
        x, y = torch.from_numpy(dataset.x_train), torch.from_numpy(dataset.y_train)
        held_out = validation_indices(len(x), validation_fraction, seed)
        kept = torch.ones(len(x), dtype=torch.bool)
        kept[held_out] = False
        self._train = (x[kept], y[kept])
        self._validation = (x[held_out], y[held_out])
        self._batch_size = batch_size
        self._seed = seed

    def train_dataloader(self) -> _Batches:
        assert self.trainer is not None
        generator = torch.Generator().manual_seed(
            self._seed * _SEED_STRIDE + self.trainer.current_epoch
        )
        order = torch.randperm(len(self._train[0]), generator=generator)
        return _Batches(*self._train, order, self._batch_size, self._batches_done)

    @property
    def _batches_done(self) -> int:
        """How many batches of this epoch were trained on before the checkpoint resumed from."""
        assert self.trainer is not None
        loop = self.trainer.fit_loop
        # At the end of an epoch the counters still stand there, and the next one begins.
        return loop.epoch_loop.batch_progress.current.ready if loop.restarting else 0

    def val_dataloader(self) -> _Batches | list[_Batches]:
        x, y = self._validation
        return _Batches(x, y, torch.arange(len(x)), len(x)) if len(x) else []


class _Batches:
    """Batches of two tensors in a given order; iteration skips those that were done, the length
    counts them.

    A last batch of one sample is left out: batch norm has no variance to train on there.
    """

    def __init__(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        order: torch.Tensor,
        batch_size: int,
        done: int = 0,
    ) -> None:
        parts = torch.split(order, batch_size)
        self._parts = parts[:-1] if len(parts) > 1 and len(parts[-1]) == 1 else parts
        self._x = x
        self._y = y
        self._done = done % len(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for part in self._parts[self._done :]:
            yield self._x[part], self._y[part]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order on every machine, and small layers train faster this way."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning greets, advises and warns about things that are chosen here."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
