"""Data sets with fixed splits, as normalised float32 arrays."""

from chop.datasets.dataset import Dataset
from chop.datasets.registry import DATASETS, load_dataset

__all__ = ["DATASETS", "Dataset", "load_dataset"]
