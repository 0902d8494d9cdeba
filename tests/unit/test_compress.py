"""`chop compress`: stages, what they take, the file, and what is trained how."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from chop.cli.main import main
from chop.config.load import load_config
from chop.config.schema import Config
from chop.errors import ConfigError, DataError
from chop.flows.compress import Compression, compress_design
from chop.flows.compressed import load_compressed, tensors_of
from chop.flows.progress import SilentProgress
from chop.flows.weights import read_metrics
from chop.ir.serialize import load_graph
from chop.nn.controllers import GradualPruning, PrunedGroup, Rounds, Sharing, Surgery
from chop.nn.masks import mask_of, masked_parameters
from chop.nn.pruning import Criterion
from chop.nn.quantizer import Moment
from tests.passes.networks import batch

_SHORT = {"epochs": 3, "learning_rate": 0.01}
_PRUNE = {
    "kind": "prune",
    "arguments": {"weight": {"sparsity": 0.7, "scope": "global"}},
    "rounds": 6,
    "train": {**_SHORT, "checkpoint_every_steps": 2},
}
_SURGERY = {
    "kind": "surgery",
    "arguments": {"weight": {"sparsity": 0.75}},
    "rounds": 4,
    "train": _SHORT,
}
_DOUBLE = {"config": {"channel_multiplier": 2}}
_SHARE = {"kind": "share", "arguments": {"default": {"config": {"bits": 3}}}, "train": _SHORT}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _config(*stages: dict[str, Any], **changes: Any) -> Config:
    return load_config(
        {
            "name": "small",
            "model": {"name": "mlp", "arguments": {"sizes": [4, 24, 16, 3]}},
            "dataset": {"name": "iris", "batch_size": 16},
            "train": {"epochs": 5, "learning_rate": 0.01},
            "compress": {"stages": list(stages)},
            **changes,
        }
    )


def _compress(*stages: dict[str, Any], **changes: Any) -> Compression:
    return compress_design(_config(*stages, **changes), SilentProgress())


def test_the_stages_of_a_compression() -> None:
    report = _compress(_PRUNE, _SURGERY, _SHARE)
    float_, prune, surgery, share, code = report.stages
    names = ["float", "prune", "surgery", "share", "code"]
    assert [stage.name for stage in report.stages] == names
    weights = 4 * 24 + 24 * 16 + 16 * 3
    biases = 24 + 16 + 3
    assert (float_.params, float_.bytes, float_.ratio) == (weights + biases, 4 * 571, 1.0)
    # Random biases are never zero; one that is trained to be so would be a wonder.
    assert prune.kept == weights - round(0.7 * weights) + biases
    assert surgery.kept < prune.kept
    assert share.kept == surgery.kept
    assert all(s.values <= 7 for s in share.layers if s.name.endswith("weight"))
    assert code.accuracy == share.accuracy > 0.8
    path = Path(report.file)
    assert code.bytes == path.stat().st_size
    assert code.ratio == float_.bytes / code.bytes
    for stage in report.stages[:-1]:
        assert stage.bytes == sum(size.bytes for size in stage.layers)
        assert stage.weight_ratio == pytest.approx(571 / stage.kept)
    table = json.loads(Path("runs/small/compression.json").read_text(encoding="utf-8"))
    assert table["version"] == 1
    assert [stage["kind"] for stage in table["stages"]] == names
    assert table["layers"] == table["stages"][-1]["layers"]
    for folder, stage in (("compress_1_prune", prune), ("compress_3_share", share)):
        assert read_metrics(Path("runs/small") / folder).test_accuracy == stage.accuracy


def test_finished_stages_are_taken_from_their_folders() -> None:
    first = _compress(_PRUNE, _SURGERY, _SHARE)
    written = Path("runs/small/compress_2_surgery/last.ckpt").stat().st_mtime_ns
    content = Path(first.file).read_bytes()
    assert _compress(_PRUNE, _SURGERY, _SHARE) == first
    assert Path(first.file).read_bytes() == content
    assert Path("runs/small/compress_2_surgery/last.ckpt").stat().st_mtime_ns == written
    # A stage starts from the one before: another one there, and it is trained anew.
    other = {**_PRUNE, "arguments": {"weight": {"sparsity": 0.6}}}
    changed = _compress(other, _SURGERY, _SHARE)
    assert Path("runs/small/compress_2_surgery/last.ckpt").stat().st_mtime_ns != written
    assert changed.stages[1].kept > first.stages[1].kept


@pytest.mark.parametrize("stage", [_PRUNE, _SURGERY], ids=["prune", "surgery"])
def test_a_resumed_stage_gives_the_same_bits(
    stage: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = {**stage, "train": {**_SHORT, "checkpoint_every_steps": 2}}
    whole = Path(_compress(stage).file).read_bytes()
    for path in Path("runs/small").glob("compress_*/*"):
        path.unlink()
    seen = 0
    for kind in (GradualPruning, Surgery):
        before = kind.before_step

        def dies(self: Any, moment: Moment, before: Callable[..., None] = before) -> None:
            nonlocal seen
            seen += 1
            if seen == 13:
                raise KeyboardInterrupt
            before(self, moment)

        monkeypatch.setattr(kind, "before_step", dies)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        _compress(stage)
    assert Path("runs/small/compress_1_" + stage["kind"], "last.ckpt").is_file()
    assert compress_design(_config(stage), SilentProgress(), resume=True)
    assert seen < 13 + 21
    assert Path("runs/small/small.chz").read_bytes() == whole


def test_the_file_decodes_to_the_same_network(capsys: pytest.CaptureFixture[str]) -> None:
    report = _compress(_PRUNE, _SHARE)
    graph = load_compressed(Path(report.file))
    again = load_compressed(Path(report.file))
    x = batch(9, 4)
    assert torch.equal(graph.model(x), again.model(x))
    state = torch.load("runs/small/compress_2_share/last.ckpt", weights_only=True)["state_dict"]
    for name, values in tensors_of(graph).items():
        assert values.tobytes() == state[f"model.{name}"].numpy().tobytes()
    assert len(list(masked_parameters(graph.model))) == 3
    assert main(["decompress", report.file, "--output", "out/net.pt"]) == 0
    assert capsys.readouterr().out == "wrote out/net.pt\n"
    assert torch.equal(load_graph(Path("out/net.pt")).model(x), graph.model(x))
    Path("cut.chz").write_bytes(Path(report.file).read_bytes()[:-9])
    assert main(["decompress", "cut.chz"]) == 2
    wanted = "error: compressed file 'cut.chz': is damaged: its checksum is wrong; get it anew\n"
    assert capsys.readouterr().err == wanted


def test_a_smaller_network_comes_back_from_its_file() -> None:
    filters = {"weight": {"sparsity": 0.5, "granularity": "filter"}}
    report = _compress(
        {"kind": "prune", "arguments": filters, "train": _SHORT},
        {"kind": "prune", "arguments": filters, "train": _SHORT},
        _SHARE,
    )
    names = ["float", "prune_1", "prune_2", "share", "code"]
    assert [stage.name for stage in report.stages] == names
    sizes = {size.name: size.params for size in report.stages[-1].layers}
    assert (sizes["fc1.weight"], sizes["fc2.weight"], sizes["fc3.weight"]) == (24, 24, 12)
    shapes = [tuple(v.shape) for v in tensors_of(load_compressed(Path(report.file))).values()]
    assert shapes == [(6, 4), (6,), (4, 6), (4,), (3, 4), (3,)]


def test_a_file_of_another_model_is_one_line(tmp_path: Path) -> None:
    report = _compress(_SHARE)
    data = Path(report.file).read_bytes()
    from chop.compress.file import decode_bytes, write_compressed

    content = decode_bytes(data)
    model = {**content.description["model"], "arguments": {"sizes": [4, 25, 16, 3]}}
    write_compressed(tmp_path / "x.chz", {**content.description, "model": model}, content.tensors)
    with pytest.raises(DataError, match=r"x\.chz': does not fit its model: ") as caught:
        load_compressed(tmp_path / "x.chz")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("stages", "changes", "message"),
    [
        ([_PRUNE], {"compress": None}, "nothing to do; add a table [compress] with stages"),
        ([_PRUNE], {"passes": {"channel_multiplier": {"fc1": _DOUBLE}}},
         "a pass changes the model before it is trained, and the compressed file names the model "
         "as it was; save the changed graph and give it as model.graph"),
        ([{**_SURGERY, "arguments": {"weight": {"granularity": "2:4"}}}], {},
         "stage 'surgery': a surgery compares magnitudes; use sparsity or threshold with l1-norm"),
        ([{"kind": "prune", "arguments": {"activation": {"sparsity": 0.5}}}], {},
         "stage 'prune': pruned activations make no file smaller; use the pass prune"),
        ([{**_PRUNE, "arguments": {"weight": {"sparsity": 0.5, "granularity": "filter"}}}], {},
         "stage 'prune': filters and channels go all at once; use several stages of kind 'prune'"),
    ],
)  # fmt: skip
def test_what_cannot_be_compressed_is_one_line(
    stages: list[dict[str, Any]], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        _compress(*stages, **changes)
    assert str(caught.value) == f"job 'small': {message}"
    # It is found out before anything is trained.
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"kind": "surgery"}, "must have a table train: a surgery happens in a training"),
        ({"kind": "prune", "rounds": 2}, "must have a table train for rounds = 2"),
        ({"kind": "prune", "begin": 0.6}, "must have begin <= end, got 0.6 and 0.5"),
        ({"kind": "share", "train": {"validation_fraction": 0.1}},
         "must have train.validation_fraction 0, for the last weights are kept, got 0.1"),
    ],
)  # fmt: skip
def test_wrong_stages_are_one_line(stage: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _config(stage)
    assert str(caught.value) == f"config: 'compress.stages.0' {message}"


def _step(
    layer: nn.Module, controller: Any, optimizer: torch.optim.Optimizer, moment: Moment
) -> None:
    with torch.no_grad():
        controller.before_step(moment)
    optimizer.zero_grad()
    layer(batch(8, 6, seed=moment.step)).square().sum().backward()
    with torch.no_grad():
        controller.before_update()
    optimizer.step()
    with torch.no_grad():
        controller.after_step()


def _layer() -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Linear(6, 40, bias=False)


def test_sparsity_follows_its_schedule() -> None:
    layer = _layer()
    group = PrunedGroup(Criterion(sparsity=0.8), {"fc": layer})
    controller = GradualPruning([group], Rounds(5, 0.1, 0.6, "cubic"))
    optimizer = torch.optim.Adam(layer.parameters(), 0.01)
    found = []
    last: torch.Tensor | None = None
    for step in range(21):
        _step(layer, controller, optimizer, Moment(0, 1, step, 21))
        kept = mask_of(layer, "weight")
        assert kept is not None
        assert last is None or bool((kept <= last).all())
        last = kept.clone()
        assert not layer.weight[~kept].any()
        found.append(int((~kept).sum()))
    # Rounds at 10, 22.5, 35, 47.5 and 60 % of 20 steps; n of 5 are 1 - (1 - n / 5)^3 of 80 %.
    counts = [round(240 * 0.8 * (1 - (1 - n / 5) ** 3)) for n in range(6)]
    starts = [0, 2, 4, 7, 10, 12]
    assert found == [counts[max(i for i, s in enumerate(starts) if s <= t)] for t in range(21)]


def test_surgery_splices_weights_that_grow_again() -> None:
    layer = _layer()
    group = PrunedGroup(Criterion(threshold=0.2), {"fc": layer})
    controller = Surgery([group], Rounds(30, 0.0, 1.0, "constant"), 0.25)
    optimizer = torch.optim.SGD(layer.parameters(), 0.02)
    dense, kept = layer.weight.detach().clone(), torch.ones(40, 6, dtype=torch.bool)
    came_back = 0
    for step in range(30):
        # The definition: removed below a, back above b, as it was in between.
        old = kept
        kept = torch.where(dense.abs() < 0.2, False, torch.where(dense.abs() > 0.25, True, kept))
        came_back += int((kept & ~old).sum())
        weight = (dense * kept).requires_grad_()
        loss = (batch(8, 6, seed=step) @ weight.T).square().sum()
        (gradient,) = torch.autograd.grad(loss, weight)
        # In two steps: SGD may fuse the product into the sum.
        before = dense.clone()
        _step(layer, controller, optimizer, Moment(0, 1, step, 30))
        dense = layer.get_buffer("weight_dense").clone()
        assert torch.allclose(dense, before - 0.02 * gradient, rtol=1e-5, atol=1e-6)
        assert torch.equal(layer.get_buffer("weight_mask"), kept)
        assert torch.equal(layer.weight.detach() != 0, kept & (dense != 0))
    assert came_back > 0
    controller.finish()
    assert set(layer.state_dict()) == {"weight", "weight_mask"}


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_a_shared_value_moves_by_the_sum_of_its_members_gradients(kind: Any) -> None:
    layer = _layer()
    codebook = torch.tensor([0.0, -0.4, 0.1, 0.3])
    index = torch.randint(0, 4, (40, 6), generator=torch.Generator().manual_seed(0))
    layer.weight.data.copy_(codebook[index])
    values = codebook[1:].clone().requires_grad_()
    reference, optimizer = kind([values], 0.002), kind(layer.parameters(), 0.002)
    controller = Sharing([layer])
    for step in range(6):
        reference.zero_grad()
        weight = torch.cat((torch.zeros(1), values))[index]
        loss = (batch(8, 6, seed=step) @ weight.T).square().sum()
        (values.grad,) = torch.autograd.grad(loss, values)
        reference.step()
        _step(layer, controller, optimizer, Moment(0, 1, step, 6))
        # Neither do zeros count where gradients are clipped.
        assert layer.weight.grad is not None
        assert not layer.weight.grad[index == 0].any()
        found = [torch.unique(layer.weight.detach()[index == n]) for n in range(4)]
        assert [len(f) for f in found] == [1, 1, 1, 1]
        assert found[0].item() == 0.0
        assert torch.allclose(torch.cat(found[1:]), values.detach(), rtol=1e-4, atol=1e-6)
    assert not np.array_equal(values.detach().numpy(), codebook[1:].numpy())


def test_a_transformed_job_has_the_compressed_weights(capsys: pytest.CaptureFixture[str]) -> None:
    from chop.flows.prepare import prepare_job, train_design

    config = _config(_PRUNE, _SHARE)
    stages = train_design(config, SilentProgress(), resume=False)
    names = ["small", "compress_1_prune", "compress_2_share"]
    assert [folder.name for folder, _ in stages] == names
    job = prepare_job(config, SilentProgress())
    assert len(list(masked_parameters(job.model))) == 3
    decoded = load_compressed(Path("runs/small/small.chz"))
    assert torch.equal(job.model(batch(5, 4)), decoded.model(batch(5, 4)))
