"""Controllers over a whole training: schedules, frozen weights, draws, resumption after a kill."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn

from chop.flows.train import BEST, LAST
from chop.formats.fixed import Fixed
from chop.formats.scaled import Scaled
from chop.nn.fake_quantize import Cast
from chop.nn.layers import QuantizedLayer
from chop.nn.quantizer import Moment, Place, Quantizer
from chop.nn.quantizers.ana import Ana, AnaOptions
from chop.nn.quantizers.control import (
    after_step,
    before_step,
    number_depths,
    parameter_groups,
    quantizers_of,
)
from chop.nn.quantizers.inq import Inq
from chop.nn.quantizers.registry import create_quantizer
from chop.nn.quantizers.rpr import Rpr
from tests.unit.resumed_training import STEPS, network, train

FORMAT = Scaled(3, (0.25,), symmetric=True)


def _layer(name: str, seed: int = 0, **options: Any) -> QuantizedLayer:
    torch.manual_seed(seed)
    linear = nn.Linear(10, 8)
    values = linear.weight.detach().double().numpy()
    return QuantizedLayer(
        "linear", linear, {"weight": create_quantizer(name, values, FORMAT, "weight", options)}
    )


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_inq_freezes_the_largest_first_and_they_never_move(kind: str) -> None:
    layer = _layer("inq", stages={"fractions": [0.5, 0.8, 1.0], "at": [2, 5, 8], "unit": "step"})
    quantizer = layer.quantizer("weight")
    assert isinstance(quantizer, Inq)
    parameters = layer.parameters()
    optimizer = (
        torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=0.1)
        if kind == "sgd"
        else torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1)
    )
    number_depths(layer)
    frozen = torch.zeros(8, 10, dtype=torch.bool)
    held = torch.zeros(8, 10)
    weight = layer.layer.weight
    assert isinstance(weight, nn.Parameter)
    free = weight.detach().clone()
    counts = []
    for step in range(10):
        previous, known = free.clone(), frozen.clone()
        _, free = _step(layer, optimizer, step)
        frozen = quantizer.frozen.clone()
        counts.append(int(frozen.sum()))
        fresh = frozen & ~known
        assert (frozen | ~known).all()
        if fresh.any() and not frozen.all():
            assert previous[fresh].abs().min() >= previous[~frozen].abs().max()
        held = torch.where(fresh, FORMAT.quantize(previous, quantizer.rounding)[0], held)
        assert torch.equal(free[frozen], held[frozen])
        assert not frozen.all() or torch.equal(free, held)
        assert frozen.all() or not torch.equal(free[~frozen], previous[~frozen])
    assert counts == [0, 0, 40, 40, 40, 64, 64, 64, 80, 80]
    x = torch.randn(3, 10)
    assert torch.equal(layer.train()(x), layer.eval()(x))


def _step(
    layer: QuantizedLayer, optimizer: torch.optim.Optimizer, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Trains once on noise, and returns the weight before and after."""
    driven = quantizers_of(layer)
    weight = layer.layer.weight
    assert isinstance(weight, nn.Parameter)
    before_step(driven, Moment(0, 1, step, 10, seed=9))
    before = weight.detach().clone()
    optimizer.zero_grad()
    x = torch.randn(6, 10, generator=torch.Generator().manual_seed(step))
    layer(x).square().sum().backward()
    optimizer.step()
    after_step(driven)
    return before, weight.detach().clone()


def test_rpr_draws_anew_and_holds_what_it_drew() -> None:
    layer = _layer("rpr", stages={"fractions": [0.6, 1.0], "at": [0, 8], "unit": "step"})
    quantizer = layer.quantizer("weight")
    assert isinstance(quantizer, Rpr)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    number_depths(layer)
    drawn = []
    for step in range(10):
        before, after = _step(layer, optimizer, step)
        fixed = quantizer.fixed.clone()
        drawn.append(fixed)
        assert torch.equal(before[fixed], after[fixed])
        if step < 8:
            assert 30 <= int(fixed.sum()) <= 66
            assert not torch.equal(before[~fixed], after[~fixed])
        # A resumed run draws the same.
        before_step(quantizers_of(layer), Moment(0, 1, step, 10, seed=9))
        assert torch.equal(quantizer.fixed, fixed)
        expected = torch.where(fixed, FORMAT.quantize(after, quantizer.rounding)[0], after)
        assert torch.equal(quantizer.train()(after), expected)
    assert not torch.equal(drawn[0], drawn[1])
    assert drawn[8].all()
    # Another quantiser of the model draws something else.
    quantizer.place = Place(index=1)
    before_step(quantizers_of(layer), Moment(0, 1, 0, 10, seed=9))
    assert not torch.equal(quantizer.fixed, drawn[0])


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1), st.integers(1, 6), st.sampled_from([0.5, 1.0, 3.0]))
def test_ana_anneals_the_lower_modules_first(progress: float, depths: int, power: float) -> None:
    options = AnaOptions(start=0.1, end=0.8, power=power, spread=2.0)
    spreads = [options.spread_at(progress, Place(0, d, depths)) for d in range(depths)]
    assert spreads == sorted(spreads)
    assert all(0 <= spread <= 2.0 for spread in spreads)
    if progress <= 0.1:
        assert spreads == [2.0] * depths
    if progress >= 0.8001:
        assert spreads == [0.0] * depths
    # One at a time: those below are done, those above have not begun.
    assert sum(0 < spread < 2.0 for spread in spreads) <= 1
    together = AnaOptions(start=0.1, end=0.8, power=power, spread=2.0, order="together")
    assert len({together.spread_at(progress, Place(0, d, depths)) for d in range(depths)}) == 1


def test_ana_halfway_through_its_window() -> None:
    layer = _layer("ana", start=0.0, end=1.0, power=2.0)
    quantizer = layer.quantizer("weight")
    assert isinstance(quantizer, Ana)
    before_step(quantizers_of(layer), Moment(0, 2, 5, 10))
    assert float(quantizer.spread) == 0.25


def test_quantisers_come_in_the_order_of_the_graph() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = Cast(create_quantizer("ana", _ones(), FORMAT, "data", {}))
            self.layer = _layer("ana")
            self.first = Cast(Fixed(8, 4))

    root = Backwards()
    graph = fx.Graph()
    x = graph.placeholder("x")
    for name in ("first", "layer", "last", "layer"):
        x = graph.call_module(name, (x,))
    graph.output(x)
    model = fx.GraphModule(root, graph)
    found: list[Quantizer] = [quantizer for quantizer, _ in quantizers_of(model)]
    expected = [root.first.quantizer, root.layer.quantizer("weight"), root.last.quantizer]
    assert all(a is b for a, b in zip(found, expected, strict=True))
    assert [t is root.layer.layer.weight for _, t in quantizers_of(model)] == [False, True, False]
    number_depths(model)
    assert [q.place for q in found] == [Place(0, 0, 1), Place(1, 0, 2), Place(2, 1, 2)]


def _ones() -> Any:
    return torch.ones(2, 2, dtype=torch.float64).numpy()


def test_parameters_of_quantisers_have_groups_of_their_own() -> None:
    model = network()
    groups = parameter_groups(model)
    names = {id(p): name for name, p in model.named_parameters()}
    by_tuning = {
        (g.tuning.rate, g.tuning.weight_decay): {names[id(p)] for p in g.parameters} for g in groups
    }
    assert by_tuning[1.0, 1e-4] == {"4.quantizer.alpha"}
    assert by_tuning[1.0, 0.0] == {
        "0.quantizer.step", "1.quantizers.weight.step", "8.quantizer.log2_t",
    }  # fmt: skip
    assert len(by_tuning[1.0, None]) == 12
    assert sum(len(g.parameters) for g in groups) == len(names)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return train(tmp_path_factory.mktemp("straight")).state_dict()


def _same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> list[str]:
    assert first.keys() == second.keys()
    return [key for key in first if not torch.equal(first[key], second[key])]


def test_training_moves_all_that_it_should(straight: dict[str, torch.Tensor]) -> None:
    start = network().state_dict()
    still = set(_same(dict(start), straight)) ^ set(start)
    # What training mode alone changes shows that it was in it.
    assert "2.running_mean" not in still
    assert still <= {"11.quantizer.spread", "5.layer.weight"}, still
    frozen = straight["5.quantizers.weight.frozen"]
    assert frozen.sum() >= 56
    levels = straight["5.quantizers.weight.levels"]
    assert torch.equal(straight["5.layer.weight"][frozen], levels[frozen])


@pytest.mark.parametrize("step", [1, 4, STEPS - 1, STEPS, STEPS + 1, 2 * STEPS + 5, 4 * STEPS - 1])
def test_a_training_that_died_anywhere_is_resumed_to_the_same_bits(
    straight: dict[str, torch.Tensor], step: int, tmp_path: Path
) -> None:
    class Died(Exception):
        pass

    def die() -> None:
        raise Died

    with pytest.raises(Died):
        train(tmp_path, die=die, at=step)
    assert _same(straight, dict(train(tmp_path, resume=True).state_dict())) == []


def test_a_killed_process_is_resumed_in_mid_epoch(
    straight: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    step = 2 * STEPS + 5
    script = Path(__file__).with_name("resumed_training.py")
    command = [sys.executable, str(script), str(tmp_path), str(step)]
    run = subprocess.run(command, timeout=120, cwd=Path(__file__).parents[2], check=False)
    assert run.returncode == -signal.SIGKILL
    kept = torch.load(tmp_path / LAST, weights_only=True)
    assert (kept["epoch"], kept["global_step"]) == (2, 18)
    assert (tmp_path / BEST).is_file()
    assert _same(straight, dict(train(tmp_path, resume=True).state_dict())) == []
