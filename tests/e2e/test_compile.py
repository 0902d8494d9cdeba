"""chop.compile: the Python interface, from a model to simulated RTL and back."""

from __future__ import annotations

import copy
import gc
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import chop
from chop.errors import CaptureError, ChopError, ConfigError, ShapeError, UnsupportedOpError
from chop.flows.compile import Accelerator

_FOLDER = {"Makefile", "design.json", "graph.pt", "rom", "rtl", "synth", "tb"}


class Network(nn.Module):
    """Two inputs, a batch norm, a shared layer, two outputs, one of them reshaped."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.first = nn.Linear(6, 8)
        self.shared = nn.Linear(8, 8, bias=False)
        self.side = nn.Linear(5, 8)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.drop(functional.relu(self.first(self.norm(x))))
        hidden = self.shared(functional.relu6(self.shared(hidden)))
        return hidden + self.side(other), hidden.view(-1, 2, 4)


def _inputs(samples: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = (samples, 6), (samples, 5)
    x, other = (torch.randn(shape, generator=generator) for shape in shapes)
    return x, other


def _model() -> Network:
    torch.manual_seed(0)
    model = Network()
    # Running statistics that are not the initial ones.
    model(*_inputs(64, seed=1))
    return model


@pytest.fixture(scope="module")
def model() -> Network:
    return _model()


@pytest.fixture(scope="module")
def accelerator(model: Network, tmp_path_factory: pytest.TempPathFactory) -> Accelerator:
    folder = tmp_path_factory.mktemp("compile") / "network"
    return chop.compile(model, _inputs(32), out_dir=folder)


def test_the_result_has_a_graph_a_folder_and_a_manifest(accelerator: Accelerator) -> None:
    assert {path.name for path in accelerator.directory.iterdir()} == _FOLDER
    m = accelerator.manifest
    assert [stream.name for stream in m.inputs] == ["x", "other"]
    assert [stream.shape for stream in m.outputs] == [(8,), (2, 4)]
    assert {"quantize", "fold_batch_norm"} <= set(accelerator.graph.info)
    listed = {*m.rtl, *m.rom, *m.testbench}
    assert [path for path in listed if not (accelerator.directory / path).is_file()] == []


def test_predict_is_the_reference_in_float64(model: Network, accelerator: Accelerator) -> None:
    x, other = _inputs(50, seed=2)
    outputs = accelerator.predict((x, other))
    assert [out.dtype for out in outputs] == [torch.float64, torch.float64]
    assert [tuple(out.shape) for out in outputs] == [(50, 8), (50, 2, 4)]
    fake = copy.deepcopy(accelerator.graph.model).double().eval()(x.double(), other.double())
    assert all(torch.equal(out, f) for out, f in zip(outputs, fake, strict=True))
    with torch.no_grad():
        exact = copy.deepcopy(model).eval()(x, other)
    # Eight bits keep every value within a few steps of the float network.
    for out, real in zip(outputs, exact, strict=True):
        assert (out - real).abs().max() < 0.1 * real.abs().max()


@pytest.mark.parametrize("stall", [0.0, 0.3, 0.7])
def test_simulate_gives_what_predict_gives(accelerator: Accelerator, stall: float) -> None:
    inputs = _inputs(20, seed=3)
    run = accelerator.simulate(inputs, stall_probability=stall, seed=5, check_streams=stall > 0)
    assert (run.mismatches, run.deadlock, run.first_mismatch, run.samples) == (0, False, None, 20)
    assert all(map(torch.equal, run.outputs, accelerator.predict(inputs)))
    assert run.cycles > 19 * run.ideal_initiation_interval
    assert run.ideal_initiation_interval == run.predicted_initiation_interval
    if stall == 0:
        assert run.initiation_interval == run.predicted_initiation_interval
        assert run.latency_cycles == run.predicted_latency_cycles
    else:
        assert run.latency_cycles >= run.predicted_latency_cycles


def test_stalls_follow_their_seed(accelerator: Accelerator) -> None:
    inputs = _inputs(9)
    cycles = [accelerator.simulate(inputs, 0.5, seed=seed).cycles for seed in (1, 1, 2, 3)]
    assert cycles[0] == cycles[1]
    assert len(set(cycles)) > 1


def test_few_samples_are_repeated_to_measure_but_not_returned(accelerator: Accelerator) -> None:
    inputs = _inputs(1, seed=4)
    run = accelerator.simulate(inputs)
    assert [tuple(out.shape) for out in run.outputs] == [(1, 8), (1, 2, 4)]
    assert all(map(torch.equal, run.outputs, accelerator.predict(inputs)))
    assert run.initiation_interval == run.predicted_initiation_interval


def test_a_wrong_constant_is_a_mismatch_not_a_pass(
    accelerator: Accelerator, tmp_path: Path
) -> None:
    """The RTL is what is measured: change one bit of a weight, and it shows."""
    import shutil

    folder = tmp_path / "broken"
    shutil.copytree(accelerator.directory, folder)
    path = folder / next(name for name in accelerator.manifest.rom if "weight" in name)
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[0] = f"{int(lines[0], 16) ^ 0x40:0{len(lines[0])}x}"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    broken = Accelerator.load(folder)
    inputs = _inputs(20, seed=6)
    run = broken.simulate(inputs)
    assert run.mismatches > 0
    assert run.first_mismatch is not None
    assert not all(map(torch.equal, run.outputs, broken.predict(inputs)))


def test_the_original_is_left_as_it_was() -> None:
    model = _model().train()
    model.side.eval()
    model.first.weight.requires_grad_(False)
    inputs = _inputs(16)
    kept = copy.deepcopy(model.state_dict()), [x.clone() for x in inputs]
    modes = [module.training for module in model.modules()]
    names = [name for name, _ in model.named_modules()]
    state = torch.random.get_rng_state()
    chop.compile(model, inputs)
    assert [module.training for module in model.modules()] == modes
    assert [name for name, _ in model.named_modules()] == names
    assert all(torch.equal(a, b) for a, b in zip(inputs, kept[1], strict=True))
    assert list(model.state_dict()) == list(kept[0])
    assert all(torch.equal(model.state_dict()[name], kept[0][name]) for name in kept[0])
    assert not model.first.weight.requires_grad
    assert model.shared.weight.requires_grad
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_same_input_gives_the_same_bytes(accelerator: Accelerator, tmp_path: Path) -> None:
    again = chop.compile(_model(), _inputs(32), out_dir=tmp_path / "network")
    first, second = (
        {p.relative_to(d): p.read_bytes() for p in sorted(d.rglob("*")) if p.is_file()}
        for d in (accelerator.directory, again.directory)
    )
    # Where the model's source stands in graph.pt is the same file here too.
    results = {path for path in first if path.parts[:2] == ("tb", "results")}
    assert {path for path in first if first[path] != second.get(path)} - results == set()
    assert set(second) <= set(first)


def test_a_saved_design_is_loaded_in_a_fresh_process(
    accelerator: Accelerator, tmp_path: Path
) -> None:
    inputs = _inputs(10, seed=8)
    torch.save(inputs, tmp_path / "inputs.pt")
    code = (
        "import sys, torch\n"
        "from chop.flows.compile import Accelerator\n"
        "acc = Accelerator.load(sys.argv[1])\n"
        "torch.save(acc.predict(torch.load(sys.argv[2])), sys.argv[3])\n"
    )
    names = [str(tmp_path / "inputs.pt"), str(tmp_path / "outputs.pt")]
    command = [sys.executable, "-c", code, str(accelerator.directory), *names]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "outputs.pt")
    assert all(map(torch.equal, found, accelerator.predict(inputs)))


def test_synthesis_reports_resources(accelerator: Accelerator) -> None:
    report = accelerator.synthesize(target="ecp5-85k", place_and_route=False)
    assert report.luts > 0
    assert report.ffs > 0
    assert report.dsps >= 0
    assert report.brams >= 0
    assert report.fmax_mhz is None


_LAYER = {
    "name": "integer",
    "data_in_width": 6,
    "data_in_frac_width": 3,
    "weight_width": 5,
    "weight_frac_width": 4,
    "bias_width": 8,
    "bias_frac_width": 6,
    "data_out_width": 5,
    "data_out_frac_width": 1,
}
_TOML = """
name = "from_toml"
[passes.quantize]
by = "type"
[passes.quantize.default.config]
name = "integer"
data_in_width = 6
data_in_frac_width = 3
weight_width = 5
weight_frac_width = 4
bias_width = 8
bias_frac_width = 6
data_out_width = 5
data_out_frac_width = 1
[hardware]
max_multipliers = 12
"""


def _chain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))


def _compiled(hardware: dict[str, Any], model: nn.Module | None = None) -> Accelerator:
    config = {"passes": {"quantize": {"default": {"config": _LAYER}}}, "hardware": hardware}
    return chop.compile(model or _chain(), torch.randn(16, 6), config)


def test_a_mapping_a_path_and_its_text_are_the_same_config(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(_TOML, encoding="utf-8")
    x = torch.randn(16, 6)
    config = {
        "name": "from_toml",
        "passes": [{"name": "quantize", "by": "type", "default": {"config": _LAYER}}],
        "hardware": {"max_multipliers": 12},
    }
    kept = copy.deepcopy(config)
    found = [chop.compile(_chain(), x, c) for c in (config, path, str(path))]
    assert config == kept
    manifests = [acc.manifest.to_json() for acc in found]
    assert manifests[0] == manifests[1] == manifests[2]
    assert found[0].manifest.name == "from_toml"
    assert found[0].manifest.multipliers <= 12
    assert str(found[0].manifest.outputs[0].format.fixed()) == "s5.1"


def test_lanes_and_rom_style_are_built_as_asked() -> None:
    lanes = {"linear_0": (3, 2), "linear_2": (1, 3)}
    acc = _compiled({"lanes": lanes, "rom_style": "distributed"})
    built = {layer.node: (layer.in_lanes, layer.out_lanes) for layer in acc.manifest.layers}
    assert {name: built[name] for name in lanes} == lanes
    top = (acc.directory / "rtl" / "top.sv").read_text(encoding="utf-8")
    assert top.count('.RomStyle("distributed")') == 2
    assert ".InLanes(3)" in top


@pytest.mark.parametrize(("rounding", "code"), [("half_up", 0), ("floor", 1), ("half_even", 2)])
def test_one_rounding_mode_holds_everywhere(rounding: str, code: int) -> None:
    """Ties at the input, in the weights and at the output: predict and numpy agree on each."""
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.5 + 1 / 32)
    config = {"passes": {"quantize": {"default": {"config": _LAYER}}}}
    x = torch.arange(-24, 24).reshape(-1, 1) / 16
    acc = chop.compile(model, x, {**config, "hardware": {"rounding": rounding}})

    def rounded(values: np.ndarray[Any, np.dtype[np.float64]], frac_width: int) -> Any:
        scaled = values * 2.0**frac_width
        modes = {"half_up": np.floor(scaled + 0.5), "floor": np.floor(scaled)}
        return modes.get(rounding, np.round(scaled)) / 2.0**frac_width

    weight = rounded(np.array([0.5 + 1 / 32]), 4)
    product = rounded(x.double().numpy(), 3) * weight
    assert acc.predict(x)[0].numpy().tolist() == rounded(product, 1).tolist()
    top = (acc.directory / "rtl" / "top.sv").read_text(encoding="utf-8")
    assert acc.manifest.rounding == rounding
    assert top.count(f".Rounding({code})") == 1


def test_calibration_inputs_choose_the_fractions() -> None:
    x = torch.randn(64, 6)
    fine = chop.compile(_chain(), x, calibration_inputs=x / 64)
    coarse = chop.compile(_chain(), x, calibration_inputs=x * 64)
    difference = fine.manifest.inputs[0].format.frac_width - (
        coarse.manifest.inputs[0].format.frac_width
    )
    assert difference == 12


def test_the_folder_lives_as_long_as_the_result() -> None:
    acc = _compiled({})
    directory = acc.directory
    assert (directory / "design.json").is_file()
    del acc
    gc.collect()
    assert not directory.exists()


def test_a_design_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "build" / "chain"
    chop.compile(_chain(), torch.randn(4, 6), out_dir=folder)
    (folder / "rtl" / "stale.sv").write_text("old", encoding="utf-8")
    chop.compile(_chain(), torch.randn(4, 6), out_dir=str(folder))
    assert not (folder / "rtl" / "stale.sv").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["chain"]


def test_a_foreign_folder_is_refused_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.txt").write_text("do not lose", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        chop.compile(_chain(), torch.randn(4, 6), out_dir=folder)
    assert str(caught.value) == (
        f"'{folder}' exists and is not an emitted design; choose another folder or remove it"
    )
    assert [path.name for path in folder.iterdir()] == ["chapter.txt"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert chop.compile(_chain(), torch.randn(4, 6), out_dir=empty).directory == empty


class Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x
        return -x


class Unknown(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cumprod(x, 1)


class Sum(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x) @ x.flatten(1)


def _line(model: type[nn.Module], text: str) -> int:
    lines, first = inspect.getsourcelines(model)
    return first + next(i for i, line in enumerate(lines) if text in line)


_QUANTIZE = {"passes": {"quantize": {"default": {"config": _LAYER}}}}
_FAILURES: list[tuple[nn.Module, Any, type[ChopError], str]] = [
    (
        _chain(),
        {**_QUANTIZE, "hardware": {"lanes": {"linear_0": (4, 1)}}},
        ConfigError,
        "node 'linear_0': in_lanes must divide 6, got 4; use 1, 2, 3 or 6",
    ),
    (
        _chain(),
        {**_QUANTIZE, "hardware": {"rom_stile": "block"}},
        ConfigError,
        "pass 'add_hardware_metadata': unknown key 'rom_stile'; did you mean 'rom_style'?",
    ),
    (
        _chain(),
        {"pases": {}},
        ConfigError,
        "config: unknown key 'pases'; did you mean 'passes'?",
    ),
    (
        _chain(),
        {"passes": [{"name": "quantise"}]},
        ConfigError,
        "no pass 'quantise'; did you mean 'quantize'?",
    ),
    (
        _chain(),
        {"passes": {"quantize": {"default": {"config": {"name": "NA"}}}}},
        UnsupportedOpError,
        "node 'linear_0': operator 'linear' is in floating point; give it, and every tensor that "
        'it reads, a number format in quantize (name = "integer")',
    ),
    (
        Branches(),
        None,
        CaptureError,
        f"model 'Branches': 'if' on a tensor at test_compile.py:{_line(Branches, 'if x')}: "
        "'if x.sum() > 0:'; the branch taken would depend on the data; "
        "use torch.clamp, relu or other tensor functions instead",
    ),
    (
        Unknown(),
        None,
        UnsupportedOpError,
        f"node 'cumprod' (test_compile.py:{_line(Unknown, 'cumprod')}): 'cumprod' is not a chop "
        "operator; see 'chop list operators' for what there is",
    ),
    (
        nn.Linear(7, 2),
        None,
        ShapeError,
        "node 'linear': mat1 and mat2 shapes cannot be multiplied (16x6 and 7x2); "
        "give inputs of the shape that the model expects",
    ),
]


@pytest.mark.parametrize(("model", "config", "kind", "message"), _FAILURES)
def test_a_failure_is_one_line_and_leaves_nothing(
    model: nn.Module, config: Any, kind: type[ChopError], message: str, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    chop.compile(_chain(), torch.randn(4, 6), out_dir=old)
    before = {p: p.read_bytes() for p in old.rglob("*") if p.is_file()}
    for folder in (tmp_path / "new" / "deep", old):
        with pytest.raises(ChopError) as caught:
            chop.compile(model, torch.randn(16, 6), config, out_dir=folder)
        assert type(caught.value) is kind
        assert str(caught.value) == message
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert {p: p.read_bytes() for p in old.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.zeros(3, 6), "the model takes 2 inputs (x, other), got 1"),
        (
            (torch.zeros(3, 7), torch.zeros(3, 5)),
            "input 'x' must have shape [N, 6] with N >= 1, got [3, 7]",
        ),
        (
            (torch.zeros(0, 6), torch.zeros(0, 5)),
            "input 'x' must have shape [N, 6] with N >= 1, got [0, 6]",
        ),
        (
            (torch.zeros(3, 6), torch.zeros(4, 5)),
            "the inputs have different batch sizes; make them equal",
        ),
        (
            (torch.zeros(3, 6), np.zeros((3, 5))),
            "input 'other' must be a torch.Tensor, got ndarray",
        ),
    ],
)
def test_inputs_that_do_not_fit_are_one_line(
    accelerator: Accelerator, inputs: Any, message: str
) -> None:
    for run in (accelerator.predict, accelerator.simulate):
        with pytest.raises(ShapeError) as caught:
            run(inputs)
        assert str(caught.value) == message


class Tied(nn.Module):
    """A weight that a layer and a function share, with a batch norm between them."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(torch.relu(self.norm(self.fc(x))), self.fc.weight)


def test_tied_weights_stay_two_uses_of_one_value() -> None:
    torch.manual_seed(0)
    model, x = Tied(), torch.randn(200, 6)
    for _ in range(20):
        model(3 * x + 1)
    model.eval()
    acc = chop.compile(model, x)
    assert acc.graph.info["fold_batch_norm"] == [{"node": "norm", "folded_into": ["fc"]}]
    (found,) = acc.predict(x)
    with torch.no_grad():
        exact = model(x)
    assert (found - exact).abs().max() < 0.05 * exact.abs().max()
