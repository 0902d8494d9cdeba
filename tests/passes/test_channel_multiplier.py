"""channel_multiplier: widths of every factor, what follows from them, and what is refused."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import nn

from chop.errors import ChopError, ConfigError
from chop.flows.compile import compile
from chop.ir.graph import MaseGraph
from chop.models import JSC_Three_Linear_Layers, cnn, ds_cnn, resnet8
from chop.passes.contract import precedes_training
from chop.passes.graph.analysis import (
    add_common_metadata_analysis_pass,
    init_metadata_analysis_pass,
)
from chop.passes.graph.transforms import (
    channel_multiplier_transform_pass,
    quantize_transform_pass,
)
from tests.passes.networks import EIGHT_BITS


def ready(model: nn.Module, *shape: int) -> MaseGraph:
    graph = init_metadata_analysis_pass(MaseGraph(model.eval()))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        inputs = {graph.placeholders[0]: torch.randn(4, *shape)}
    return add_common_metadata_analysis_pass(graph, {"dummy_in": inputs})


def jsc() -> MaseGraph:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return ready(JSC_Three_Linear_Layers(), 16)


def times(**factors: Any) -> dict[str, Any]:
    """Returns entries: a factor each, or a whole table."""
    tables = {
        k: v if isinstance(v, dict) else {"channel_multiplier": v} for k, v in factors.items()
    }
    return {name: {"config": table} for name, table in tables.items()}


def sizes(graph: MaseGraph) -> list[int]:
    linear = [m for m in graph.model.modules() if isinstance(m, nn.Linear)]
    assert all(a.out_features == b.in_features for a, b in itertools.pairwise(linear))
    return [linear[0].in_features, *(m.out_features for m in linear)]


def test_the_widths_of_the_lab() -> None:
    wide = channel_multiplier_transform_pass(jsc(), times(seq_blocks_2=2, seq_blocks_4=4))
    assert sizes(wide) == [16, 32, 64, 5]
    assert wide.info["channel_multiplier"] == [
        {"node": "seq_blocks_2", "before": 16, "after": 32, "multiplier": 2.0},
        {"node": "seq_blocks_4", "before": 16, "after": 64, "multiplier": 4.0},
    ]


def test_the_names_of_the_lab() -> None:
    def both(factor: float, into: float | None = None) -> dict[str, Any]:
        table: dict[str, Any] = {"name": "both", "channel_multiplier": factor}
        return table if into is None else {**table, "channel_multiplier_in": into}

    arguments = {
        "by": "name",
        "default": {"config": {"name": None}},
        **times(
            seq_blocks_2={"name": "output_only", "channel_multiplier": 2},
            seq_blocks_4=both(2),
            seq_blocks_6={"name": "input_only", "channel_multiplier": 2},
        ),
    }
    assert sizes(channel_multiplier_transform_pass(jsc(), arguments)) == [16, 32, 32, 5]
    arguments |= times(
        seq_blocks_4=both(4, 2), seq_blocks_6={"name": "input_only", "channel_multiplier": 4}
    )
    assert sizes(channel_multiplier_transform_pass(jsc(), arguments)) == [16, 32, 64, 5]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            times(
                seq_blocks_2={"name": "output_only", "channel_multiplier": 2},
                seq_blocks_4={"name": "both", "channel_multiplier": 4},
            ),
            "node 'seq_blocks_4' has name = 'both', which means inputs times 4, but 'seq_blocks_2' "
            "before it gives times 2; make the two agree, or leave 'name' out: inputs follow by "
            "themselves",
        ),
        (
            times(seq_blocks_2=2, seq_blocks_4={"name": "output_only", "channel_multiplier": 2}),
            "node 'seq_blocks_4' has name = 'output_only', which means inputs times 1, but "
            "'seq_blocks_2' before it gives times 2; make the two agree, or leave 'name' out: "
            "inputs follow by themselves",
        ),
        (
            times(seq_blocks_2={"name": "both", "channel_multiplier": 2}),
            "node 'seq_blocks_2' has name = 'both', which means inputs times 2, but the network's "
            "input before it gives times 1; make the two agree, or leave 'name' out: inputs follow "
            "by themselves",
        ),
        (
            times(seq_blocks_6=2),
            "node 'seq_blocks_6' must keep its 5 channels: node 'output' hands it on as a "
            "result of the network",
        ),
        (
            times(seq_blocks_3=2),
            "node 'seq_blocks_3' makes no channels of its own ('relu'); name the layer before it, "
            "it follows",
        ),
        (
            times(seq_blocks_2={"name": "output_only"}),
            "'seq_blocks_2'.config says 'output_only' and has no channel_multiplier; add it",
        ),
        (
            {"seq_blocks_2": {"channel_multiplier": 2}},
            "'seq_blocks_2': unknown key 'channel_multiplier'; use config",
        ),
        (times(seq_block_2=2), "no node 'seq_block_2'; did you mean 'seq_blocks_2'?"),
        (
            times(seq_blocks_2=0),
            "'seq_blocks_2'.config: 'channel_multiplier' must be greater than 0, got 0",
        ),
    ],
)
def test_what_does_not_fit_is_refused(entries: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        channel_multiplier_transform_pass(jsc(), entries)
    expected = f"pass 'channel_multiplier': {message}"
    if "must keep" in message:
        expected += "; take its channel_multiplier out, or write name = 'input_only'"
    assert str(caught.value) == expected


FACTORS = (0.25, 0.5, 1, 1.5, 2, 3)


@pytest.mark.parametrize(("first", "second"), list(itertools.product(FACTORS, repeat=2)))
def test_every_factor_gives_its_shapes_and_runs(first: float, second: float) -> None:
    graph = jsc()
    entries = times(seq_blocks_2=first, seq_blocks_4=second)
    made = channel_multiplier_transform_pass(graph, entries)
    assert sizes(made) == [16, round(16 * first), round(16 * second), 5]
    assert made.model(torch.randn(3, 16)).shape == (3, 5)
    assert sizes(graph) == [16, 16, 16, 5]


@pytest.mark.parametrize("factor", FACTORS)
def test_every_factor_on_residual_and_grouped_networks(factor: float) -> None:
    by_type = {"by": "type", **times(conv=factor)}
    wide = channel_multiplier_transform_pass(ready(resnet8((4, 6, 8), 8), 3, 8, 8), by_type)
    convs = [m for m in wide.model.modules() if isinstance(m, nn.Conv2d)]
    widths = [4, 4, 4, 6, 6, 6, 8, 8, 8]
    assert [c.out_channels for c in convs] == [max(1, int(w * factor + 0.5)) for w in widths]
    assert wide.model(torch.randn(2, 3, 8, 8)).shape == (2, 10)
    wide = channel_multiplier_transform_pass(ready(ds_cnn(8, 2), 1, 49, 10), by_type)
    convs = [m for m in wide.model.modules() if isinstance(m, nn.Conv2d)]
    assert {c.out_channels for c in convs} == {max(1, int(8 * factor + 0.5))}
    assert [c.groups > 1 for c in convs] == [False, True, False, True, False]
    norms = [m for m in wide.model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [n.num_features for n in norms] == [c.out_channels for c in convs]


def test_partners_take_one_factor() -> None:
    graph = ready(resnet8((4, 6, 8), 8), 3, 8, 8)
    made = channel_multiplier_transform_pass(graph, times(block2_shortcut=2))
    changed = {row["node"]: row["after"] for row in made.info["channel_multiplier"]}
    assert changed == {"block2_conv2": 12, "block2_shortcut": 12}
    with pytest.raises(ConfigError) as caught:
        channel_multiplier_transform_pass(graph, times(block2_shortcut=2, block2_conv2=3))
    assert str(caught.value) == (
        "pass 'channel_multiplier': nodes 'block2_conv2' and 'block2_shortcut' make the same "
        "channels, or channels that are added, and have the factors 3 and 2; give both one factor, "
        "or one of them none"
    )


def test_weights_are_drawn_from_the_seed_inherited_or_widened() -> None:
    graph, x = jsc(), torch.randn(3, 16)
    entries = times(seq_blocks_2=2, seq_blocks_4=4)

    def made(**arguments: Any) -> MaseGraph:
        return channel_multiplier_transform_pass(graph, {**arguments, **entries})

    assert torch.equal(made().model(x), made().model(x))
    assert torch.equal(made(seed=1).model(x), made(seed=1).model(x))
    assert not torch.equal(made(seed=0).model(x), made(seed=1).model(x))
    # What keeps its size is drawn anew only where a seed is given.
    drawn = channel_multiplier_transform_pass(graph, {"seed": 3})
    assert not torch.equal(drawn.model(x), graph.model(x))
    assert torch.equal(channel_multiplier_transform_pass(graph, {}).model(x), graph.model(x))
    torch.testing.assert_close(made(weights="widen").model(x), graph.model(x))
    assert not torch.equal(made(weights="inherit").model(x), graph.model(x))
    old, new = (g.model.get_submodule("seq_blocks.2") for g in (graph, made(weights="inherit")))
    assert isinstance(old, nn.Linear)
    assert isinstance(new, nn.Linear)
    assert torch.equal(old.weight, new.weight[::2])


def test_it_precedes_training_where_weights_are_drawn() -> None:
    run = channel_multiplier_transform_pass
    assert precedes_training(run, times(fc=2))
    assert not precedes_training(run, {"weights": "inherit"})
    assert not precedes_training(quantize_transform_pass, {})
    with pytest.raises(ChopError, match="weights"):
        precedes_training(run, {"weights": "best"})


@pytest.mark.parametrize(
    ("model", "shape", "entries"),
    [
        (JSC_Three_Linear_Layers(), (16,), times(seq_blocks_2=2, seq_blocks_4=0.5)),
        (
            cnn((1, 8, 8), (4, 4), (6,), 3, batch_norm=True),
            (1, 8, 8),
            times(conv1=1.5, conv2=0.75, fc1=2),
        ),
    ],
)
def test_the_rtl_of_other_widths_is_exact(
    model: nn.Module, shape: tuple[int, ...], entries: dict[str, Any]
) -> None:
    x = torch.randn(16, *shape)
    passes = [
        {"name": "channel_multiplier", **entries},
        {"name": "fold_batch_norm"},
        {"name": "quantize", "by": "type", "default": {"config": EIGHT_BITS}},
    ]
    accelerator = compile(model.eval(), x, {"passes": passes})
    run = accelerator.simulate(x, check_streams=True)
    assert (run.mismatches, run.samples, run.deadlock) == (0, 16, False)
