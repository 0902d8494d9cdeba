"""What every pass promises: names, arguments, order, and that it may run twice."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import chop.passes.graph.analysis as analysis
import chop.passes.graph.transforms as transforms
from chop.errors import ChopError, ConfigError, PassOrderError
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of, hardware_of, meta_of, software_of
from chop.passes.contract import Pass
from chop.passes.registry import PASSES, resolve
from tests.passes.networks import EIGHT_BITS, Chain, batch, branches, chain, quantised, seeded

Arguments = Callable[[Path], Mapping[str, Any]]

FLOAT_TO_FAKE = {
    "select": {"type": "linear"},
    "data_in": {"format": "integer", "width": 8},
    "weight": {"format": "integer", "width": 6},
}

# Every pass with arguments that it takes, and whether it needs a quantised graph.
CALLS: dict[str, tuple[Arguments, bool]] = {
    "init_metadata": (lambda _: {}, False),
    "add_common_metadata": (lambda _: {"dummy_in": {"x": batch(5, 6)}}, False),
    "add_software_metadata": (lambda _: {}, False),
    "add_hardware_metadata": (lambda _: {"max_multipliers": 8}, True),
    "verify_metadata": (lambda _: {}, True),
    "report_graph": (lambda place: {"file": place / "report.csv"}, True),
    "report_numbers": (lambda place: {"file": place / "numbers.json"}, True),
    "profile_statistics": (lambda _: {"data": {"x": batch(40, 6)}}, True),
    "plot_graph": (lambda place: {"file": place / "plot.svg"}, True),
    "channel_multiplier": (
        lambda _: {"by": "name", "fc1": {"config": {"channel_multiplier": 1.5}}},
        False,
    ),
    "flatten_convolution": (lambda _: {"default": {"config": {"rank": 1}}}, False),
    "svd_low_rank": (lambda _: {"by": "type", "linear": {"config": {"rank": 1}}}, False),
    "fold_batch_norm": (lambda _: {}, False),
    "equalize": (lambda _: {}, False),
    "quantize": (lambda _: {"default": {"config": EIGHT_BITS}}, False),
    "float_to_fake": (lambda _: {"rules": [FLOAT_TO_FAKE]}, False),
    "prune": (lambda _: {"weight": {"sparsity": 0.5}}, False),
    "share_weights": (lambda _: {"default": {"config": {"bits": 3}}}, False),
    "refresh_metadata": (lambda _: {}, True),
    "learn_rounding": (lambda _: {"iterations": 20}, True),
    "correct_bias": (lambda _: {}, True),
    "check_integerizable": (lambda _: {}, True),
    "compare_fake_true": (lambda _: {"data": {"x": batch(40, 6)}}, True),
    "fake_to_true": (lambda _: {}, True),
    "emit_pytorch": (lambda place: {"file": place / "network.py"}, True),
    "emit_verilog_top": (lambda place: {"project_dir": place / "design"}, True),
    "emit_internal_rtl": (lambda place: {"project_dir": place / "design"}, True),
    "emit_bram": (lambda place: {"project_dir": place / "design"}, True),
    "emit_verilog_tb": (lambda place: {"project_dir": place / "design"}, True),
}
# Those whose other keys are entries.
ENTRIES = (
    "channel_multiplier",
    "flatten_convolution",
    "prune",
    "quantize",
    "share_weights",
    "svd_low_rank",
)
ANALYSIS = tuple(name for name, target in PASSES.items() if "_analysis_pass" in target)


def snapshot(graph: MaseGraph) -> tuple[object, ...]:
    """Everything that a pass could change: code, parameters, modes, metadata, reports."""
    state = {k: v.clone() for k, v in graph.model.state_dict().items()}
    nodes = [(n.op, n.name, str(n.target), meta_of(n)) for n in graph.fx_graph.nodes]
    modes = [module.training for module in graph.model.modules()]
    return graph.model.code, state, nodes, modes, copy.deepcopy(graph.info), graph.history


def same(a: tuple[object, ...], b: tuple[object, ...]) -> bool:
    first, second = a[1], b[1]
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    alike = first.keys() == second.keys() and all(
        torch.equal(first[k], second[k]) and first[k].dtype == second[k].dtype for k in first
    )
    metas = [(x, y) for x, y in zip(a[2], b[2], strict=True)]  # type: ignore[call-overload]
    return (
        alike
        and a[0] == b[0]
        and all(x[:3] == y[:3] and x[3] is y[3] for x, y in metas)
        and a[3:] == b[3:]
    )


def files(place: Path) -> dict[str, bytes]:
    return {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()}


def test_the_table_names_every_pass_and_no_other() -> None:
    assert set(CALLS) == set(PASSES)
    exported = {*analysis.__all__, *transforms.__all__}
    assert exported == {target.split(":")[1] for target in PASSES.values()}
    for name, target in PASSES.items():
        home = analysis if name in ANALYSIS else transforms
        assert resolve(name) is getattr(home, target.split(":")[1])


def test_an_unknown_pass_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve("quantise")
    assert str(caught.value) == "no pass 'quantise'; did you mean 'quantize'?"


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_may_run_twice(name: str, tmp_path: Path) -> None:
    make_arguments, needs_formats = CALLS[name]
    graph = quantised(chain()) if needs_formats else chain()
    arguments = make_arguments(tmp_path)
    once = resolve(name)(graph, arguments)
    # The second run changes an analysed graph in place: what the first one said is kept here.
    texts, info = node_texts(once), copy.deepcopy(once.info.get(name))
    written, code = files(tmp_path), once.model.code
    # Whole numbers: a network of integers takes nothing else.
    x = (batch(9, 6, seed=5) * 8).round()
    values = once.model(x)
    twice = resolve(name)(once, arguments)
    assert node_texts(twice) == texts
    # They say what they have changed, and a changed network leaves nothing to do.
    assert name in ("equalize", "prune", "share_weights") or twice.info.get(name) == info
    assert files(tmp_path) == written
    assert twice.model.code == code
    assert torch.equal(twice.model(x), values)


def node_texts(graph: MaseGraph) -> list[str]:
    """Metadata as text: constants have no equality of their own."""
    return [f"{node.format_node()} {meta_of(node)}" for node in graph.fx_graph.nodes]


@pytest.mark.parametrize("name", [name for name in PASSES if name not in ANALYSIS])
def test_a_hundred_transforms_leave_the_graph_as_it_was(name: str, tmp_path: Path) -> None:
    make_arguments, needs_formats = CALLS[name]
    graph = quantised(chain()) if needs_formats else chain()
    graph.model.train()
    graph.model.get_submodule("fc2").eval()
    arguments = dict(make_arguments(tmp_path))
    before, given = snapshot(graph), copy.deepcopy(arguments)
    count = 100 if name in ("quantize", "fold_batch_norm") else 3
    for _ in range(count):
        assert resolve(name)(graph, arguments) is not graph
    assert same(snapshot(graph), before)
    assert arguments == given


@pytest.mark.parametrize("name", ANALYSIS)
def test_an_analysis_leaves_the_fx_graph_as_it_was(name: str, tmp_path: Path) -> None:
    make_arguments, needs_formats = CALLS[name]
    graph = quantised(chain()) if needs_formats else chain()
    code, parameters = graph.model.code, copy.deepcopy(graph.model.state_dict())
    arguments = make_arguments(tmp_path)
    assert resolve(name)(graph, arguments) is graph
    assert graph.model.code == code
    after = graph.model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in parameters.items())


@pytest.mark.parametrize("name", [name for name in PASSES if name not in ENTRIES])
def test_an_unknown_argument_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(name)(chain(), {"flavour": 1})
    message = str(caught.value)
    assert message.startswith(f"pass '{name}': unknown key 'flavour'")
    assert "\n" not in message


def test_the_nearest_argument_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve("add_common_metadata")(chain(), {"dumy_in": {}})
    assert (
        str(caught.value)
        == "pass 'add_common_metadata': unknown key 'dumy_in'; did you mean 'dummy_in'?"
    )
    with pytest.raises(ConfigError) as caught:
        resolve("add_common_metadata")(chain())
    assert str(caught.value) == "pass 'add_common_metadata': 'dummy_in' is missing; add it"


def test_a_model_must_be_wrapped() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve("init_metadata")(seeded(Chain))
    assert (
        str(caught.value) == "pass 'init_metadata': expected a MaseGraph, got Chain; "
        "wrap the model: MaseGraph(model)"
    )


NEEDS = {
    "channel_multiplier": "add_common_metadata",
    "flatten_convolution": "add_common_metadata",
    "svd_low_rank": "add_common_metadata",
    "init_metadata": None,
    "add_common_metadata": "init_metadata",
    "add_software_metadata": "add_common_metadata",
    "add_hardware_metadata": "add_common_metadata",
    "verify_metadata": "add_common_metadata",
    "report_graph": "add_common_metadata",
    "report_numbers": "add_common_metadata",
    "profile_statistics": "add_software_metadata",
    "plot_graph": "add_common_metadata",
    "fold_batch_norm": "add_common_metadata",
    "quantize": "add_common_metadata",
    "check_integerizable": "init_metadata",
    "compare_fake_true": "add_common_metadata",
    "fake_to_true": "add_common_metadata",
    "emit_pytorch": "add_common_metadata",
    "emit_verilog_top": "add_common_metadata",
    "emit_internal_rtl": "add_common_metadata",
    "emit_bram": "add_common_metadata",
    "emit_verilog_tb": "add_common_metadata",
}


@pytest.mark.parametrize(("name", "needed"), NEEDS.items())
def test_a_pass_names_the_one_to_run_first(name: str, needed: str | None, tmp_path: Path) -> None:
    run: Pass = resolve(name)
    graph = MaseGraph(seeded(Chain))
    arguments = CALLS[name][0](tmp_path)
    if needed is None:
        assert run(graph, arguments).history == (name,)
        return
    with pytest.raises(PassOrderError) as caught:
        run(graph, arguments)
    assert str(caught.value) == f"pass '{name}': run the pass '{needed}' first"
    assert graph.history == ()
    assert files(tmp_path) == {}


def test_metadata_read_too_early_names_its_pass() -> None:
    graph = MaseGraph(seeded(Chain))
    (node, *_) = graph.fx_graph.nodes
    with pytest.raises(PassOrderError) as caught:
        common_of(node)
    assert str(caught.value) == "node 'x': no metadata yet; run init_metadata_analysis_pass first"
    resolve("init_metadata")(graph)
    for read, kind in ((common_of, "common"), (software_of, "software"), (hardware_of, "hardware")):
        with pytest.raises(PassOrderError) as caught:
            read(node)
        assert (
            str(caught.value)
            == f"node 'x': no {kind} metadata yet; run add_{kind}_metadata_analysis_pass first"
        )


def test_an_error_says_which_passes_had_run() -> None:
    with pytest.raises(ChopError) as caught:
        resolve("add_hardware_metadata")(chain(), {})
    assert caught.value.__notes__ == [
        "in pass 'add_hardware_metadata' after "
        "[init_metadata, add_common_metadata, add_software_metadata]"
    ]


def test_history_and_copies_are_independent() -> None:
    graph = branches()
    history = graph.history
    result = quantised(graph)
    assert (
        graph.history
        == history
        == ("init_metadata", "add_common_metadata", "add_software_metadata")
    )
    assert result.history == (*history, "quantize")
    result.info["quantize"].clear()
    assert "quantize" not in graph.info
    assert type(result.model).__name__ == type(graph.model).__name__ == "Branches"
