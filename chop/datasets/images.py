"""Image sets, one flat vector per image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from chop.datasets.dataset import Dataset, Features
from chop.datasets.store import Arrays, load_arrays

__all__ = ["mnist"]

_MNIST_TRAIN = 60_000


def mnist() -> Dataset:
    """28x28 grey images of digits (60,000 / 10,000), 784 features in [0, 1]: pixel / 255."""
    arrays = load_arrays("mnist", 554, _split_mnist)

    def scaled(key: str) -> Features:
        pixels = arrays[key].astype(np.float32)
        return pixels.reshape(len(pixels), -1) / np.float32(255)

    y_train, y_test = (arrays[key].astype(np.int64) for key in ("y_train", "y_test"))
    return Dataset("mnist", scaled("x_train"), y_train, scaled("x_test"), y_test, 10)


def _split_mnist(x: npt.NDArray[np.float64], labels: npt.NDArray[np.str_]) -> Arrays:
    # OpenML keeps the order of the original files: 60,000 train images, then 10,000 test images.
    pixels, classes = x.astype(np.uint8).reshape(-1, 28, 28), labels.astype(np.uint8)
    return {
        "x_train": pixels[:_MNIST_TRAIN],
        "y_train": classes[:_MNIST_TRAIN],
        "x_test": pixels[_MNIST_TRAIN:],
        "y_test": classes[_MNIST_TRAIN:],
    }
