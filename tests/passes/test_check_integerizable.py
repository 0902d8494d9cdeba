"""check_integerizable: every blocker at once, before any training."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from chop.errors import ConfigError, PassOrderError, UnsupportedOpError
from chop.ir.graph import MaseGraph
from chop.passes.graph.analysis import (
    add_common_metadata_analysis_pass,
    check_integerizable_analysis_pass,
    init_metadata_analysis_pass,
)
from chop.passes.graph.transforms import (
    fake_to_true_transform_pass,
    float_to_fake_transform_pass,
    quantize_transform_pass,
)
from tests.passes.networks import EIGHT_BITS, annotated, batch, branches, chain, metadata, quantised


class Blocked(nn.Module):
    """Five operators without integers between three that have them, and a useless output."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 4), nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4, track_running_stats=False)
        self.offset = nn.Parameter(torch.ones(4))

    def forward(self, x: torch.Tensor, unread: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = torch.cumsum(self.first(x), 1)
        y = self.norm(self.last(y))
        y = torch.logcumsumexp(y, -1)
        return functional.pad(y, (1, 0), value=0.3), torch.cumprod(y, 1), self.offset * 2


def line_of(text: str) -> str:
    lines, first = inspect.getsourcelines(Blocked)
    return (
        f"test_check_integerizable.py:{first + next(i for i, s in enumerate(lines) if text in s)}"
    )


def unannotated() -> MaseGraph:
    return init_metadata_analysis_pass(MaseGraph(Blocked()))


INPUTS = {"x": batch(5, 6), "unread": batch(5, 2)}
EXPECTED = [
    ("unread", "input", ""),
    ("cumsum", "cumsum", "torch.cumsum("),
    ("norm", "BatchNorm1d", "self.norm("),
    ("logcumsumexp", "logcumsumexp", "logcumsumexp"),
    ("pad", "pad", "return"),
    ("cumprod", "cumprod", "return"),
    ("output", "output", ""),
]


def test_every_blocker_of_an_untrained_network_is_listed() -> None:
    graph = unannotated()
    before = metadata(graph)
    checked = check_integerizable_analysis_pass(graph, {"dummy_in": INPUTS})
    found = checked.info["check_integerizable"]
    assert metadata(checked) == before
    assert not found["integerizable"]
    places = [(name, kind, line_of(text) if text else "") for name, kind, text in EXPECTED]
    assert [(b["node"], b["operator"], b["source"]) for b in found["blockers"]] == places
    # What stands between them was examined as if they were not there.
    assert found["unformatted"] == ["first", "last"]
    by_node = {b["node"]: b for b in found["blockers"]}
    assert by_node["norm"]["reason"] == "batch statistics change with every batch"
    assert by_node["norm"]["remedy"] == (
        "use running statistics (track_running_stats=True, training=False)"
    )
    assert by_node["pad"]["remedy"] == "round it to one"
    assert by_node["cumsum"]["reason"] == "'cumsum' is not a chop operator"
    assert by_node["output"]["reason"].endswith("does not depend on the inputs")


def test_show_and_raise(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = {"dummy_in": INPUTS, "show": True, "raise_on_blocker": True}
    with pytest.raises(UnsupportedOpError) as caught:
        check_integerizable_analysis_pass(unannotated(), arguments)
    shown = capsys.readouterr().out
    assert shown == f"{caught.value}\n"
    assert shown.startswith("7 nodes have no integers:\n  node 'unread': input 'unread' is not ")
    assert len(shown.splitlines()) == 1 + len(EXPECTED)


def test_it_needs_example_inputs() -> None:
    with pytest.raises(PassOrderError) as caught:
        check_integerizable_analysis_pass(unannotated())
    assert str(caught.value) == (
        "pass 'check_integerizable': no example inputs yet; give dummy_in, or run "
        "add_common_metadata first"
    )
    with pytest.raises(ConfigError) as caught_config:
        check_integerizable_analysis_pass(unannotated(), {"dummy_in": {"x": 3, "unread": 4}})
    assert str(caught_config.value) == "dummy_in: input 'x' must be a torch.Tensor, got int"


@pytest.mark.parametrize("make", [chain, branches])
def test_a_float_network_that_can_be_quantised(make: Any, capsys: Any) -> None:
    found = check_integerizable_analysis_pass(make(), {"show": True}).info["check_integerizable"]
    assert found["integerizable"]
    assert found["blockers"] == []
    assert set(found["unformatted"]) >= {"fc1"} if make is chain else {"a", "b"}
    count = len(found["unformatted"])
    assert capsys.readouterr().out == (
        f"integerizable: no blocker; {count} nodes need number formats\n"
    )


def test_a_function_that_needs_a_format_of_its_own_is_no_blocker() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 2), nn.LogSoftmax(-1))
    graph = init_metadata_analysis_pass(MaseGraph(model))
    arguments = {"dummy_in": {"input": batch(4, 4)}}
    found = check_integerizable_analysis_pass(graph, arguments).info["check_integerizable"]
    assert [b["node"] for b in found["blockers"]] == ["logsoftmax_3"]
    assert found["unformatted"] == ["linear_0", "sigmoid_1", "linear_2"]


def test_a_quantised_and_a_true_network_have_no_blocker() -> None:
    fake = quantised(branches())
    for graph in (fake, fake_to_true_transform_pass(fake)):
        found = check_integerizable_analysis_pass(graph).info["check_integerizable"]
        assert found == {"integerizable": True, "blockers": [], "unformatted": []}


def test_a_layer_left_out_of_quantisation_is_a_blocker() -> None:
    graph = quantize_transform_pass(
        chain(),
        {"by": "name", "default": {"config": {"name": "NA"}}, "fc1": {"config": EIGHT_BITS}},
    )
    found = check_integerizable_analysis_pass(graph).info["check_integerizable"]
    assert [b["node"] for b in found["blockers"]] == ["fc2"]
    assert found["unformatted"] == []
    assert found["blockers"][0]["reason"] == "operator 'linear' is in floating point"


def test_a_format_without_hardware_is_a_blocker() -> None:
    rule = {
        "select": {"type": "linear"},
        "data_in": {"format": "fixed", "width": 8},
        "weight": {"format": "block_fp", "width": 6, "block_size": 3},
    }
    graph = float_to_fake_transform_pass(chain(), {"rules": [rule]})
    found = check_integerizable_analysis_pass(graph).info["check_integerizable"]
    assert [b["node"] for b in found["blockers"]] == ["fc1", "fc2"]
    assert all("has no hardware" in b["reason"] for b in found["blockers"])
    assert all(b["remedy"].startswith("use one of ") for b in found["blockers"])


def test_a_scale_per_channel_that_cannot_leave_a_sum_is_a_blocker() -> None:
    class Straight(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(6, 4), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.fc2(self.fc1(x))
            return y

    per_channel = {"format": "scaled_integer", "width": 6, "per_channel": True}
    data = {"format": "scaled_integer", "width": 8}
    rules = [
        {"select": {"name": "fc1"}, "data_in": data, "weight": per_channel},
        {"select": {"name": "fc2"}, "data_in": data, "weight": {"format": "fixed", "width": 6}},
    ]
    # No pass leaves this out: by hand.
    graph = float_to_fake_transform_pass(annotated(Straight(), batch(5, 6)), {"rules": rules})
    node = next(n for n in graph.fx_graph.nodes if n.name == "fc2_data_in")
    node.replace_all_uses_with(node.all_input_nodes[0])
    graph.fx_graph.erase_node(node)
    graph.model.recompile()
    found = check_integerizable_analysis_pass(graph).info["check_integerizable"]
    assert [b["node"] for b in found["blockers"]] == ["fc2"]
    assert found["blockers"][0]["reason"] == "a scale per channel cannot leave a sum"


def test_the_checks_and_the_conversion_agree() -> None:
    graph = init_metadata_analysis_pass(
        MaseGraph(nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(-1)))
    )
    x = {"input": batch(4, 4)}
    found = check_integerizable_analysis_pass(graph, {"dummy_in": x}).info["check_integerizable"]
    (blocker,) = found["blockers"]
    with pytest.raises(UnsupportedOpError) as caught:
        add_common_metadata_analysis_pass(graph, {"dummy_in": x})
    assert str(caught.value).endswith(f"{blocker['reason']}; {blocker['remedy']}")
