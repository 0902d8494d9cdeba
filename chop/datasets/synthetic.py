"""Data sets that are drawn here: for networks whose own data cannot be had, and are not like it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from chop.datasets.dataset import Dataset, standardised

__all__ = ["jsc_synthetic"]

_FEATURES, _CLASSES, _CLUSTERS, _LATENT = 16, 5, 4, 6
_TRAIN, _TEST = 8192, 4096
_SEED = 2029
_SPREAD = 0.75


def jsc_synthetic() -> Dataset:
    """Shaped as the jets of `jsc` (16 features, 5 classes; 8,192 / 4,096), and drawn from a seed.

    No jet is in it: every class is four Gaussian clusters in six dimensions, which a fixed random
    layer of tanh and a mixing matrix spread over 16 standardised features, with noise. The classes
    overlap, and no line separates them.
    """
    rng = np.random.Generator(np.random.PCG64(_SEED))
    centres = rng.normal(size=(_CLASSES, _CLUSTERS, _LATENT))
    hidden = rng.normal(size=(_LATENT, 2 * _FEATURES)) / _LATENT**0.5
    mixing = rng.normal(size=(2 * _FEATURES, _FEATURES)) / (2 * _FEATURES) ** 0.5

    def draw(count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        y = np.arange(count, dtype=np.int64) % _CLASSES
        rng.shuffle(y)
        cluster = rng.integers(_CLUSTERS, size=count)
        latent = centres[y, cluster] + _SPREAD * rng.normal(size=(count, _LATENT))
        x = np.tanh(2 * latent @ hidden) @ mixing + 0.05 * rng.normal(size=(count, _FEATURES))
        return x, y

    (x_train, y_train), (x_test, y_test) = draw(_TRAIN), draw(_TEST)
    train, test = standardised(x_train, x_test)
    return Dataset("jsc_synthetic", train, y_train, test, y_test, _CLASSES)
