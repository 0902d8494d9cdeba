"""Data sets: their splits and scales, the data folder, and what is said when a file is missing."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import numpy as np
import numpy.typing as npt
import pytest

from chop.datasets import DATASETS, Dataset, load_dataset
from chop.datasets.dataset import standardised
from chop.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("name", "features", "train", "test", "classes"),
    [
        ("breast_cancer", 30, 426, 143, 2),
        ("digits", 64, 1347, 450, 10),
        ("iris", 4, 112, 38, 3),
        ("wine", 13, 133, 45, 3),
    ],
)
def test_bundled_sets(name: str, features: int, train: int, test: int, classes: int) -> None:
    dataset = load_dataset(name)
    assert dataset.x_train.shape == (train, features)
    assert dataset.x_test.shape == (test, features)
    assert dataset.classes == classes
    assert set(dataset.y_test.tolist()) == set(range(classes))
    assert (dataset.x_train.dtype.name, dataset.y_train.dtype.name) == ("float32", "int64")


def test_digits_are_sixteenths_and_always_the_same() -> None:
    first, second = load_dataset("digits"), load_dataset("digits")
    levels = first.x_test * 16
    assert np.array_equal(levels, np.round(levels))
    assert (levels.min(), levels.max()) == (0, 16)
    assert np.array_equal(first.x_test, second.x_test)
    assert np.bincount(first.y_test).tolist() == [45, 46, 44, 46, 45, 46, 45, 45, 43, 45]


def test_standardised_uses_the_train_split_alone() -> None:
    train, test = standardised(np.array([[0.0, 5.0], [4.0, 5.0]]), np.array([[8.0, 6.0]]))
    assert train.tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert test.tolist() == [[3.0, 1.0]]


def _write(folder: Path, name: str, **arrays: npt.NDArray[np.generic]) -> None:
    np.savez(folder / f"{name}.npz", allow_pickle=False, **arrays)


def test_a_file_in_the_data_folder_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHOP_DATA_DIR", str(tmp_path))
    images = np.arange(3 * 28 * 28).reshape(3, 28, 28) % 256
    _write(
        tmp_path,
        "mnist",
        x_train=images.astype(np.uint8),
        y_train=np.array([3, 0, 9], np.uint8),
        x_test=images[:1].astype(np.uint8),
        y_test=np.array([7], np.uint8),
    )
    dataset = load_dataset("mnist")
    assert dataset.x_train.shape == (3, 784)
    assert dataset.x_train[0, 255] == 1.0
    assert dataset.y_train.tolist() == [3, 0, 9]


@pytest.mark.parametrize(("name", "features"), [("letter", 16), ("magic", 10), ("jsc", 16)])
def test_tables_are_standardised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, features: int
) -> None:
    monkeypatch.setenv("CHOP_DATA_DIR", str(tmp_path))
    values = np.random.default_rng(0).normal(3, 2, (100, features)).astype(np.float32)
    labels = np.arange(100) % 2
    _write(tmp_path, name, x_train=values, y_train=labels, x_test=values[:9], y_test=labels[:9])
    dataset = load_dataset(name)
    assert np.abs(dataset.x_train.mean(axis=0)).max() < 1e-6
    assert np.abs(dataset.x_train.std(axis=0) - 1).max() < 1e-6
    assert np.array_equal(dataset.x_test, dataset.x_train[:9])


class _Bunch:
    def __init__(self, data: object, target: object) -> None:
        self.data = data
        self.target = target


def test_openml_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHOP_DATA_DIR", str(tmp_path / "data"))
    asked = []

    def fetch(data_id: int, **options: object) -> _Bunch:
        asked.append(data_id)
        values = np.arange(20_000 * 16).reshape(20_000, 16) % 16
        return _Bunch(values, np.array([chr(65 + i % 26) for i in range(20_000)]))

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    first = load_dataset("letter")
    again = load_dataset("letter")
    assert asked == [6]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["letter.npz"]
    assert (len(first.x_train), len(first.x_test)) == (16_000, 4_000)
    assert first.y_train[:4].tolist() == [0, 1, 2, 3]
    assert np.array_equal(first.x_test, again.x_test)


def test_offline_without_a_file_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHOP_DATA_DIR", str(tmp_path))

    def unreachable(*arguments: object, **options: object) -> None:
        raise URLError("no network")

    # Below scikit-learn's own code, which is part of what is tested.
    monkeypatch.setattr("sklearn.datasets._openml.urlopen", unreachable)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(DataError) as caught:
        load_dataset("jsc")
    assert str(caught.value) == (
        f"dataset 'jsc': no '{tmp_path}/jsc.npz', and OpenML 42468 cannot be fetched (no network); "
        "set CHOP_DATA_DIR to a folder that has jsc.npz, or connect to the network"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_malformed_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHOP_DATA_DIR", str(tmp_path))
    path = tmp_path / "magic.npz"
    _write(tmp_path, "magic", x_train=np.zeros((2, 10)), x_test=np.zeros((2, 10)))
    with pytest.raises(DataError) as caught:
        load_dataset("magic")
    assert str(caught.value) == (
        f"dataset 'magic': '{path}' must hold x_train, y_train, x_test, y_test, "
        "has no y_train, y_test; replace the file"
    )
    path.write_bytes(b"not a zip file")
    with pytest.raises(DataError, match=rf"^dataset 'magic': '{path}' is not an \.npz file: "):
        load_dataset("magic")


def test_arrays_that_do_not_fit_are_one_line() -> None:
    x, y = np.zeros((2, 3), np.float32), np.array([0, 1])
    with pytest.raises(DataError) as caught:
        Dataset("toy", x, y[:1], x, y, 2)
    assert str(caught.value) == (
        "dataset 'toy': train split must be [N, *shape] with N labels, got x [2, 3] and y [1]; "
        "replace the file it came from"
    )
    with pytest.raises(DataError) as caught:
        Dataset("toy", x, y, x, y + 1, 2)
    assert str(caught.value) == (
        "dataset 'toy': test labels must be in 0..1, got 1..2; replace the file it came from"
    )
    with pytest.raises(DataError) as caught:
        Dataset("toy", x, y, x[:, :2], y, 2)
    assert str(caught.value) == (
        "dataset 'toy': samples of both splits must have one shape, got [3] and [2]; "
        "replace the file it came from"
    )


def test_an_unknown_name_is_one_line() -> None:
    with pytest.raises(ConfigError) as caught:
        load_dataset("digit")
    assert str(caught.value) == "unknown dataset 'digit'; did you mean 'digits'?"
    assert sorted(DATASETS) == list(DATASETS)
