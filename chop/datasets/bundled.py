"""The small sets that come with scikit-learn: nothing is downloaded.

A quarter of each is the test split, stratified, shuffled with seed 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import sklearn.datasets
from sklearn.model_selection import train_test_split

from chop.datasets.dataset import Dataset, standardised

__all__ = ["breast_cancer", "digits", "digits_images", "iris", "wine"]


def digits() -> Dataset:
    """8x8 grey images of digits (1,347 / 450), 64 features in [0, 1]: pixel / 16."""
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    train, test = _split(y)
    x = (x / 16).astype(np.float32)
    return Dataset("digits", x[train], y[train], x[test], y[test], 10)


def digits_images() -> Dataset:
    """The digits as images [1, 8, 8], pixel / 16."""
    flat = digits()
    x_train, x_test = (x.reshape(-1, 1, 8, 8) for x in (flat.x_train, flat.x_test))
    return Dataset("digits_images", x_train, flat.y_train, x_test, flat.y_test, flat.classes)


def iris() -> Dataset:
    """Three species of iris (112 / 38) from 4 standardised lengths."""
    return _table("iris", *sklearn.datasets.load_iris(return_X_y=True))


def wine() -> Dataset:
    """Three cultivars of wine (133 / 45) from 13 standardised measurements."""
    return _table("wine", *sklearn.datasets.load_wine(return_X_y=True))


def breast_cancer() -> Dataset:
    """Malignant or benign (426 / 143) from 30 standardised measurements."""
    return _table("breast_cancer", *sklearn.datasets.load_breast_cancer(return_X_y=True))


def _table(name: str, x: npt.NDArray[np.float64], y: npt.NDArray[np.int64]) -> Dataset:
    train, test = _split(y)
    x_train, x_test = standardised(x[train], x[test])
    return Dataset(name, x_train, y[train], x_test, y[test], int(y.max()) + 1)


def _split(y: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Returns the indices of the train and the test rows."""
    train, test = train_test_split(np.arange(len(y)), test_size=0.25, random_state=0, stratify=y)
    return train, test
