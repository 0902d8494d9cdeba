"""The designs that the operator tests share: every case of every operator, built several ways."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from chop.ops.registry import operators
from tests.conftest import SEED
from tests.ops.designs import Design, Formats, annotated, emitted, example_batch, quantised
from tests.ops.designs import scheduled as with_random_foldings

_VARIANTS = 3
_CALIBRATION_SAMPLES = 32


@pytest.fixture(scope="session")
def seed() -> int:
    """The seed of everything random here; every message about a design names it."""
    return SEED


@pytest.fixture(scope="session")
def case_designs(tmp_path_factory: pytest.TempPathFactory) -> list[Design]:
    """Every case of every operator in random formats and random foldings, emitted."""
    return build_case_designs(tmp_path_factory.mktemp("cases"))


def build_case_designs(folder: Path) -> list[Design]:
    designs: list[Design] = []
    torch.manual_seed(SEED)
    for op in operators():
        for case in op.cases():
            model = case.model.eval()
            for variant in range(_VARIANTS):
                label = f"seed {SEED} {op.name} {case.label} {variant}"
                rng = random.Random(label)
                examples = example_batch(rng, case.inputs, _CALIBRATION_SAMPLES)
                graph = quantised(rng, annotated(model, examples), Formats())
                graph = with_random_foldings(rng, graph)
                top = f"case{len(designs)}"
                designs.append(emitted(label, graph, folder / top, top, rng, case.inputs))
    return designs
