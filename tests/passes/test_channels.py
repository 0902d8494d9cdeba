"""Channels: which are tied to which, and graphs with fewer or more of them."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import pytest
import torch
from torch import nn

from chop.errors import ConfigError, PassOrderError, UnsupportedOpError
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.models import (
    cnn,
    conv_autoencoder,
    ds_cnn,
    jsc,
    lenet5,
    mobilenet_v1,
    resnet8,
    se_net,
    tcn,
    unet_mini,
)
from chop.ops.annotate import data_inputs, module_of
from chop.ops.registry import operator
from chop.passes.channels import Weights, read_channels, resize_channels, select_channels
from chop.passes.graph.analysis import (
    add_common_metadata_analysis_pass,
    init_metadata_analysis_pass,
)
from chop.passes.graph.transforms import quantize_transform_pass
from tests.ops.networks import random_network
from tests.passes.networks import EIGHT_BITS

Shape = tuple[int, ...]
ZOO: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "jsc": (jsc.JSC_Three_Linear_Layers, (16,)),
    "cnn": (lambda: cnn(channels=(4, 6), hidden=(5,), batch_norm=True), (1, 8, 8)),
    "lenet5": (lenet5, (1, 28, 28)),
    "resnet8": (lambda: resnet8((4, 6, 8), 8), (3, 8, 8)),
    "unet_nearest": (lambda: unet_mini(channels=4), (1, 16, 16)),
    "unet_transpose": (lambda: unet_mini(channels=4, upsample="transpose"), (1, 16, 16)),
    "se_net": (se_net, (1, 8, 8)),
    "tcn": (lambda: tcn(channels=4), (4, 32)),
    "ds_cnn": (lambda: ds_cnn(6, 2), (1, 49, 10)),
    "mobilenet": (lambda: mobilenet_v1(0.05), (3, 32, 32)),
    "conv_autoencoder": (conv_autoencoder, (1, 16, 16)),
}


class Moves(nn.Module):
    """Groups, slices, a shuffle, a split, sizes written down, and a constant per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 12, 3, padding=1, groups=2)
        self.slope = nn.PReLU(12)
        self.scale = nn.Parameter(torch.randn(12, 1, 1))
        self.depthwise = nn.Conv2d(12, 24, 3, padding=1, groups=12)
        self.shuffle = nn.PixelShuffle(2)
        self.conv = nn.Conv2d(6, 4, 1)
        self.fc = nn.Linear(2 * 4 * 6 * 6 + 8 * 3 * 3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stem = self.stem(x)
        n, c, h, w = stem.shape
        y = stem.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        y = self.slope(self.grouped(y)) * self.scale
        y = self.conv(self.shuffle(self.depthwise(y)))
        first, second = y.chunk(2, 1)
        y = torch.cat([second, first.relu(), y[:, 2:], y[:, :2]], 1)
        result: torch.Tensor = self.fc(torch.cat([y.flatten(1), stem.reshape(-1, 72)], 1))
        return result


def ready(model: nn.Module, *inputs: torch.Tensor) -> MaseGraph:
    """Returns the graph of a model in float64, in evaluation mode, with statistics."""
    model = model.double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for value in (module.running_var, module.weight, module.bias, module.running_mean):
                assert value is not None
                nn.init.uniform_(value, 0.5, 1.5)
    graph = init_metadata_analysis_pass(MaseGraph(model.eval()))
    named = dict(zip(graph.placeholders, inputs, strict=True))
    return add_common_metadata_analysis_pass(graph, {"dummy_in": named})


def zoo(name: str) -> tuple[MaseGraph, torch.Tensor]:
    make, shape = ZOO[name]
    with torch.random.fork_rng():
        torch.manual_seed(7)
        x = torch.randn(3, *shape, dtype=torch.float64)
        return ready(make(), x), x


def without(graph: MaseGraph, dropped: set[int]) -> MaseGraph:
    """Returns a graph with zeros for the weights that meet a dropped channel."""
    blind = graph.copy()
    channels = read_channels(blind)
    for node in blind.fx_graph.nodes:
        common, module = common_of(node), module_of(blind, node)
        if common.operator not in ("linear", "conv", "conv_transpose"):
            continue
        assert module is not None, "the tests' layers are modules"
        module = copy.deepcopy(module)
        (source,) = data_inputs(node)
        labels = channels.axes[source][-1 if common.operator == "linear" else 0]
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        for column, label in enumerate(labels.tolist()):
            if label in dropped and getattr(module, "groups", 1) == 1:
                index = (column,) if common.operator == "conv_transpose" else (slice(None), column)
                weight.data[index] = 0.0
            elif label in dropped and weight.shape[1] > 1:
                groups = getattr(module, "groups", 1)
                each = weight.shape[0] // groups
                group, place = divmod(column, weight.shape[1])
                weight.data[group * each : (group + 1) * each, place] = 0.0
        blind.model.add_submodule(str(node.target), module)
    return blind


def run(graph: MaseGraph, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        result = graph.model(*inputs)
    return result if isinstance(result, tuple) else (result,)


def close(a: tuple[torch.Tensor, ...], b: tuple[torch.Tensor, ...]) -> None:
    """Sums in another order differ in the last bits of float64, and in nothing else."""
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9)


def drawn_copies(graph: MaseGraph, rng: random.Random, most: int) -> dict[int, int]:
    labels = [n for found in read_channels(graph).made.values() for n in found.tolist() if n]
    return {label: rng.randint(1, most) for label in dict.fromkeys(labels)}


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("seed", range(2))
def test_channels_that_are_gone_leave_zeros_where_they_were_read(name: str, seed: int) -> None:
    graph, x = zoo(name)
    rng = random.Random(seed)
    channels = read_channels(graph)
    kept: dict[str, list[int]] = {}
    dropped: set[int] = set()
    for node, labels in channels.made.items():
        if channels.free(node) and not dropped & set(labels.tolist()) and rng.random() < 0.7:
            gone = set(rng.sample(sorted(set(labels.tolist())), len(set(labels.tolist())) // 2))
            kept[node] = [k for k, label in enumerate(labels.tolist()) if label not in gone]
            dropped |= set(labels.tolist())
            dropped -= set(labels.tolist()) - gone
            if not gone:
                del kept[node]
    small = select_channels(graph, kept)
    close(run(small, x), run(without(graph, dropped), x))
    for node, indices in kept.items():
        assert len(read_channels(small).made[node]) == len(indices) < len(channels.made[node])


@pytest.mark.parametrize("name", ZOO)
def test_more_of_every_channel_compute_the_same(name: str) -> None:
    graph, x = zoo(name)
    wide = graph.copy()
    resize_channels(wide, read_channels(wide), drawn_copies(wide, random.Random(3), 3), "widen")
    close(run(wide, x), run(graph, x))
    assert sum(p.numel() for p in wide.model.parameters()) > sum(
        p.numel() for p in graph.model.parameters()
    )


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_follow_or_refuse(seed: int) -> None:
    rng = random.Random(seed)
    network, shapes = random_network(rng)
    inputs = [torch.randn(3, *shape, dtype=torch.float64) for shape in shapes]
    try:
        graph = ready(network, *inputs)
    except (UnsupportedOpError, RuntimeError):
        pytest.skip("a network of number formats, or of indices in float64")
    wide = graph.copy()
    copies = drawn_copies(wide, rng, 2)
    try:
        resize_channels(wide, read_channels(wide), copies, "widen")
    except UnsupportedOpError as error:
        if "moves channels" not in str(error):
            raise
    else:
        close(run(wide, *inputs), run(graph, *inputs))


def moves() -> tuple[MaseGraph, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        x = torch.randn(3, 2, 3, 3, dtype=torch.float64)
        return ready(Moves(), x), x


def test_moves_groups_and_sizes_written_down_follow() -> None:
    graph, x = moves()
    channels = read_channels(graph)
    assert channels.partners("grouped") == ("depthwise",)
    # A shuffle of two blocks into two groups; blocks of four for the pixels of two channels.
    for name, count in (("stem", 2), ("grouped", 3), ("depthwise", 3), ("conv", 4)):
        assert len(set(channels.made[name].tolist())) == count, name
    wide = graph.copy()
    # The halves of a chunk are of different sizes then.
    copies = {int(channels.made["conv"][0]): 2, int(channels.made["conv"][3]): 3}
    copies |= {int(channels.made["stem"][0]): 3, int(channels.made["grouped"][1]): 2}
    resize_channels(wide, read_channels(wide), copies, "widen")
    close(run(wide, x), run(graph, x))
    small = select_channels(graph, {"stem": [1, 3, 5, 7], "conv": [1, 2, 3]})
    dropped = {int(channels.made["stem"][0]), int(channels.made["conv"][0])}
    close(run(small, x), run(without(graph, dropped), x))
    assert {n.name for n in small.fx_graph.nodes} == {n.name for n in graph.fx_graph.nodes}


def layer_of(graph: MaseGraph, name: str) -> nn.Linear:
    layer = graph.model.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    return layer


def test_weights_are_copied_inherited_or_drawn() -> None:
    graph, _ = zoo("jsc")
    old = layer_of(graph, "seq_blocks.2")
    made = {}
    ways: tuple[Weights, ...] = ("copy", "widen", "inherit", "fresh")
    for weights in ways:
        wide = graph.copy()
        channels = read_channels(wide)
        copies = {int(n): 2 for n in channels.made["seq_blocks_2"]}
        state = torch.random.get_rng_state()
        resize_channels(wide, channels, copies, weights, seed=4)
        assert torch.equal(torch.random.get_rng_state(), state)
        first, second = layer_of(wide, "seq_blocks.2"), layer_of(wide, "seq_blocks.4")
        assert (first.out_features, second.in_features) == (32, 32)
        made[weights] = [first.weight.detach(), second.weight.detach()]
    for weights in ("copy", "widen"):
        assert torch.equal(made[weights][0], old.weight.repeat_interleave(2, 0))
    assert torch.equal(made["widen"][1], made["copy"][1] / 2)
    assert torch.equal(made["inherit"][0][::2], old.weight)
    assert torch.equal(made["inherit"][0][1::2], made["fresh"][0][1::2])
    assert not (made["fresh"][0][::2] == old.weight).any()
    # As torch draws them: within 1 / sqrt(inputs).
    assert 0.15 < float(made["fresh"][1].abs().max()) <= 32**-0.5


def test_a_layer_that_is_called_twice_keeps_its_two_sides_together() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again = nn.Linear(4, 6), nn.Linear(6, 6)
            self.last = nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.last(self.again(self.again(self.first(x)).relu()).tanh())
            return y

    x = torch.randn(3, 4, dtype=torch.float64)
    graph = ready(Twice(), x)
    small = select_channels(graph, {"again": [0, 2, 3]})
    labels = read_channels(graph).made["first"]
    close(run(small, x), run(without(graph, set(labels[[1, 4, 5]].tolist())), x))
    assert read_channels(graph).partners("again") == ("first", "again_1")


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (
            {"fcc": [0]},
            "select_channels: node 'fcc' makes no channels of its own; name a layer that does; "
            "did you mean 'fc'?",
        ),
        (
            {"stem_conv": [4]},
            "select_channels: node 'stem_conv' must keep some of its channels 0 to 3, got [4]",
        ),
        (
            {"stem_conv": []},
            "select_channels: node 'stem_conv' must keep some of its channels 0 to 3, got []",
        ),
        (
            {"fc": [0, 1]},
            "select_channels: node 'fc' must keep all of its channels: node 'output' hands it on "
            "as a result of the network",
        ),
        (
            {"stem_conv": [0], "block1_conv2": [1]},
            "select_channels: nodes 'stem_conv' and 'block1_conv2' have channels in common, or "
            "tied to each other, of which only one keeps some; keep the same ones of both",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused(kept: dict[str, list[int]], message: str) -> None:
    graph, _ = zoo("resnet8")
    with pytest.raises(ConfigError) as caught:
        select_channels(graph, kept)
    assert str(caught.value) == message


def test_why_channels_are_fixed_is_said() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.c(x + self.a(x)).relu() * self.b(x).mean(1, keepdim=True)
            return y

    channels = read_channels(ready(Fixed(), torch.randn(2, 4, dtype=torch.float64)))
    assert channels.reason("a") == "node 'add' joins it with what has a fixed size"
    assert channels.reason("b") == "node 'mean' reduces all of them to one"
    assert channels.reason("c") == "node 'output' hands it on as a result of the network"
    assert not channels.free("a")


def test_a_quantised_graph_is_refused() -> None:
    graph = ready(jsc.JSC_Three_Linear_Layers(), torch.randn(2, 16, dtype=torch.float64))
    quantised = quantize_transform_pass(graph, {"by": "type", "linear": {"config": EIGHT_BITS}})
    with pytest.raises(PassOrderError, match="node 'seq_blocks_2' is quantised already; change"):
        read_channels(quantised)


def test_a_move_that_cannot_follow_is_refused_with_its_node() -> None:
    class Counted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            z: torch.Tensor = self.fc(torch.cat([y[:, 3], y[:, 1]], 1).flatten(1)[:, :8])
            return z

    graph = ready(Counted(), torch.randn(2, 1, 4, 4, dtype=torch.float64))
    with pytest.raises(UnsupportedOpError, match=r"^node 'getitem(_1)?': 'slice' moves channels "):
        select_channels(graph, {"conv": [1, 3]})


def test_every_operator_that_computes_in_place_says_so() -> None:
    """All operators but those named are element by element."""
    others = {"linear", "conv", "conv_transpose", "reshape", "permute", "slice", "pad", "upsample"}
    others |= {"max_pool", "avg_pool", "cat", "reduce", "argmax", "embedding"}
    from chop.ops.registry import operators

    assert {op.name for op in operators() if not op.is_elementwise} == others
    assert operator("relu").is_elementwise
