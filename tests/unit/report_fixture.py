"""A small design with a residual, its run's files, and the tree of a page."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import torch
from torch import nn

import chop
from chop.flows.report import Accuracy, JobReport, SimulationSummary
from chop.flows.transform import report_to_json
from chop.passes.registry import resolve

_VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}


class Residual(nn.Module):
    """Two branches of different length: the join needs a queue."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = torch.relu(self.fc1(x))
        found: torch.Tensor = self.fc3(torch.relu(self.fc2(first)) + first)
        return found


def make_design(place: Path) -> Path:
    """Emits build/residual in `place`, with runs/residual/report.json, and returns the build."""
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    build = place / "build/residual"
    accelerator = chop.compile(
        Residual(),
        x[:1],
        config={"name": "residual", "hardware": {"target_initiation_interval": 16}},
        calibration_inputs=x,
        out_dir=build,
    )
    assert accelerator.fake_graph is not None
    graph = resolve("report_numbers")(accelerator.fake_graph, {"data": {"x": x}})
    m = accelerator.manifest
    runs = tuple(
        SimulationSummary(
            64, p, 256, 0, False, 1100, 16.0, m.predicted_latency_cycles, 1.0, None, ()
        )
        for p in (0.0, 0.3)
    )
    report = JobReport(
        name=m.name,
        directory=str(build),
        layers=m.layers,
        multipliers=m.multipliers,
        ideal_initiation_interval=m.ideal_initiation_interval,
        predicted_initiation_interval=m.predicted_initiation_interval,
        predicted_latency_cycles=m.predicted_latency_cycles,
        accuracy=Accuracy(64, 0.953125, 0.9375),
        numbers=graph.info["report_numbers"],
        simulations=runs,
        synthesis=None,
    )
    run = place / "runs" / m.name
    run.mkdir(parents=True)
    (run / "report.json").write_text(report_to_json(report))
    return build


def make_study(objectives: int = 2, feasible: bool = True) -> dict[str, Any]:
    """Returns a study like one of `chop search`, with names that would break careless HTML."""
    rng = random.Random(0)
    choices = [2, 4, 8]
    trials = []
    for number in range(40):
        parameters = {f"fc{i}.<width>": rng.choice(choices) for i in (1, 2)}
        bits = sum(parameters.values())
        accuracy = 0.7 + 0.03 * parameters["fc1.<width>"] + rng.uniform(-0.005, 0.005)
        luts = 100.0 * bits
        done = number % 13 != 12
        kept = feasible and accuracy > 0.8
        trials.append(
            {
                "number": number,
                "state": "complete" if done else "refused",
                "values": [luts, accuracy][:objectives] if done else [],
                "feasible": done and kept,
                "violation": 0.0 if kept else 0.1,
                "parameters": parameters,
                "metrics": {"luts": luts, "accuracy": accuracy} if done else {},
                "measured": {"luts": luts + 7} if number == 3 else {},
                "intermediate": [],
                "seconds": 1.0,
                "user": {} if done else {"reason": "</script><b>no"},
            }
        )
    best = next((t["number"] for t in trials if t["feasible"]), None)
    return {
        "name": "study & <more>",
        "objectives": [["luts", "minimize"], ["accuracy", "maximize"]][:objectives],
        "constraints": [
            {"text": "accuracy >= 80 %", "metric": "accuracy", "sense": ">=", "bound": 0.8}
        ],
        "parameters": [{"name": f"fc{i}.<width>", "choices": choices} for i in (1, 2)],
        "trials": trials,
        "best": best,
        "pareto": [] if best is None else [best],
        "nearest": None if feasible else 0,
        "baseline": {"float_metrics": {"accuracy": 0.95}, "metrics": {}, "measured": {}},
        "settings": {"strategy": "tpe", "seed": 0},
        "seconds": 40.0,
        "version": 1,
    }


def write_study(build: Path, **arguments: Any) -> Path:
    """Writes runs/<name>/search.json beside a build folder."""
    path = build.parent.parent / "runs" / build.name / "search.json"
    path.write_text(json.dumps(make_study(**arguments)))
    return path


def make_compression() -> dict[str, Any]:
    """Returns a compression like one of `chop compress`."""

    def stage(name: str, kept: int, octets: int, accuracy: float) -> dict[str, Any]:
        tensor = {
            "name": "fc1.weight",
            "form": "coded",
            "params": 1000,
            "kept": kept,
            "position_bits": 4,
            "fillers": 3,
            "values": 16,
            "value_bits": 4,
            "mean_value_bits": 3.25,
            "mean_position_bits": 2.5,
            "codebook_bytes": 64,
            "table_bytes": 10,
            "bytes": octets,
        }
        return {
            "name": name,
            "kind": name,
            "accuracy": accuracy,
            "params": 1000,
            "kept": kept,
            "bytes": octets,
            "ratio": 4000 / octets,
            "weight_ratio": 1000 / kept,
            "layers": [tensor],
        }

    stages = [stage("float", 1000, 4000, 0.95), stage("prune", 100, 500, 0.94)]
    stages.append(stage("code", 100, 125, 0.945))
    return {"version": 1, "name": "residual", "file": "runs/residual/x.chz", "stages": stages}


@dataclass
class Element:
    """One element of a page."""

    tag: str
    attributes: dict[str, str | None]
    parent: Element | None
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def all(self) -> list[Element]:
        """Returns this element and all below it, in the order of the page."""
        return [self, *(e for child in self.children for e in child.all())]

    def shown(self) -> str:
        """Returns all text in it."""
        return self.text + "".join(child.shown() for child in self.children)


class _Tree(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = self.at = Element("#root", {}, None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs), self.at)
        assert len(attrs) == len(element.attributes), f"<{tag}> has an attribute twice"
        self.at.children.append(element)
        if tag not in _VOID:
            self.at = element

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.at.children.append(Element(tag, dict(attrs), self.at))

    def handle_endtag(self, tag: str) -> None:
        assert self.at.tag == tag, f"</{tag}> closes <{self.at.tag}>"
        assert self.at.parent is not None
        self.at = self.at.parent

    def handle_data(self, data: str) -> None:
        self.at.text += data


def parse(text: str) -> Element:
    """Returns the tree of a page; every element must be closed, and in the right order."""
    tree = _Tree()
    tree.feed(text)
    tree.close()
    assert tree.at is tree.root, f"<{tree.at.tag}> is never closed"
    return tree.root
