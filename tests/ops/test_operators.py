"""Every operator of the registry, by the same tests: an operator is born tested."""

from __future__ import annotations

import copy
import random
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.ops.base import Case, Op
from chop.ops.registry import operators
from chop.passes.graph.transforms.emitted import design_of
from tests.ops.designs import (
    Design,
    annotated,
    example_batch,
    fake_outputs,
    out_of_range,
    reference_outputs,
)
from tests.ops.rtl_checks import header_of, lint, simulation_faults, yosys_log

Outputs = tuple[torch.Tensor, ...]

with torch.random.fork_rng():
    torch.manual_seed(0)
    CASES = [(op, case) for op in operators() for case in op.cases()]
CASE_IDS = [f"{op.name}-{case.label}" for op, case in CASES]
OPERATOR_IDS = [op.name for op in operators()]


def _outputs(value: torch.Tensor | Outputs) -> Outputs:
    return (value,) if isinstance(value, torch.Tensor) else tuple(value)


@pytest.mark.parametrize("op", operators(), ids=OPERATOR_IDS)
def test_has_cases_of_its_own(op: Op[Any]) -> None:
    labels = [case.label for case in op.cases()]
    assert labels
    assert len(set(labels)) == len(labels)


def test_names_are_in_order_and_unique() -> None:
    names = [op.name for op in operators()]
    assert names == sorted(set(names))


def test_every_spelling_is_claimed_once() -> None:
    claims = [(target, op.arity) for op in operators() for target in op.targets]
    assert [claim for claim in claims if claims.count(claim) > 1] == []


@pytest.mark.parametrize(("op", "case"), CASES, ids=CASE_IDS)
def test_case_uses_its_operator(op: Op[Any], case: Case, seed: int) -> None:
    inputs = example_batch(random.Random(seed), case.inputs, 5)
    graph = annotated(case.model.eval(), inputs)
    assert op.name in {common_of(node).operator for node in graph.fx_graph.nodes}


@pytest.mark.parametrize(("op", "case"), CASES, ids=CASE_IDS)
def test_captured_equals_eager(op: Op[Any], case: Case, seed: int) -> None:
    inputs = example_batch(random.Random(seed), case.inputs, 33)
    model = case.model.eval()
    graph = MaseGraph(copy.deepcopy(model))
    with torch.no_grad():
        eager, captured = _outputs(model(*inputs)), _outputs(graph.model(*inputs))
    assert len(eager) == len(captured)
    for expected, actual in zip(eager, captured, strict=True):
        assert torch.equal(expected, actual)


def test_fake_quantised_network_equals_the_integer_reference(case_designs: list[Design]) -> None:
    wrong = []
    for design in case_designs:
        for fake, exact in zip(fake_outputs(design), reference_outputs(design), strict=True):
            if fake.shape != exact.shape or not np.array_equal(fake, exact):
                wrong.append(design.label)
    assert wrong == []


def test_integers_stay_in_the_inferred_range(case_designs: list[Design]) -> None:
    assert [(d.label, faults) for d in case_designs if (faults := out_of_range(d))] == []


def test_bound_parameters_and_ports_exist_in_the_module(case_designs: list[Design]) -> None:
    modules = {name for op in operators() for name in (op.module, *op.modules) if name}
    library = Path(str(files("chop.hw")))
    headers = {path.stem: header_of(path.stem) for path in library.glob("*/chop_*[!g].sv")}
    bound, wrong = set(), []
    for design in case_designs:
        m = design.manifest
        netlist = design_of(design.graph, m.name, m.top, m.config_hash).netlist
        for instance in netlist.instances:
            own = instance.module not in headers
            header = header_of(instance.module, design.directory) if own else None
            parameters, ports = header or headers[instance.module]
            connected = {port for port, _ in instance.connections}
            bound.add(instance.module)
            if not set(instance.parameters) <= parameters or connected != ports:
                wrong.append((design.label, instance.name))
    assert wrong == []
    assert bound >= modules


def test_emitted_verilog_is_lint_clean(case_designs: list[Design], tmp_path: Path) -> None:
    assert lint(case_designs, tmp_path) == ""


def test_emitted_verilog_is_accepted_by_yosys(case_designs: list[Design], tmp_path: Path) -> None:
    # A shift by the whole width or more is meant: it leaves the sign.
    meant = "[-Wshift-count-overflow]"
    log = yosys_log(case_designs, tmp_path).splitlines()
    assert [line for line in log if "Warning:" in line and meant not in line] == []


def test_rtl_equals_the_reference_in_values_and_cycles(
    case_designs: list[Design], seed: int
) -> None:
    assert simulation_faults(case_designs, seed) == []
