"""profile_statistics against numpy on all the values at once."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from chop.errors import ConfigError, DataError, ShapeError
from chop.ir.graph import MaseGraph
from chop.ir.meta import TensorStatistics, common_of, software_of
from chop.ops.annotate import record
from chop.passes.graph.analysis import (
    add_software_metadata_analysis_pass,
    profile_statistics_analysis_pass,
)
from chop.passes.graph.analysis.profile import Accumulator
from tests.passes.networks import Chain, batch, branches, chain, quantised, seeded

WHO = "pass 'profile_statistics'"


def statistics(graph: MaseGraph) -> dict[tuple[str, str], TensorStatistics]:
    return {
        (node.name, tensor): seen
        for node in graph.fx_graph.nodes
        for tensor, seen in software_of(node).statistics.items()
    }


def test_a_loader_in_pieces_gives_the_statistics_of_the_whole() -> None:
    graph, x = chain(), batch(101, 6)
    loader = DataLoader(TensorDataset(x, torch.zeros(101)), batch_size=8)
    quantiles = [0.75, 0.0, 0.5, 1.0]
    profile_statistics_analysis_pass(graph, {"data": loader, "quantiles": quantiles})
    seen = statistics(graph)
    whole = record(graph, {"x": x})
    assert list(seen) == [
        *(("x", "output"), ("fc1", "output"), ("fc1", "weight"), ("fc1", "bias")),
        *(("act", "output"), ("fc2", "output"), ("fc2", "weight"), ("fc2", "bias")),
    ]
    # torch multiplies batches of other sizes in another order: equal to the last bits only.
    for name in ("x", "fc1", "act", "fc2"):
        found, values = seen[name, "output"], whole[name]
        assert found.count == values.size
        assert [p for p, _ in found.quantiles] == [0.0, 0.5, 0.75, 1.0]
        assert found.quantiles[0][1] == found.minimum
        assert found.quantiles[3][1] == found.maximum
        measured = [found.minimum, found.maximum, found.mean, found.standard_deviation]
        measured += [value for _, value in found.quantiles]
        expected = [values.min(), values.max(), values.mean(), values.std()]
        expected += np.quantile(values, [0.0, 0.5, 0.75, 1.0]).tolist()
        assert measured == pytest.approx(expected, rel=1e-6, abs=1e-7)
    weight = seeded(Chain).get_parameter("fc1.weight").detach().double().numpy()
    found = seen["fc1", "weight"]
    assert (found.count, found.minimum, found.maximum) == (24, weight.min(), weight.max())
    assert graph.info["profile_statistics"]["samples"] == 101
    plain = graph.info["profile_statistics"]["nodes"]["fc1"]["weight"]
    assert (plain["count"], plain["minimum"]) == (24, weight.min())


def test_exactly_representable_values_are_exact() -> None:
    graph = chain()
    x = torch.tensor([[-2.0, -1.0, 0.0, 1.0, 2.0, 3.0]])
    profile_statistics_analysis_pass(graph, {"data": {"x": x}, "quantiles": [0.5]})
    assert statistics(graph)["x", "output"] == TensorStatistics(
        6, -2.0, 3.0, 0.5, math.sqrt(17.5 / 6), ((0.5, 0.5),)
    )


def test_example_inputs_are_the_default_and_samples_a_bound() -> None:
    graph = profile_statistics_analysis_pass(chain())
    assert graph.info["profile_statistics"]["samples"] == 5
    profile_statistics_analysis_pass(graph, {"data": [batch(4, 6), batch(4, 6)], "samples": 6})
    assert graph.info["profile_statistics"]["samples"] == 6
    assert statistics(graph)["x", "output"].count == 36


def test_a_loader_is_not_read_further_than_needed() -> None:
    def loader() -> Iterator[torch.Tensor]:
        yield batch(4, 6)
        yield batch(4, 6)
        pytest.fail("a third batch was asked for")

    graph = profile_statistics_analysis_pass(chain(), {"data": loader(), "samples": 8})
    assert graph.info["profile_statistics"]["samples"] == 8


def test_several_inputs_come_by_place_or_by_name() -> None:
    x, z = batch(6, 4, 4), batch(6, 2, 3, seed=4)
    results = []
    for data in ({"z": z, "x": x}, [(x, z)], [[x, z, torch.zeros(6)]], [{"x": x, "z": z}]):
        results.append(statistics(profile_statistics_analysis_pass(branches(), {"data": data})))
    assert results[0]["z", "output"].maximum == float(z.max())
    assert all(result == results[0] for result in results[1:])
    assert results[0]["b", "weight"] == results[0]["b_1", "weight"]


def test_quantised_layers_report_the_constants_that_they_compute_with() -> None:
    graph = profile_statistics_analysis_pass(quantised(chain()))
    seen = statistics(graph)
    for node in graph.fx_graph.nodes:
        for name, parameter in common_of(node).parameters.items():
            real = parameter.format.from_integers(parameter.values)
            assert seen[node.name, name].minimum == real.min()
            assert seen[node.name, name].maximum == real.max()
    assert seen["x_cast", "output"].maximum * 16 % 1 == 0


def test_counting_again_keeps_the_statistics() -> None:
    graph = profile_statistics_analysis_pass(chain())
    before = statistics(graph)
    add_software_metadata_analysis_pass(graph)
    assert statistics(graph) == before
    assert before


def test_moments_survive_a_large_offset() -> None:
    """A sum of squares would lose all the digits of the spread here."""
    seen = Accumulator()
    values = 1e9 + np.arange(1000.0)
    for piece in np.split(values, [1, 10, 11, 500]):
        seen.add(piece)
    found = seen.statistics((0.5,))
    assert found.mean == 1e9 + 499.5
    assert found.standard_deviation == pytest.approx(math.sqrt((1000**2 - 1) / 12), rel=1e-12)


def test_the_sample_depends_on_positions_alone() -> None:
    # Sorted: the first values, or the last, are no sample of all.
    values = np.sort(np.random.default_rng(0).normal(size=100_000))
    whole, pieces = Accumulator(), Accumulator()
    whole.add(values)
    for piece in np.split(values, [7, 20_000, 20_001, 60_000]):
        pieces.add(piece)
    probabilities = (0.001, 0.25, 0.5, 0.999)
    first, second = (seen.statistics(probabilities).quantiles for seen in (whole, pieces))
    assert first == second
    ranks = [float(np.mean(values <= value)) for _, value in first]
    # Four standard deviations of a sample of 16,384 values.
    for probability, rank in zip(probabilities, ranks, strict=True):
        spread = math.sqrt(probability * (1 - probability) / 16384)
        assert abs(rank - probability) < 4 * spread


def test_the_sample_does_not_follow_a_period_of_the_data() -> None:
    """Every 64th value is far out: taking every k-th value would see all of them, or none."""
    values = np.zeros(64 * 4096)
    values[::64] = 1.0
    seen = Accumulator()
    for piece in np.split(values, 64):
        seen.add(piece)
    share = 1 - 1 / 64
    below, above = seen.statistics((share - 0.008, share + 0.008)).quantiles
    assert (below[1], above[1]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"quantiles": [0.5, 1.5]}, ConfigError, f"{WHO}: quantiles must lie in 0..1, got 1.5"),
        ({"data": []}, ConfigError, f"{WHO}: the data have no samples; give at least one"),
        (
            {"data": 5},
            ConfigError,
            f"{WHO}: data must be a mapping of input names to tensors, or a loader of batches, "
            "got int",
        ),
        (
            {"data": {"y": batch(5, 6)}},
            ShapeError,
            f"{WHO}: input 'x' is missing from the data; give a tensor for each of: x",
        ),
        (
            {"data": {"x": torch.full((2, 6), math.nan)}},
            DataError,
            f"{WHO}: node 'x': the output has values that are not finite; mend the model or the "
            "data",
        ),
        (
            {"samples": 0},
            ConfigError,
            f"{WHO}: 'samples' must be greater than or equal to 1, got 0",
        ),
    ],
)
def test_wrong_data_are_one_line(
    arguments: dict[str, object], kind: type[Exception], message: str
) -> None:
    graph = chain()
    with pytest.raises(kind) as caught:
        profile_statistics_analysis_pass(graph, arguments)
    assert str(caught.value) == message
    assert statistics(graph) == {}


def test_inputs_of_different_lengths_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        profile_statistics_analysis_pass(
            branches(), {"data": {"x": batch(5, 4, 4), "z": batch(4, 2, 3)}}
        )
    assert (
        str(caught.value)
        == f"{WHO}: the inputs have different batch sizes (x 5, z 4); make them equal"
    )


def test_a_tensor_will_do_where_there_is_one_input() -> None:
    graph = profile_statistics_analysis_pass(chain(), {"data": batch(9, 6)})
    assert graph.info["profile_statistics"]["samples"] == 9
