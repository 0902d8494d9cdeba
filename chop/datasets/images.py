"""MNIST, one flat vector per image or as images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from chop.datasets.dataset import Dataset, Features
from chop.datasets.store import Arrays, data_directory, load_arrays
from chop.errors import DataError

__all__ = ["mnist", "mnist_images"]

_MNIST_TRAIN = 60_000


def mnist() -> Dataset:
    """28x28 grey images of digits (60,000 / 10,000), 784 features in [0, 1]: pixel / 255."""
    arrays = load_arrays("mnist", 554, _split_mnist)

    def scaled(key: str) -> Features:
        pixels = arrays[key].astype(np.float32)
        return pixels.reshape(len(pixels), -1) / np.float32(255)

    y_train, y_test = (arrays[key].astype(np.int64) for key in ("y_train", "y_test"))
    return Dataset("mnist", scaled("x_train"), y_train, scaled("x_test"), y_test, 10)


def mnist_images() -> Dataset:
    """The images of mnist as [1, 28, 28], from the same file."""
    flat = mnist()
    if flat.shape != (784,):
        path = data_directory() / "mnist.npz"
        raise DataError(
            f"dataset 'mnist_images': '{path}' must hold images of 28 x 28 = 784 pixels, got "
            f"{list(flat.shape)}; replace the file"
        )
    x_train, x_test = (x.reshape(-1, 1, 28, 28) for x in (flat.x_train, flat.x_test))
    return Dataset("mnist_images", x_train, flat.y_train, x_test, flat.y_test, flat.classes)


def _split_mnist(x: npt.NDArray[np.float64], labels: npt.NDArray[np.str_]) -> Arrays:
    # OpenML keeps the order of the original files: 60,000 train images, then 10,000 test images.
    pixels, classes = x.astype(np.uint8).reshape(-1, 28, 28), labels.astype(np.uint8)
    return {
        "x_train": pixels[:_MNIST_TRAIN],
        "y_train": classes[:_MNIST_TRAIN],
        "x_test": pixels[_MNIST_TRAIN:],
        "y_test": classes[_MNIST_TRAIN:],
    }
