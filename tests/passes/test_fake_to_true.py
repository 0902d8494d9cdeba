"""fake_to_true: integers only, with a certificate; everything after it works as before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import chop
from chop.errors import (
    ConfigError,
    DataError,
    PassOrderError,
    UnsupportedOpError,
    VerifyError,
)
from chop.flows.compile import Accelerator
from chop.formats.fixed import Fixed
from chop.formats.rounding import Rounding
from chop.integer.modules import Carrier, IntegerInput, IntegerNode
from chop.ir.graph import MaseGraph
from chop.ir.serialize import load_graph, save_graph
from chop.nn.fake_quantize import Cast
from chop.ops.annotate import run_in_integers
from chop.passes.graph.analysis import (
    add_hardware_metadata_analysis_pass,
    add_software_metadata_analysis_pass,
    compare_fake_true_analysis_pass,
    verify_metadata_analysis_pass,
)
from chop.passes.graph.transforms import (
    emit_bram_transform_pass,
    emit_internal_rtl_transform_pass,
    emit_verilog_tb_transform_pass,
    emit_verilog_top_transform_pass,
    fake_to_true_transform_pass,
    float_to_fake_transform_pass,
    quantize_transform_pass,
)
from chop.passes.graph.transforms.emit_pytorch import generate_pytorch
from chop.passes.integers import output_nodes, to_integers, to_reals
from chop.passes.registry import resolve
from tests.ops.test_worlds import run_source
from tests.passes.networks import (
    AUTOMATIC,
    EIGHT_BITS,
    Chain,
    annotated,
    batch,
    branches,
    chain,
    metadata,
    quantised,
    seeded,
)

_EMIT = (
    emit_verilog_top_transform_pass,
    emit_internal_rtl_transform_pass,
    emit_bram_transform_pass,
    emit_verilog_tb_transform_pass,
)
_INTEGERS_ONLY = (
    "the graph holds integers only, since fake_to_true: it takes no real values; "
    "use the fake-quantised graph that it was made from"
)


class Late(nn.Module):
    """Casts of its own only, after the elements were moved; no constants."""

    def __init__(self) -> None:
        super().__init__()
        self.cast, self.again = Cast(Fixed(6, 3)), Cast(Fixed(4, 1), Rounding.HALF_EVEN)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.again(torch.relu(self.cast(x.view(x.size(0), -1).flatten(1))))
        return y


class Early(nn.Module):
    """A cast of the model's own, a layer called twice, outputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.cast = Cast(Fixed(7, 4))
        self.fc = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        flat = self.cast(x.view(x.size(0), -1))
        hidden = torch.relu(self.fc(flat))
        return {"scores": hidden - 0.5, "again": self.fc(flat.flatten(1))}


def early() -> MaseGraph:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return annotated(Early(), batch(5, 2, 3))


def scaled(data: Mapping[str, Any], weight: Mapping[str, Any]) -> MaseGraph:
    rule = {"select": {"type": "linear"}, "data_in": data, "weight": weight}
    return float_to_fake_transform_pass(chain(), {"rules": [rule]})


GRAPHS = {
    "chain": lambda: quantised(chain()),
    "branches": lambda: quantised(branches(), AUTOMATIC),
    "early": lambda: quantised(early(), AUTOMATIC),
    "late": lambda: annotated(Late(), batch(5, 2, 3)),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_integers_in_integers_out(name: str) -> None:
    graph = GRAPHS[name]()
    true = fake_to_true_transform_pass(graph)
    inputs = {n: 3 * batch(40, *x.shape[1:], seed=9) for n, x in graph.example_inputs.items()}
    reference = run_in_integers(graph, {n: x.double().numpy() for n, x in inputs.items()})
    outputs = true.model(*(to_integers(true, n, x) for n, x in inputs.items()))
    for node, y in zip(output_nodes(true), pytree.tree_leaves(outputs), strict=True):
        assert y.dtype == torch.int64
        assert np.array_equal(y.numpy(), reference[node.name])
    # The reference runs on the true graph as on the fake one.
    again = run_in_integers(true, {n: x.double().numpy() for n, x in inputs.items()})
    assert all(np.array_equal(again[key], reference[key]) for key in reference)


@pytest.mark.parametrize("name", GRAPHS)
def test_names_order_and_metadata_stay(name: str) -> None:
    graph = GRAPHS[name]()
    true = fake_to_true_transform_pass(graph)
    kept = [n.name for n in graph.fx_graph.nodes if n.name in metadata(true)]
    assert [n.name for n in true.fx_graph.nodes] == kept
    # Only sizes and constants are gone.
    gone = set(metadata(graph)) - set(kept)
    assert {metadata(graph)[n].common.operator for n in gone} <= {"shape", "constant"}  # type: ignore[union-attr]
    assert all(metadata(true)[n] is metadata(graph)[n] for n in kept)
    assert not holds_floats(true.model)


def holds_floats(model: nn.Module) -> bool:
    tensors = [*model.parameters(), *model.buffers()]
    return any(tensor.dtype != torch.int64 for tensor in tensors)


def test_the_certificate() -> None:
    true = fake_to_true_transform_pass(quantised(chain()))
    certificate = true.info["fake_to_true"]
    assert certificate["residue"] == {"nodes": 7, "instructions": 14, "integers": 46, "floats": 0}
    # Every node's integers of the five example inputs: 6 + 4 + 4 + 4 + 3.
    assert certificate["compared"] == 5 * 21
    assert certificate["inputs"] == [
        {
            "node": "x",
            "shape": [6],
            "format": "s8.4",
            "low": -128,
            "high": 127,
            "frac_width": 4,
            "scale": None,
            "rounding": "half_up",
        }
    ]
    rows = {row["node"]: row for row in certificate["nodes"]}
    assert list(rows) == ["x_cast", "fc1", "act", "fc2_data_in", "fc2"]
    assert rows["fc1"]["carrier"] == "float64"
    assert rows["fc1"]["carrier_proof"] == (
        "every number on the way has at most 14 bits of 53, by the bounds"
    )
    assert rows["fc1"]["instructions"] == ["MatMul", "Add"]
    assert rows["act"] == {
        "operator": "relu",
        "node": "act",
        "shape": [4],
        "format": "u14.10",
        "low": 0,
        "high": 11964,
        "frac_width": 10,
        "scale": None,
        "carrier": "int64",
        "carrier_proof": "every number on the way has at most 14 bits of 63, by the bounds",
        "requantiser": "",
        "requantiser_proof": "",
        "instructions": ["Maximum"],
    }
    assert rows["fc2_data_in"]["requantiser"] == "shift"
    assert "the shift is the definition" in rows["fc2_data_in"]["requantiser_proof"]


@pytest.mark.parametrize("carrier", list(Carrier))
def test_the_carrier_asked_for(carrier: Carrier) -> None:
    true = fake_to_true_transform_pass(quantised(chain()), {"carrier": carrier.value})
    nodes = [m for m in true.model.modules() if isinstance(m, IntegerNode)]
    assert {node.carrier for node in nodes} == {carrier}
    x = to_integers(true, "x", batch(9, 6))
    other = fake_to_true_transform_pass(true, {"carrier": "auto"})
    assert torch.equal(true.model(x), other.model(x))


def test_float64_without_a_proof_is_refused_by_name() -> None:
    wide: dict[str, object] = {**EIGHT_BITS, "data_in_width": 30, "data_in_frac_width": 26}
    wide |= {"weight_width": 28, "weight_frac_width": 26}
    graph = quantised(chain(), wide)
    with pytest.raises(VerifyError) as caught:
        fake_to_true_transform_pass(graph, {"carrier": "float64"})
    assert str(caught.value) == (
        "node 'fc1': float64 does not carry it exactly: a number of up to 56 bits does not fit 53; "
        'use carrier = "auto" or "int64"'
    )
    rows = fake_to_true_transform_pass(graph).info["fake_to_true"]["nodes"]
    (row,) = (row for row in rows if row["node"] == "fc1")
    assert row["carrier"] == "int64"
    assert row["carrier_proof"].endswith("; not float64: a number of up to 56 bits does not fit 53")


FORMATS: dict[str, dict[str, Any]] = {
    "fixed": {"format": "fixed", "width": 7},
    "scaled": {"format": "scaled_integer", "width": 6},
    "binary": {"format": "binary"},
    "ternary": {"format": "ternary"},
    "log": {"format": "log", "width": 4},
    "minifloat": {"format": "minifloat_ieee", "width": 6, "exponent_width": 3},
    "fp4": {"format": "fp4_e2m1"},
}
MXINT = {"format": "mxint", "width": 5, "exponent_width": 3, "block_size": 4, "exponent_bias": 4}
PAIRS = [
    *((name, {"format": "scaled_integer", "width": 6, "per_channel": True}) for name in FORMATS),
    *((name, {"format": "log", "width": 4}) for name in ("scaled", "ternary")),
    *((name, {"format": "binary", "per_channel": True}) for name in ("fixed", "log")),
    ("mxint", MXINT),
    ("mxint", {"format": "fixed", "width": 6}),
]


@pytest.mark.parametrize(("name", "weight"), PAIRS)
def test_every_format_in_every_world(name: str, weight: dict[str, Any]) -> None:
    data = MXINT if name == "mxint" else FORMATS[name]
    graph = scaled(data, weight)
    x = torch.cat([batch(300, 6) * 2, batch(20, 6) * 50, torch.zeros(1, 6)])
    reference = run_in_integers(graph, {"x": x.double().numpy()})["fc2"]
    for carrier in ("int64", "auto"):
        true = fake_to_true_transform_pass(graph, {"carrier": carrier})
        y = true.model(to_integers(true, "x", x))
        assert np.array_equal(y.numpy(), reference)
        (made,), (space, (integers,)) = run_source(generate_pytorch(true), {"x": x})
        assert torch.equal(integers, to_integers(true, "x", x))
        assert torch.equal(made, y)
        assert torch.equal(space["dequantize_output"](y), to_reals(true, "fc2", y))
    # In float64 the fake-quantised network is the true one.
    info = compare_fake_true_analysis_pass(graph, {"data": {"x": x}}).info["compare_fake_true"]
    assert info["float64"]["differing"] == 0
    assert info["count"] == len(x) * 21


@pytest.mark.parametrize("name", GRAPHS)
def test_the_emitted_files_are_the_same_bytes(name: str, tmp_path: Path) -> None:
    graph = GRAPHS[name]()
    written = []
    for which, source in (("fake", graph), ("true", fake_to_true_transform_pass(graph))):
        place = tmp_path / which / "design"
        scheduled = add_hardware_metadata_analysis_pass(source, {"max_multipliers": 16})
        for emit in _EMIT:
            emit(scheduled, {"project_dir": place})
        found = sorted(path for path in place.rglob("*") if path.is_file())
        written.append({str(p.relative_to(place)): p.read_bytes() for p in found})
    fake, true = written
    assert len(fake) > 10
    assert fake.keys() == true.keys()
    assert [file for file in fake if fake[file] != true[file]] == []


def test_a_saved_true_graph_comes_back(tmp_path: Path) -> None:
    true = fake_to_true_transform_pass(quantised(branches(), AUTOMATIC))
    save_graph(true, tmp_path / "true.pt")
    loaded = load_graph(tmp_path / "true.pt")
    inputs = [to_integers(true, "x", batch(9, 4, 4)), to_integers(true, "z", batch(9, 2, 3))]
    for mine, theirs in zip(true.model(*inputs), loaded.model(*inputs), strict=True):
        assert torch.equal(mine, theirs)
    assert loaded.info["fake_to_true"] == true.info["fake_to_true"]
    assert generate_pytorch(loaded) == generate_pytorch(true)


def test_analyses_of_a_true_graph() -> None:
    fake = quantised(chain())
    true = fake_to_true_transform_pass(fake)
    verified = verify_metadata_analysis_pass(add_hardware_metadata_analysis_pass(true))
    assert verified.info["verify_metadata"]["not_checked"] == {
        "types": "the graph holds integers only; fake_to_true checked them"
    }
    assert verified.info["verify_metadata"]["checked"]["integers"] == 105
    counted = add_software_metadata_analysis_pass(true)
    for name, meta in metadata(counted).items():
        assert meta.software == metadata(fake)[name].software


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("add_common_metadata", {"dummy_in": {"x": batch(5, 6)}}),
        ("refresh_metadata", {}),
        ("quantize", {"default": {"config": EIGHT_BITS}}),
        ("fold_batch_norm", {}),
        ("profile_statistics", {"data": {"x": batch(5, 6)}}),
        ("compare_fake_true", {}),
    ],
)
def test_passes_on_real_values_refuse_a_true_graph(name: str, arguments: dict[str, Any]) -> None:
    true = fake_to_true_transform_pass(quantised(chain()))
    with pytest.raises(PassOrderError) as caught:
        resolve(name)(true, arguments)
    assert str(caught.value) == _INTEGERS_ONLY


def test_a_float_network_names_the_pass_to_run() -> None:
    with pytest.raises(UnsupportedOpError) as caught:
        fake_to_true_transform_pass(chain())
    assert str(caught.value) == (
        "no tensor of the network has a number format (the first node is 'fc1'); "
        "run quantize or float_to_fake first"
    )


def test_every_node_in_float_is_named() -> None:
    """fc1 and fc2 have formats, what lies between has none; nothing stops at the first."""

    class Between(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2, self.fc3 = (nn.Linear(6, 6) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.fc3(self.fc2(self.fc1(x) * 3))
            return y

    graph = quantize_transform_pass(
        annotated(Between(), batch(4, 6)),
        {
            "by": "name",
            "default": {"config": {"name": "NA"}},
            "fc1": {"config": EIGHT_BITS},
            "fc3": {"config": EIGHT_BITS},
        },
    )
    with pytest.raises(UnsupportedOpError) as caught:
        fake_to_true_transform_pass(graph)
    text = str(caught.value)
    assert text.startswith("2 nodes have no integers:\n  node 'mul' (test_fake_to_true.py:")
    assert "\n  node 'fc2' (test_fake_to_true.py:" in text
    assert text.count("is in floating point; give it, and every tensor that it reads") == 2


def test_trained_after_the_metadata_is_refused() -> None:
    graph = quantised(chain())
    with torch.no_grad():
        graph.model.get_submodule("fc2.layer").weight.add_(0.25)  # type: ignore[operator]
    with pytest.raises(PassOrderError) as caught:
        fake_to_true_transform_pass(graph)
    assert str(caught.value) == (
        "node 'fc2': its parameters or formats changed after its metadata; "
        "run refresh_metadata first"
    )
    fresh = fake_to_true_transform_pass(resolve("refresh_metadata")(graph))
    x = batch(9, 6)
    exact = run_in_integers(fresh, {"x": x.double().numpy()})["fc2"]
    assert np.array_equal(fresh.model(to_integers(fresh, "x", x)).numpy(), exact)


def test_what_is_not_integer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that keeps floats, a parameter, a wrong instruction: each is named."""
    from chop.passes.graph.transforms import fake_to_true as module

    class Leaky(IntegerNode):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.register_buffer("gain", torch.ones(2))
            self.slope = nn.Parameter(torch.ones(1))

    monkeypatch.setattr(module, "IntegerNode", Leaky)
    monkeypatch.setattr(module, "WHITELIST", ())
    with pytest.raises(VerifyError) as caught:
        fake_to_true_transform_pass(quantised(chain()))
    text = str(caught.value)
    assert text.startswith("not integers only: buffer 'fc1.gain' is torch.float32; ")
    assert "'fc2.slope' is a parameter" in text
    assert "'act' has the instruction Maximum" in text


def test_a_difference_from_the_reference_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from chop.passes.graph.transforms import fake_to_true as module

    class OffByOne(IntegerNode):
        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(*inputs) + 1

    monkeypatch.setattr(module, "IntegerNode", OffByOne)
    with pytest.raises(VerifyError, match="node 'fc1': its integers differ from the reference's"):
        fake_to_true_transform_pass(quantised(chain()))


def test_a_true_model_refuses_real_values() -> None:
    true = fake_to_true_transform_pass(GRAPHS["late"]())
    # Before anything is moved: an integer node would cut the fraction off.
    with pytest.raises(DataError) as caught:
        true.model(batch(4, 2, 3))
    assert str(caught.value).startswith("input 'x': must hold whole numbers, got ")
    assert isinstance(true.model.get_submodule("view"), IntegerInput)


def test_ports_by_name() -> None:
    true = fake_to_true_transform_pass(quantised(branches(), AUTOMATIC))
    with pytest.raises(ConfigError) as caught:
        to_integers(true, "xx", batch(2, 4, 4))
    assert str(caught.value) == "no input 'xx'; did you mean 'x'?"
    with pytest.raises(ConfigError) as caught:
        to_reals(true, "lineal", torch.zeros(1, 4))
    assert str(caught.value) == "no node 'lineal'; did you mean 'linear'?"
    y = torch.tensor([[1, 2, 3, -4]])
    assert torch.equal(to_reals(true, "linear", y), y.double() / 2**12)


def test_two_casts_of_one_input_must_agree() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = Cast(Fixed(8, 4)), Cast(Fixed(6, 2))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.first(x), self.second(x)

    graph = annotated(Twice(), batch(4, 6))
    with pytest.raises(UnsupportedOpError) as caught:
        fake_to_true_transform_pass(graph)
    assert (
        "input 'x' is cast to s6.2 here and differently in 'first'; cast it once, then cast the "
        "result"
    ) in str(caught.value)


def test_a_true_graph_on_the_whole_road(tmp_path: Path) -> None:
    config = {
        "name": "chain",
        "passes": [
            {"name": "check_integerizable", "raise_on_blocker": True},
            {"name": "quantize", "default": {"config": AUTOMATIC}},
            {"name": "compare_fake_true"},
            {"name": "fake_to_true"},
            {"name": "emit_pytorch", "file": tmp_path / "network.py"},
        ],
    }
    x = batch(30, 6)
    made = chop.compile(seeded(Chain), batch(16, 6), config, out_dir=tmp_path / "chain")
    assert made.fake_graph is not None
    assert made.fake_graph.history[-1] == "compare_fake_true"
    (expected,) = made.predict(x)
    assert torch.equal(expected, made.fake_graph.model.double()(x.double()).detach())
    loaded = Accelerator.load(tmp_path / "chain")
    assert loaded.fake_graph is None
    assert torch.equal(loaded.predict(x)[0], expected)
    integers = loaded.graph.model(to_integers(loaded.graph, "x", x))
    assert torch.equal(to_reals(loaded.graph, "fc2", integers), expected)
    (y,), _ = run_source((tmp_path / "network.py").read_text(encoding="utf-8"), {"x": x})
    assert torch.equal(y, integers)
