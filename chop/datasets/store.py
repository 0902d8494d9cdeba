"""The data folder: <name>.npz files, filled on first use, most of them from OpenML."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import platformdirs

from chop.errors import DataError

__all__ = ["Arrays", "data_directory", "load_arrays", "stored_arrays"]

Arrays = Mapping[str, npt.NDArray[np.generic]]

_KEYS = ("x_train", "y_train", "x_test", "y_test")


def data_directory() -> Path:
    """Returns $CHOP_DATA_DIR, by default chop/data in the user's cache folder."""
    given = os.environ.get("CHOP_DATA_DIR")
    return Path(given) if given else platformdirs.user_cache_path("chop") / "data"


def load_arrays(
    name: str,
    openml_id: int,
    split: Callable[[npt.NDArray[np.float64], npt.NDArray[np.str_]], Arrays],
) -> Arrays:
    """Returns x_train, y_train, x_test, y_test of <data folder>/<name>.npz.

    A missing file is made first: OpenML's data set `openml_id` is fetched, `split` turns its
    features [N, F] and label strings [N] into the four arrays, and they are stored.

    Raises DataError when the file is malformed, or missing while OpenML cannot be reached.
    """
    return stored_arrays(name, lambda path: split(*_fetch(name, openml_id, path)))


def stored_arrays(name: str, make: Callable[[Path], Arrays]) -> Arrays:
    """Returns x_train, y_train, x_test, y_test of <data folder>/<name>.npz.

    A missing file is made first: `make` is told its path, for its errors, and returns the four
    arrays. Raises DataError when the file is malformed.
    """
    path = data_directory() / f"{name}.npz"
    if not path.is_file():
        _store(path, make(path))
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in _KEYS if key not in file]
            if missing:
                raise DataError(
                    f"dataset '{name}': '{path}' must hold {', '.join(_KEYS)}, "
                    f"has no {', '.join(missing)}; replace the file"
                )
            return {key: file[key] for key in _KEYS}
    except (OSError, ValueError, BadZipFile) as error:
        raise DataError(
            f"dataset '{name}': '{path}' is not an .npz file: {error}; replace the file"
        ) from error


def _fetch(
    name: str, openml_id: int, path: Path
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.str_]]:
    # Imported here: where the file is there, scikit-learn is not needed.
    from sklearn.datasets import fetch_openml

    try:
        # The .npz is the cache; scikit-learn's own would keep a second copy.
        with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
            # It warns before it tries again; the error below says it once.
            warnings.simplefilter("ignore")
            bunch = fetch_openml(
                data_id=openml_id,
                as_frame=False,
                parser="liac-arff",
                data_home=scratch,
                n_retries=1,
            )
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise DataError(
            f"dataset '{name}': no '{path}', and OpenML {openml_id} cannot be fetched ({reason}); "
            f"set CHOP_DATA_DIR to a folder that has {name}.npz, or connect to the network"
        ) from error
    return np.asarray(bunch.data, np.float64), np.asarray(bunch.target).astype(np.str_)


def _store(path: Path, arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Another process may be storing the same set: each writes its own file, the last rename wins.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    try:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
