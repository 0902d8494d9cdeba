"""Tabular sets, standardised by the statistics of their train split."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from chop.datasets.dataset import Dataset, standardised
from chop.datasets.store import Arrays, load_arrays

__all__ = ["jsc", "letter", "magic"]

Split = Callable[[npt.NDArray[np.float64], npt.NDArray[np.str_]], Arrays]

_LETTER_TRAIN = 16_000


def letter() -> Dataset:
    """26 letters (16,000 / 4,000, the usual split) from 16 measurements; A is class 0."""
    return _table("letter", 6, _split_letter, classes=26)


def magic() -> Dataset:
    """Gamma (0) or hadron (1) showers (15,216 / 3,804) from 10 measurements."""
    return _table("magic", 1120, _random_split(0), classes=2)


def jsc() -> Dataset:
    """Jet substructure classification (664,000 / 166,000): 5 kinds of jet from 16 features.

    The split (a fifth, seed 42) is that of the hls4ml tutorial, for comparable figures.
    """
    return _table("jsc", 42468, _random_split(42), classes=5)


def _table(name: str, openml_id: int, split: Split, classes: int) -> Dataset:
    arrays = load_arrays(name, openml_id, split)
    x_train, x_test = standardised(
        arrays["x_train"].astype(np.float64), arrays["x_test"].astype(np.float64)
    )
    y_train, y_test = (arrays[key].astype(np.int64) for key in ("y_train", "y_test"))
    return Dataset(name, x_train, y_train, x_test, y_test, classes)


def _classes(labels: npt.NDArray[np.str_]) -> npt.NDArray[np.uint8]:
    return np.unique(labels, return_inverse=True)[1].astype(np.uint8)


def _split_letter(x: npt.NDArray[np.float64], labels: npt.NDArray[np.str_]) -> Arrays:
    y = _classes(labels)
    return {
        "x_train": x[:_LETTER_TRAIN].astype(np.uint8),
        "y_train": y[:_LETTER_TRAIN],
        "x_test": x[_LETTER_TRAIN:].astype(np.uint8),
        "y_test": y[_LETTER_TRAIN:],
    }


def _random_split(seed: int) -> Split:
    def split(x: npt.NDArray[np.float64], labels: npt.NDArray[np.str_]) -> Arrays:
        from sklearn.model_selection import train_test_split

        x_train, x_test, y_train, y_test = train_test_split(
            x.astype(np.float32), _classes(labels), test_size=0.2, random_state=seed
        )
        return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}

    return split
