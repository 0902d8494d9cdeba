"""Every operator and random networks, in integers: numpy, PyTorch's int64 and float64, source."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx

from chop.errors import VerifyError
from chop.formats.rounding import Ints
from chop.integer.modules import Carrier, IntegerNode
from chop.ir.graph import MaseGraph
from chop.ops.annotate import run_in_integers
from chop.ops.registry import operators
from chop.passes.graph.transforms import fake_to_true_transform_pass
from chop.passes.graph.transforms.emit_pytorch import generate_pytorch
from chop.passes.integers import output_nodes, to_integers
from tests.conftest import SEED
from tests.ops.designs import Formats, annotated, example_batch, quantised
from tests.ops.networks import random_network

_VARIANTS, _NETWORKS, _SAMPLES = 2, 30, 24
_WIDE = Formats(widths=(1, 24), whole=(-4, 8))


@dataclass(frozen=True, slots=True, eq=False)
class Quantised:
    """A quantised graph, inputs for it as real numbers, and the reference's integers."""

    label: str
    graph: MaseGraph
    inputs: Mapping[str, torch.Tensor]
    integers: Mapping[str, Ints]


def _quantised(
    label: str, rng: random.Random, model: torch.nn.Module, shapes: Any, drawn: Formats
) -> Quantised:
    graph = quantised(rng, annotated(model, example_batch(rng, shapes, 32)), drawn)
    # Some far outside: what saturates must saturate alike.
    inputs = [x * 4 for x in example_batch(rng, shapes, _SAMPLES)]
    named = dict(zip(graph.placeholders, inputs, strict=True))
    reference = run_in_integers(graph, {n: x.double().numpy() for n, x in named.items()})
    return Quantised(label, graph, named, reference)


@pytest.fixture(scope="module")
def cases() -> list[Quantised]:
    found = []
    torch.manual_seed(SEED)
    for op in operators():
        for case in op.cases():
            for variant in range(_VARIANTS):
                label = f"seed {SEED} {op.name} {case.label} world {variant}"
                rng = random.Random(label)
                drawn = _WIDE if variant == 0 else Formats()
                found.append(_quantised(label, rng, case.model.eval(), case.inputs, drawn))
    return found


@pytest.fixture(scope="module")
def networks() -> list[Quantised]:
    found = []
    for number in range(_NETWORKS):
        label = f"seed {SEED} world network {number}"
        rng = random.Random(label)
        network, shapes = random_network(rng)
        found.append(
            _quantised(label, rng, network, shapes, Formats(widths=(2, 16), whole=(-1, 6)))
        )
    return found


@pytest.fixture(scope="module")
def everything(cases: list[Quantised], networks: list[Quantised]) -> list[Quantised]:
    return cases + networks


def differing_nodes(design: Quantised, true: MaseGraph) -> list[str]:
    """Runs the true graph on integers; returns the nodes that are not the reference's."""
    integers = [to_integers(true, name, x) for name, x in design.inputs.items()]
    interpreter = fx.Interpreter(true.model, garbage_collect_values=False)
    interpreter.run(*integers)
    found = {node.name: value for node, value in interpreter.env.items()}
    wrong = [
        f"{design.label}: {name}"
        for name, expected in design.integers.items()
        if found[name].dtype != torch.int64 or not np.array_equal(found[name].numpy(), expected)
    ]
    assert set(design.integers) <= set(found)
    return wrong


def test_pytorch_in_int64_equals_the_reference(everything: list[Quantised]) -> None:
    wrong = []
    for design in everything:
        true = fake_to_true_transform_pass(design.graph, {"carrier": "int64"})
        wrong += differing_nodes(design, true)
    assert wrong == []


def test_pytorch_in_float64_equals_the_reference(everything: list[Quantised]) -> None:
    """Every node in float64 where that is proven; refused by name where it is not."""
    wrong, refused = [], 0
    for design in everything:
        try:
            true = fake_to_true_transform_pass(design.graph, {"carrier": "float64"})
        except VerifyError as error:
            refused += 1
            assert "float64 does not carry it exactly" in str(error)  # noqa: PT017
            true = fake_to_true_transform_pass(design.graph, {"carrier": "auto"})
        wrong += differing_nodes(design, true)
    assert wrong == []
    assert refused < len(everything) // 4


def run_source(source: str, inputs: Mapping[str, torch.Tensor]) -> tuple[list[torch.Tensor], Any]:
    """Runs a generated file; returns the outputs, and the file's names."""
    space: dict[str, Any] = {"__name__": "generated"}
    exec(compile(source, "generated.py", "exec"), space)
    integers = [space["quantize_input"](x, name) for name, x in inputs.items()]
    result = space["IntegerNetwork"]()(*integers)
    return [result] if isinstance(result, torch.Tensor) else list(result), (space, integers)


def test_generated_source_equals_the_reference(everything: list[Quantised]) -> None:
    """In either carrier; "auto" puts products of matrices in float64, and nothing else."""
    wrong = []
    carriers: dict[bool, set[Carrier]] = {True: set(), False: set()}
    for number, design in enumerate(everything):
        true = fake_to_true_transform_pass(
            design.graph, {"carrier": "int64" if number % 3 == 0 else "auto"}
        )
        for module in true.model.modules() if number % 3 else ():
            if isinstance(module, IntegerNode) and not module.program.float64_obstacle():
                carriers[module.program.multiplies_matrices].add(module.carrier)
        outputs, (_, integers) = run_source(generate_pytorch(true), design.inputs)
        for name, mine in zip(design.inputs, integers, strict=True):
            if not torch.equal(mine, to_integers(true, name, design.inputs[name])):
                wrong.append(f"{design.label}: input {name}")
        for node, y in zip(output_nodes(true), outputs, strict=True):
            if not np.array_equal(y.numpy(), design.integers[node.name]):
                wrong.append(f"{design.label}: {node.name}")
    assert wrong == []
    assert carriers == {True: {Carrier.FLOAT64}, False: {Carrier.INT64}}
