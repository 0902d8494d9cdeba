"""CIFAR-10, whole and in part, as images [3, 32, 32]."""

from __future__ import annotations

import hashlib
import io
import tarfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from chop.datasets.dataset import Dataset, Features
from chop.datasets.store import Arrays, data_directory, stored_arrays
from chop.errors import DataError

__all__ = ["cifar10", "cifar10_subset"]

_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
_TIMEOUT_SECONDS = 60
_FOLDER = "cifar-10-batches-bin"
_TRAIN = tuple(f"data_batch_{k}.bin" for k in range(1, 6))
_TEST = ("test_batch.bin",)
# A record is the label and the red, green and blue plane, row by row.
_RECORD_BYTES = 1 + 3 * 32 * 32
_SUBSET_TRAIN, _SUBSET_TEST = 700, 200


def cifar10() -> Dataset:
    """32x32 colour images of 10 classes (50,000 / 10,000) as [3, 32, 32]: pixel / 128 - 1.

    So 8 bits, 7 of them fractional, hold every pixel exactly.
    """
    return _images("cifar10", stored_arrays("cifar10", _fetch))


def cifar10_subset() -> Dataset:
    """Part of CIFAR-10 (7,000 / 2,000, as many of each class) as [3, 32, 32]: pixel / 128 - 1.

    Without a file of its own it is cut from cifar10: the first images of each class.
    """
    return _images("cifar10_subset", stored_arrays("cifar10_subset", _cut))


def _images(name: str, arrays: Arrays) -> Dataset:
    def scaled(key: str) -> Features:
        pixels = arrays[key]
        if pixels.shape[1:] != (32, 32, 3) or pixels.dtype != np.uint8:
            raise DataError(
                f"dataset '{name}': {key} of '{data_directory() / f'{name}.npz'}' must be uint8 "
                f"[N, 32, 32, 3], got {pixels.dtype} {list(pixels.shape)}; replace the file"
            )
        planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32)
        planes /= np.float32(128)
        planes -= np.float32(1)
        return planes

    y_train, y_test = (arrays[key].astype(np.int64) for key in ("y_train", "y_test"))
    return Dataset(name, scaled("x_train"), y_train, scaled("x_test"), y_test, 10)


def _cut(path: Path) -> Arrays:
    """Returns the first images of each class of cifar10, shuffled with seed 0."""
    try:
        whole = stored_arrays("cifar10", _fetch)
    except DataError as error:
        raise DataError(
            f"dataset 'cifar10_subset': no '{path}', and it cannot be cut from cifar10: {error}"
        ) from error
    found: dict[str, npt.NDArray[np.generic]] = {}
    for split, count in (("train", _SUBSET_TRAIN), ("test", _SUBSET_TEST)):
        y = whole[f"y_{split}"]
        rows = np.concatenate([np.flatnonzero(y == label)[:count] for label in range(10)])
        rows = np.random.default_rng(0).permutation(rows)
        found |= {f"x_{split}": whole[f"x_{split}"][rows], f"y_{split}": y[rows]}
    return found


def _fetch(path: Path) -> Arrays:
    """Returns the official files as images [N, 32, 32, 3] and labels [N], all uint8."""
    try:
        with urllib.request.urlopen(_URL, timeout=_TIMEOUT_SECONDS) as response:
            archive = response.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise DataError(
            f"dataset 'cifar10': no '{path.with_name('cifar10.npz')}', and {_URL} cannot be "
            f"fetched ({reason}); set CHOP_DATA_DIR to a folder that has cifar10.npz, or connect "
            "to the network"
        ) from error
    digest = hashlib.sha256(archive).hexdigest()
    if digest != _SHA256:
        raise DataError(
            f"dataset 'cifar10': {_URL} must have the SHA-256 sum {_SHA256}, got {digest}; "
            "try again, or set CHOP_DATA_DIR to a folder that has cifar10.npz"
        )
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as files:
        x_train, y_train = _records(files, _TRAIN)
        x_test, y_test = _records(files, _TEST)
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def _records(
    files: tarfile.TarFile, names: Sequence[str]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Returns the images [N, 32, 32, 3] and labels [N] of some files of the archive."""
    parts = []
    for name in names:
        file = files.extractfile(f"{_FOLDER}/{name}")
        assert file is not None, f"{name} is no file"
        parts.append(np.frombuffer(file.read(), np.uint8).reshape(-1, _RECORD_BYTES))
    records = np.concatenate(parts)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), records[:, 0].copy()
