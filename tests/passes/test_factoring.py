"""svd_low_rank and flatten_convolution: thinner layers, with the errors that they say they have."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from chop.errors import ConfigError
from chop.flows.compile import compile
from chop.ir.graph import MaseGraph
from chop.passes.graph.analysis import (
    add_common_metadata_analysis_pass,
    init_metadata_analysis_pass,
)
from chop.passes.graph.transforms import (
    flatten_convolution_transform_pass,
    svd_low_rank_transform_pass,
)
from tests.passes.networks import EIGHT_BITS


def ready(model: nn.Module, *shape: int) -> MaseGraph:
    graph = init_metadata_analysis_pass(MaseGraph(model.eval()))
    inputs = {graph.placeholders[0]: torch.zeros(2, *shape, dtype=torch.float64)}
    return add_common_metadata_analysis_pass(graph, {"dummy_in": inputs})


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layers = (
            nn.Conv2d(3, 12, 5, stride=(2, 1), padding=(1, 2), dilation=(2, 2)),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(12 * 1 * 8, 20, bias=False),
            nn.Linear(20, 3),
        )
        return nn.Sequential(*layers).double()


def rows(graph: MaseGraph, name: str) -> dict[str, dict[str, Any]]:
    return {row["node"]: row for row in graph.info[name]}


def default(**config: Any) -> dict[str, Any]:
    return {"default": {"config": config}}


@given(m=st.integers(1, 12), n=st.integers(1, 12), rank=st.integers(1, 6), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_the_bound_holds_and_is_met(m: int, n: int, rank: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(n, m).double()
    layer.weight.data = torch.randn(m, n, dtype=torch.float64, generator=generator)
    graph = svd_low_rank_transform_pass(ready(nn.Sequential(layer), n), default(rank=rank))
    row = rows(graph, "svd_low_rank")["linear_0"]
    rank = min(rank, m, n)
    assert (row["rank"] == rank) == (rank * (m + n + 1) < m * n) == (not row["skipped"])
    x = torch.randn(50, n, dtype=torch.float64, generator=generator)
    difference = (graph.model(x) - layer(x)).norm(dim=1)
    assert (difference <= row["bound"] * x.norm(dim=1) + 1e-9).all()
    if row["rank"]:
        # The first direction left out is where the bound is met.
        _, singular, vt = torch.linalg.svd(layer.weight)
        worst = vt[rank][None]
        found = (graph.model(worst) - layer(worst)).norm()
        torch.testing.assert_close(found, singular[rank])
        assert row["weights_after"] == rank * (m + n) < row["weights_before"] == m * n


def test_rank_energy_and_error_choose_as_they_say() -> None:
    layer = nn.Linear(16, 16, bias=False).double()
    q = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64))[0]
    sizes = torch.tensor([8.0, 4.0, 2.0, 1.0] + [0.0] * 12, dtype=torch.float64)
    layer.weight.data = q @ torch.diag(sizes) @ q.T
    graph = ready(nn.Sequential(layer), 16)
    for config, rank in (
        ({"rank": 3}, 3),
        ({"energy": 64 / 85}, 1),
        ({"energy": 0.76}, 2),
        ({"energy": 1.0}, 4),
        ({"error": 0.5}, 1),
        ({"error": 0.25}, 2),
        ({"error": 0.1}, 4),
    ):
        row = rows(svd_low_rank_transform_pass(graph, default(**config)), "svd_low_rank")
        assert row["linear_0"]["rank"] == rank, config


def test_a_convolution_of_full_rank_in_two_is_the_same() -> None:
    model = network()
    conv, x = model[0], torch.randn(4, 3, 8, 12, dtype=torch.float64)
    assert isinstance(conv, nn.Conv2d)
    low = torch.randn(12, 4, dtype=torch.float64) @ torch.randn(4, 75, dtype=torch.float64)
    conv.weight.data = low.reshape(conv.weight.shape)
    graph = ready(nn.Sequential(conv), 3, 8, 12)
    made = svd_low_rank_transform_pass(graph, default(error=1e-9))
    row = rows(made, "svd_low_rank")["conv2d_0"]
    assert (row["rank"], row["outputs"], row["inputs"]) == (4, 12, 75)
    torch.testing.assert_close(made.model(x), conv(x))
    assert [n.name for n in made.fx_graph.nodes][1:-1] == ["conv2d_0_factor1", "conv2d_0"]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_filters_that_are_products_are_found_again(rank: int) -> None:
    conv = network()[0]
    assert isinstance(conv, nn.Conv2d)
    with torch.random.fork_rng():
        torch.manual_seed(rank)
        parts = [torch.randn(12, rank, size, dtype=torch.float64) for size in (3, 5, 5)]
        x = torch.randn(4, 3, 8, 12, dtype=torch.float64)
    conv.weight.data = torch.einsum("okc,oky,okx->ocyx", *parts)
    graph = ready(nn.Sequential(conv), 3, 8, 12)
    made = flatten_convolution_transform_pass(graph, default(rank=rank))
    row = rows(made, "flatten_convolution")["conv2d_0"]
    assert (row["rank"], row["weights_after"]) == (rank, 12 * rank * 13)
    assert row["error"] < (1e-6 if rank < 3 else 0.05)
    found = (made.model(x) - conv(x)).norm() / conv(x).norm()
    assert found < 20 * row["error"] + 1e-9
    kernels = [m.kernel_size for m in made.model.modules() if isinstance(m, nn.Conv2d)]
    assert sorted(kernels) == [(1, 1), (1, 5), (5, 1)]


def test_more_rank_is_never_worse_and_an_error_chooses_it() -> None:
    graph = ready(network(), 3, 8, 12)
    errors = []
    for rank in (1, 2, 3, 4):
        made = flatten_convolution_transform_pass(graph, default(rank=rank))
        errors.append(rows(made, "flatten_convolution")["conv2d_0"]["error"])
    assert errors == sorted(errors, reverse=True)
    assert errors[3] < errors[0] < 1
    made = flatten_convolution_transform_pass(graph, default(rank=4, error=errors[2]))
    assert rows(made, "flatten_convolution")["conv2d_0"]["rank"] == 3
    made = flatten_convolution_transform_pass(graph, default(rank=4, error=errors[3] / 2))
    row = rows(made, "flatten_convolution")["conv2d_0"]
    assert row["rank"] == 0
    assert row["skipped"].startswith("rank 4, the most of use, has an error of 0.")


def test_what_gains_nothing_stays_with_its_reason() -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 2, (1, 2)), nn.Flatten(),
        nn.Linear(2, 4),
    ).double()  # fmt: skip
    graph = ready(model, 2, 3, 4)
    flat = flatten_convolution_transform_pass(graph, default(rank=2))
    found = rows(flat, "flatten_convolution")
    assert found["conv2d_0"]["skipped"] == "its kernel is of one pixel"
    assert found["conv2d_2"]["skipped"] == ""
    assert "conv2d_1" not in found
    low = svd_low_rank_transform_pass(graph, default(rank=2))
    skipped = rows(low, "svd_low_rank")["linear_4"]["skipped"]
    assert skipped == "rank 2: 2 x (4 + 2 + 1) is not below 4 x 2"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "must have one of rank, energy and error, got none"),
        (
            {"rank": 1, "energy": 0.5},
            "must have one of rank, energy and error, got rank and energy",
        ),
        ({"ranks": 1}, "unknown key 'ranks'; did you mean 'rank'?"),
    ],
)
def test_a_wrong_entry_is_refused(config: dict[str, Any], message: str) -> None:
    graph = ready(network(), 3, 8, 12)
    entry = {"by": "name", "linear_3": {"config": config}}
    with pytest.raises(ConfigError) as caught:
        svd_low_rank_transform_pass(graph, entry)
    assert message in str(caught.value)


def test_the_rtl_of_factors_is_exact() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.ReLU(), nn.Flatten(),
            nn.Linear(18, 12), nn.ReLU(), nn.Linear(12, 3),
        ).eval()  # fmt: skip
        x = torch.randn(16, 2, 5, 5)
    passes = [
        {"name": "flatten_convolution", "by": "name", "conv2d_0": {"config": {"rank": 1}}},
        {
            "name": "svd_low_rank",
            "by": "name",
            "conv2d_2": {"config": {"rank": 1}},
            "linear_5": {"config": {"rank": 4}},
        },
        {"name": "quantize", "by": "type", "default": {"config": EIGHT_BITS}},
    ]
    accelerator = compile(model, x, {"passes": passes})
    made = {entry.node for entry in accelerator.manifest.layers}
    assert {"conv2d_0_factor1", "conv2d_0_factor2", "conv2d_2_factor1", "linear_5_factor1"} <= made
    run = accelerator.simulate(x, check_streams=True)
    assert (run.mismatches, run.samples, run.deadlock) == (0, 16, False)
