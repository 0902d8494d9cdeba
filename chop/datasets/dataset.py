"""What a data set is: two splits of samples, vectors or images, with class labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chop.errors import DataError

__all__ = ["Dataset", "Features", "Labels", "standardised"]

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A classification task.

    Attributes:
        x_train, x_test: float32 [N, *shape], normalised as the data set's own file says; vectors
            [N, features] or images [N, channels, height, width].
        y_train, y_test: int64 [N], each in 0..classes-1.

    Raises DataError when the arrays do not fit each other.
    """

    name: str
    x_train: Features
    y_train: Labels
    x_test: Features
    y_test: Labels
    classes: int

    def __post_init__(self) -> None:
        for split, x, y in (
            ("train", self.x_train, self.y_train),
            ("test", self.x_test, self.y_test),
        ):
            if x.ndim < 2 or y.shape != (len(x),) or not len(x):
                raise DataError(
                    f"dataset '{self.name}': {split} split must be [N, *shape] with N labels, "
                    f"got x {list(x.shape)} and y {list(y.shape)}; replace the file it came from"
                )
            if y.min() < 0 or y.max() >= self.classes:
                raise DataError(
                    f"dataset '{self.name}': {split} labels must be in 0..{self.classes - 1}, "
                    f"got {y.min()}..{y.max()}; replace the file it came from"
                )
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            raise DataError(
                f"dataset '{self.name}': samples of both splits must have one shape, got "
                f"{list(self.shape)} and {list(self.x_test.shape[1:])}; replace the file it came "
                "from"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.x_train.shape[1:]


def standardised(
    x_train: npt.NDArray[np.floating], x_test: npt.NDArray[np.floating]
) -> tuple[Features, Features]:
    """Returns both splits shifted and scaled to mean 0, variance 1 of the train split.

    A feature that is constant in the train split is only shifted.
    """
    mean = x_train.mean(axis=0, dtype=np.float64)
    deviation = x_train.std(axis=0, dtype=np.float64)
    deviation[deviation == 0] = 1.0
    train, test = ((x.astype(np.float64) - mean) / deviation for x in (x_train, x_test))
    return train.astype(np.float32), test.astype(np.float32)
