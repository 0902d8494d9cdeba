"""Puts the root on the import path, and begins every test's random numbers from one seed.

Tests share helpers as tests.<folder>.<name>.
"""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

# Another seed draws other networks, formats, foldings and inputs: CHOP_TEST_SEED=7 make test
SEED = int(os.environ.get("CHOP_TEST_SEED", "0"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    # Many tests never import torch.
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(SEED)


def pytest_report_header() -> str:
    return f"CHOP_TEST_SEED={SEED}"
