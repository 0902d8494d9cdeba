"""Training through Lightning: the same configuration and seed give the same weights, bit for bit.

Importing this file imports Lightning, which takes seconds; import it where a model is trained.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.nn.functional import cross_entropy

from chop.config.schema import TrainConfig
from chop.datasets.dataset import Dataset
from chop.flows.progress import Advance, Progress

__all__ = ["BEST", "LAST", "Training", "train_model"]

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
) -> Training:
    """Trains `model` in place on the train split and leaves it in evaluation mode.

    Writes LAST after every epoch, BEST where there is validation data, and TensorBoard logs into
    `directory`. With `resume`, continues from LAST when there is one.
    """
    data = _Data(dataset, config.validation_fraction, batch_size, seed)
    module = _Classifier(model, config, seed)
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
            callbacks=_callbacks(config, directory, advance),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            reload_dataloaders_every_n_epochs=1,
        )
        trainer.fit(module, datamodule=data, ckpt_path=str(last) if resumed else None)
    kept = BEST if config.validation_fraction else LAST
    module.load_state_dict(torch.load(directory / kept, weights_only=True)["state_dict"])
    model.eval()
    return Training(trainer.current_epoch, kept)


def _callbacks(config: TrainConfig, directory: Path, advance: Advance) -> list[Callback]:
    def checkpoint(name: str, monitor: str | None) -> Callback:
        return ModelCheckpoint(
            dirpath=str(directory),
            filename=Path(name).stem,
            monitor=monitor,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    callbacks = [checkpoint(LAST, None), _EpochBar(advance)]
    if config.validation_fraction:
        callbacks.append(checkpoint(BEST, "val_loss"))
    if config.patience:
        callbacks.append(EarlyStopping("val_loss", patience=config.patience))
    return callbacks


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


class _Classifier(lightning.LightningModule):
    def __init__(self, model: nn.Module, config: TrainConfig, seed: int) -> None:
        super().__init__()
        self.model = model
        self._config = config
        self._seed = seed

    def on_train_epoch_start(self) -> None:
        # Dropout draws from torch's generator: seeded per epoch, a resumed run draws the same.
        torch.manual_seed(self._seed * _SEED_STRIDE + self.current_epoch)

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
        rate, decay = config.learning_rate, config.weight_decay
        optimizer: torch.optim.Optimizer
        if config.optimizer == "sgd":
            optimizer = torch.optim.SGD(
                self.parameters(), lr=rate, weight_decay=decay, momentum=config.momentum
            )
        else:
            kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
            optimizer = kind(self.parameters(), lr=rate, weight_decay=decay)
        if config.schedule == "constant":
            return {"optimizer": optimizer}
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler}}


class _Data(lightning.LightningDataModule):
    """The train split in memory; the order of an epoch depends on (seed, epoch) alone."""

    def __init__(
        self, dataset: Dataset, validation_fraction: float, batch_size: int, seed: int
    ) -> None:
        super().__init__()
        x, y = torch.from_numpy(dataset.x_train), torch.from_numpy(dataset.y_train)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        held_out = round(len(x) * validation_fraction)
        kept = order[held_out:].sort().values
        self._train = (x[kept], y[kept])
        self._validation = (x[order[:held_out]], y[order[:held_out]])
        self._batch_size = batch_size
        self._seed = seed

    def train_dataloader(self) -> _Batches:
        assert self.trainer is not None
        generator = torch.Generator().manual_seed(
            self._seed * _SEED_STRIDE + self.trainer.current_epoch
        )
        order = torch.randperm(len(self._train[0]), generator=generator)
        return _Batches(*self._train, order, self._batch_size)

    def val_dataloader(self) -> _Batches | list[_Batches]:
        x, y = self._validation
        return _Batches(x, y, torch.arange(len(x)), len(x)) if len(x) else []


class _Batches:
    """Batches of two tensors in a given order.

    A last batch of one sample is left out: batch norm has no variance to train on there.
    """

    def __init__(
        self, x: torch.Tensor, y: torch.Tensor, order: torch.Tensor, batch_size: int
    ) -> None:
        parts = torch.split(order, batch_size)
        self._parts = parts[:-1] if len(parts) > 1 and len(parts[-1]) == 1 else parts
        self._x = x
        self._y = y

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for part in self._parts:
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
