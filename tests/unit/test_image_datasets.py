"""Images as [C, H, W]: MNIST, digits and CIFAR-10, from files made here."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import numpy.typing as npt
import pytest

from chop.datasets import cifar10 as source
from chop.datasets import load_dataset
from chop.errors import DataError

Bytes = npt.NDArray[np.uint8]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder, empty."""
    monkeypatch.setenv("CHOP_DATA_DIR", str(tmp_path))
    return tmp_path


def _write(folder: Path, name: str, x: npt.NDArray[np.generic], y: npt.NDArray[np.generic]) -> None:
    """Stores samples; the last one is the test split."""
    arrays = {"x_train": x[:-1], "y_train": y[:-1], "x_test": x[-1:], "y_test": y[-1:]}
    np.savez(folder / f"{name}.npz", allow_pickle=False, **arrays)


def _images(shape: tuple[int, ...], seed: int = 0) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_digits_images_are_the_digits() -> None:
    flat, images = load_dataset("digits"), load_dataset("digits_images")
    assert images.x_train.shape == (1347, 1, 8, 8)
    assert images.x_test.shape == (450, 1, 8, 8)
    assert images.shape == (1, 8, 8)
    assert np.array_equal(images.x_test[:, 0, 3, 5], flat.x_test[:, 3 * 8 + 5])
    assert np.array_equal(images.y_train, flat.y_train)


def test_mnist_images_are_those_of_mnist(folder: Path) -> None:
    pixels = _images((4, 28, 28))
    _write(folder, "mnist", pixels, np.array([3, 0, 9, 7], np.uint8))
    flat, images = load_dataset("mnist"), load_dataset("mnist_images")
    assert images.shape == (1, 28, 28)
    assert images.x_train.shape == (3, 1, 28, 28)
    assert images.x_train[1, 0, 20, 3] == np.float32(pixels[1, 20, 3]) / np.float32(255)
    assert np.array_equal(images.x_test.reshape(1, 784), flat.x_test)
    assert images.y_train.tolist() == [3, 0, 9]


def test_mnist_of_another_size_is_refused_as_images(folder: Path) -> None:
    _write(folder, "mnist", _images((3, 10, 10)), np.array([1, 2, 3], np.uint8))
    assert load_dataset("mnist").shape == (100,)
    with pytest.raises(DataError) as caught:
        load_dataset("mnist_images")
    assert str(caught.value) == (
        f"dataset 'mnist_images': '{folder}/mnist.npz' must hold images of 28 x 28 = 784 pixels, "
        "got [100]; replace the file"
    )


@pytest.mark.parametrize("name", ["cifar10", "cifar10_subset"])
def test_cifar10_pixels_are_exact_in_eight_bits(folder: Path, name: str) -> None:
    pixels = _images((5, 32, 32, 3))
    pixels[0, 0, 0] = (0, 128, 255)
    _write(folder, name, pixels, np.array([9, 0, 4, 4, 1], np.uint8))
    dataset = load_dataset(name)
    assert dataset.name == name
    assert dataset.shape == (3, 32, 32)
    assert dataset.classes == 10
    assert dataset.x_train[0, :, 0, 0].tolist() == [-1.0, 0.0, 127 / 128]
    assert np.array_equal(
        (dataset.x_test[0] + 1) * 128, pixels[4].transpose(2, 0, 1).astype(np.float32)
    )
    assert dataset.x_train.dtype == np.float32
    assert dataset.x_train.flags.c_contiguous
    assert (dataset.y_train.tolist(), dataset.y_test.tolist()) == ([9, 0, 4, 4], [1])


@pytest.mark.parametrize(
    ("pixels", "got"),
    [
        (np.zeros((2, 3, 32, 32), np.uint8), "uint8 [1, 3, 32, 32]"),
        (np.zeros((2, 32, 32, 3), np.float32), "float32 [1, 32, 32, 3]"),
    ],
)
def test_cifar10_of_another_form_is_refused(
    folder: Path, pixels: npt.NDArray[np.generic], got: str
) -> None:
    _write(folder, "cifar10", pixels, np.array([1, 2], np.uint8))
    with pytest.raises(DataError) as caught:
        load_dataset("cifar10")
    assert str(caught.value) == (
        f"dataset 'cifar10': x_train of '{folder}/cifar10.npz' must be uint8 [N, 32, 32, 3], "
        f"got {got}; replace the file"
    )


def test_the_subset_is_cut_from_the_whole_with_as_many_of_each_class(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_SUBSET_TRAIN", 3)
    monkeypatch.setattr(source, "_SUBSET_TEST", 1)
    x_train, x_test = _images((60, 32, 32, 3)), _images((30, 32, 32, 3), 1)
    y_train, y_test = np.arange(60) % 10, np.arange(30) // 3
    np.savez(
        folder / "cifar10.npz",
        allow_pickle=False,
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
    )
    subset = load_dataset("cifar10_subset")
    assert (folder / "cifar10_subset.npz").is_file()
    assert np.bincount(subset.y_train).tolist() == [3] * 10
    assert np.bincount(subset.y_test).tolist() == [1] * 10
    # The first three of each class are images 0..29; they are shuffled, with their labels.
    whole = load_dataset("cifar10")
    kept = {x.tobytes(): int(y) for x, y in zip(whole.x_train[:30], y_train[:30], strict=True)}
    found = [(x.tobytes(), int(y)) for x, y in zip(subset.x_train, subset.y_train, strict=True)]
    assert dict(found) == kept
    assert [y for _, y in found] != sorted(y for _, y in found)
    again = load_dataset("cifar10_subset")
    assert np.array_equal(again.x_train, subset.x_train)


class _Reply(io.BytesIO):
    """What urlopen returns."""


def _archive(records: dict[str, Bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as files:
        for name, record in records.items():
            data = record.tobytes()
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = len(data)
            files.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def test_the_official_files_are_read_once_and_checked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records of a label and three planes, two in each file, in the order of the files."""
    names = [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]
    records = {name: _images((2, 3073), seed) for seed, name in enumerate(names)}
    for index, record in enumerate(records.values()):
        record[:, 0] = (index, 9 - index)
    archive = _archive(records)
    asked = []

    def reply(url: str, timeout: float) -> _Reply:
        asked.append(url)
        return _Reply(archive)

    monkeypatch.setattr("urllib.request.urlopen", reply)
    digest = hashlib.sha256(archive).hexdigest()
    with pytest.raises(DataError) as caught:
        load_dataset("cifar10")
    assert str(caught.value) == (
        "dataset 'cifar10': https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz must have the "
        "SHA-256 sum c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd, got "
        f"{digest}; try again, or set CHOP_DATA_DIR to a folder that has cifar10.npz"
    )
    assert list(folder.iterdir()) == []
    monkeypatch.setattr(source, "_SHA256", digest)
    dataset, again = load_dataset("cifar10"), load_dataset("cifar10")
    assert len(asked) == 2
    assert dataset.y_train.tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert dataset.y_test.tolist() == [5, 4]
    # Image 3, blue, row 7, column 30.
    stored = records["data_batch_2.bin"][1, 1 + 2 * 1024 + 7 * 32 + 30]
    assert dataset.x_train[3, 2, 7, 30] == np.float32(stored) / 128 - 1
    assert np.array_equal(dataset.x_test, again.x_test)


def test_offline_without_files_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(url: str, timeout: float) -> _Reply:
        raise URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    fetch = (
        f"dataset 'cifar10': no '{folder}/cifar10.npz', and "
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz cannot be fetched (no network); "
        "set CHOP_DATA_DIR to a folder that has cifar10.npz, or connect to the network"
    )
    with pytest.raises(DataError) as caught:
        load_dataset("cifar10")
    assert str(caught.value) == fetch
    with pytest.raises(DataError) as caught:
        load_dataset("cifar10_subset")
    assert str(caught.value) == (
        f"dataset 'cifar10_subset': no '{folder}/cifar10_subset.npz', and it cannot be cut from "
        f"cifar10: {fetch}"
    )
    assert list(folder.iterdir()) == []
