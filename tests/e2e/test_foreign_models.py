"""Models that people wrote for other ends: they compile as they are, or are refused by name."""

from __future__ import annotations

import inspect
import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import chop
from chop.cli.main import main
from chop.errors import CaptureError, UnsupportedOpError
from chop.flows.compile import Accelerator
from chop.ir.graph import MaseGraph
from tests.e2e import foreign_models, foreign_networks
from tests.e2e.foreign_networks import REFUSED, SCALED, SUPPORTED
from tests.ops.designs import emitted
from tests.ops.rtl_checks import simulation_faults

MODELS = {**SUPPORTED, **SCALED}
_SCALED_INTEGERS = {
    "name": "scaled_integer", "data_in_width": 8, "weight_width": 8, "weight_per_channel": True,
}  # fmt: skip


def _config(name: str) -> dict[str, Any]:
    if name not in SCALED:
        return {"name": name}
    quantize = {"name": "quantize", "by": "type", "default": {"config": _SCALED_INTEGERS}}
    return {"name": name, "passes": [{"name": "fold_batch_norm"}, quantize]}


def _model(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return make().eval()


def _images(shape: tuple[int, ...], count: int) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def _flat(value: Any) -> list[torch.Tensor]:
    if isinstance(value, dict):
        value = tuple(value.values())
    return [value] if isinstance(value, torch.Tensor) else list(value)


@pytest.fixture(scope="module")
def accelerators(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Accelerator]:
    folder = tmp_path_factory.mktemp("foreign")
    return {
        name: chop.compile(
            _model(make),
            _images(shape, 1),
            config=_config(name),
            calibration_inputs=_images(shape, 32),
            out_dir=folder / name,
        )
        for name, (make, shape) in MODELS.items()
    }


@pytest.mark.parametrize("name", SUPPORTED)
def test_captured_equals_eager(name: str) -> None:
    make, shape = SUPPORTED[name]
    model, x = _model(make), _images(shape, 7)
    graph = MaseGraph(model, (x[:2],))
    with torch.no_grad():
        eager, captured = _flat(model(x.clone())), _flat(graph.model(x.clone()))
    assert len(eager) == len(captured)
    for a, b in zip(eager, captured, strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", MODELS)
def test_eight_bits_are_close_to_the_model(name: str, accelerators: dict[str, Accelerator]) -> None:
    """Anything lost between the model and its integers would show as more than rounding."""
    make, shape = MODELS[name]
    x = _images(shape, 32)
    with torch.no_grad():
        eager = _flat(_model(make)(x.clone()))
    for real, predicted in zip(eager, accelerators[name].predict(x), strict=True):
        assert (real - predicted).abs().mean() < 0.04 * real.abs().max()


def test_rtl_equals_the_reference_in_values_and_cycles(
    accelerators: dict[str, Accelerator], tmp_path: Path
) -> None:
    designs = []
    for name, made in accelerators.items():
        shape = MODELS[name][1]
        top, rng = f"foreign_{name}", random.Random(name)
        designs.append(emitted(name, made.graph, tmp_path / top, top, rng, [shape]))
    intervals = [
        (d.label, d.manifest.predicted_initiation_interval, d.manifest.ideal_initiation_interval)
        for d in designs
    ]
    assert [found for found in intervals if found[1] != found[2]] == []
    assert simulation_faults(designs, 1) == []


@pytest.mark.parametrize("width", [4, 5])
def test_an_output_with_a_scale_for_each_channel(width: int, tmp_path: Path) -> None:
    """Also where its last axis is as long as its channels are many."""
    shape = (2, 3, width)
    torch.manual_seed(0)
    model, x = nn.Conv2d(2, 4, 1).eval(), _images(shape, 32)
    with torch.no_grad():
        model.weight *= torch.tensor([1.0, 2.0, 5.0, 30.0]).reshape(4, 1, 1, 1)
    made = chop.compile(model, x[:1], _config("mobilenet_v2_scaled"), x, tmp_path / "made")
    (predicted,) = made.predict(x)
    with torch.no_grad():
        fake = made.graph.model.double()(x.double())
    assert torch.allclose(predicted, fake, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_hardware_is_refused_with_its_line_and_a_remedy(name: str) -> None:
    make, shape, text, remedy = REFUSED[name]
    with pytest.raises((UnsupportedOpError, CaptureError)) as caught:
        chop.compile(_model(make), _images(shape, 2))
    places = [
        f"{file.__name__.rsplit('.', 1)[-1]}.py:{number}"
        for file in (foreign_models, foreign_networks)
        for number, line in enumerate(inspect.getsource(file).splitlines(), 1)
        if text in line
    ]
    assert any(f"{place}:" in f"{caught.value}".replace(")", ":") for place in places)
    assert remedy in str(caught.value)


def test_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path(foreign_models.__file__)
    shape = ["--set", "model.inputs=[[1, 8, 8]]"]
    assert main(["transform", "--model", f"{file}:mnist", *shape, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [run["mismatches"] for run in report["simulations"]] == [0, 0]
