"""Embeddings of indices that come in at a port: from whole numbers in torch to the RTL."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from chop.errors import UnsupportedOpError
from chop.formats.fixed import Fixed
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.ops.annotate import run_in_integers
from chop.passes.graph.analysis import check_integerizable_analysis_pass
from chop.passes.graph.transforms import quantize_transform_pass
from tests.ops.designs import (
    annotated,
    emitted,
    fake_outputs,
    reference_outputs,
    scheduled,
)
from tests.ops.rtl_checks import simulation_faults

_CONFIG = {"name": "integer", "data_in_width": 8, "weight_width": 6, "data_out_width": 9}


class _Sentence(nn.Module):
    """Four words of a vocabulary of eleven."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 6)
        self.head = nn.Linear(24, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.words(x).flatten(1))
        return scores.argmax(-1)


def _indices(count: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 11, (count, 4), generator=torch.Generator().manual_seed(seed))


def _quantised(model: nn.Module) -> MaseGraph:
    graph = annotated(model.eval(), (_indices(32, 1),))
    return quantize_transform_pass(graph, {"default": {"config": _CONFIG}})


def test_a_port_of_indices_has_their_format() -> None:
    graph = _quantised(_Sentence())
    types = {n.name: common_of(n).output for n in graph.fx_graph.nodes}
    assert types["x_cast"].format == Fixed(4, 0, signed=False)
    # The table is rounded, the index of the result is not.
    assert types["argmax"].format == Fixed(2, 0, signed=False)
    assert types["words"].low >= -32
    assert types["words"].high <= 31


def test_from_whole_numbers_to_the_rtl(seed: int, tmp_path: Path) -> None:
    rng = random.Random(f"embedding {seed}")
    designs = []
    for variant in range(4):
        torch.manual_seed(seed + variant)
        graph = scheduled(rng, _quantised(_Sentence()))
        top = f"words{variant}"
        made = emitted(f"seed {seed} {top}", graph, tmp_path / top, top, rng, ((4,),))
        inputs = {"x": _indices(24, seed).double().numpy()}
        design = replace(made, inputs=inputs, integers=run_in_integers(graph, inputs))
        for fake, exact in zip(fake_outputs(design), reference_outputs(design), strict=True):
            assert np.array_equal(fake, exact)
        designs.append(design)
    assert len({int(i) for d in designs for i in d.integers["argmax"]}) > 1
    assert simulation_faults(designs, seed) == []


def test_an_index_past_the_end_is_the_last_row() -> None:
    """Sixteen numbers fit the port, and there are eleven rows."""
    graph = _quantised(_Sentence())
    found = run_in_integers(graph, {"x": np.array([[10, 11, 15, 99]], np.float64)})["words"]
    assert (found == found[:, :1]).all()


def test_the_table_keeps_its_parameter() -> None:
    """A layer that is trained afterwards trains the model's own table."""
    model = _Sentence()
    graph = _quantised(model)
    names = [name for name, _ in graph.model.named_parameters()]
    assert sum("words" in name for name in names) == 1


def test_the_check_before_training_knows_indices() -> None:
    graph = annotated(_Sentence(), (_indices(8, 1),))
    found = check_integerizable_analysis_pass(graph).info["check_integerizable"]
    assert found["blockers"] == []


def test_numbers_with_a_fraction_are_no_indices() -> None:
    graph = annotated(_Sentence().eval(), (_indices(32, 1),))
    entries = {"argmax": {"config": {**_CONFIG, "data_out_width": 4, "data_out_frac_width": 1}}}

    class Nested(_Sentence):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            again: torch.Tensor = self.words(super().forward(x))
            return again

    quantised = quantize_transform_pass(graph, {"default": {"config": _CONFIG}, **entries})
    assert quantised.info["quantize"]
    with pytest.raises(UnsupportedOpError, match=r"reads indices, got s4\.1 in"):
        quantize_transform_pass(
            annotated(Nested().eval(), (_indices(32, 1),)),
            {"default": {"config": _CONFIG}, **entries},
        )
