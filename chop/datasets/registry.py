"""Name -> "module:function" of every data set; `load_dataset` calls it."""

from __future__ import annotations

import importlib

from chop.datasets.dataset import Dataset
from chop.errors import ConfigError, did_you_mean

__all__ = ["DATASETS", "load_dataset"]

DATASETS = {
    "breast_cancer": "chop.datasets.bundled:breast_cancer",
    "cifar10": "chop.datasets.cifar10:cifar10",
    "cifar10_subset": "chop.datasets.cifar10:cifar10_subset",
    "digits": "chop.datasets.bundled:digits",
    "digits_images": "chop.datasets.bundled:digits_images",
    "iris": "chop.datasets.bundled:iris",
    "jsc": "chop.datasets.tables:jsc",
    "jsc_synthetic": "chop.datasets.synthetic:jsc_synthetic",
    "letter": "chop.datasets.tables:letter",
    "magic": "chop.datasets.tables:magic",
    "mnist": "chop.datasets.images:mnist",
    "mnist_images": "chop.datasets.images:mnist_images",
    "wine": "chop.datasets.bundled:wine",
}


def load_dataset(name: str) -> Dataset:
    """Returns the data set of that name, the same bytes on every call.

    Raises ConfigError for an unknown name and DataError when its file is missing or malformed.
    """
    if name not in DATASETS:
        raise ConfigError(f"unknown dataset '{name}'{did_you_mean(name, DATASETS)}")
    module, function = DATASETS[name].split(":")
    dataset: Dataset = getattr(importlib.import_module(module), function)()
    return dataset
