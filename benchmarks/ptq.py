"""Post-training quantisation: test accuracy of the integer reference, without any retraining.

The digits perceptron (64-32-32-10), or with --mnist the MNIST one (784-256-256-10, from the folder
CHOP_DATA_DIR): float models trained as their configurations in configs/ say, with three seeds, then
weights and data in 8 and in 4 bits by every calibration and every pass that improves on it. Ends
with status 1 where the recipe of the configurations (fixed point, mse) in 8 bits is more than 0.3
points below float with any seed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from chop.cli.render import print_table
from chop.config.load import load_config
from chop.flows.job import Job, accuracy, hit_rate, load_job
from chop.flows.progress import SilentProgress
from chop.flows.train import train_model
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.ops.annotate import run_in_integers
from chop.passes.contract import accepts
from chop.passes.registry import resolve

_ROOT = Path(__file__).parents[1]
_WIDTHS = (8, 4)
# The most that 8 bits may cost, in points.
_MOST_LOST = 0.3

Pass = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A row: the format of weights and data, how it is calibrated, and passes around quantize."""

    name: str
    format: str = "scaled_integer"
    method: str = "mse"
    per_channel: bool = False
    before: tuple[Pass, ...] = ()
    after: tuple[Pass, ...] = field(default=())

    def passes(self, width: int) -> tuple[Pass, ...]:
        config: dict[str, Any] = {
            "name": self.format,
            "data_in_width": width,
            "weight_width": width,
        }
        if self.per_channel:
            config["weight_per_channel"] = True
        quantize = {"method": self.method, "default": {"config": config}}
        return (*self.before, ("quantize", quantize), *self.after)


_EQUALIZE: tuple[Pass, ...] = (("equalize", {}),)
_CORRECT: tuple[Pass, ...] = (("correct_bias", {}),)
_LEARN: tuple[Pass, ...] = (("learn_rounding", {}),)

RECIPES = (
    Recipe("fixed point, mse", "integer"),
    *(Recipe(f"scaled, {method}", method=method) for method in ("max", "percentile", "mse", "kl")),
    Recipe("scaled, mse, + equalisation", before=_EQUALIZE),
    Recipe("scaled, mse, + bias correction", after=_CORRECT),
    Recipe("scaled, mse, + learned rounding", after=_LEARN),
    Recipe("scaled, mse, + all three", before=_EQUALIZE, after=(*_LEARN, *_CORRECT)),
    Recipe("per channel, mse", per_channel=True),
    Recipe("per channel, mse, + bias correction", per_channel=True, after=_CORRECT),
    Recipe("per channel, mse, + both", per_channel=True, after=(*_LEARN, *_CORRECT)),
)


def main() -> int:
    """Prints the table; returns 1 when 8 bits cost too much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", action="store_true", help="the MNIST perceptron instead")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    name = "mnist_mlp" if arguments.mnist else "digits_mlp"
    jobs = [_trained(name, seed) for seed in range(arguments.seeds)]
    floats = [_float_accuracy(job) for job in jobs]
    rows: list[tuple[str, ...]] = [("float", *_cells(floats, floats), *_cells(floats, floats), "")]
    lost = {}
    for recipe in RECIPES:
        start = time.perf_counter()
        found = [[_integer_accuracy(job, recipe, width) for job in jobs] for width in _WIDTHS]
        lost[recipe.name] = _lost(found[0], floats)
        cells = [cell for scores in found for cell in _cells(scores, floats)]
        rows.append((recipe.name, *cells, f"{time.perf_counter() - start:.1f}"))
    columns = [f"{width} bits: {what}" for width in _WIDTHS for what in ("mean", "worst", "lost")]
    headers = ["recipe", *columns, "s"]
    title = f"{name}: test accuracy in % over {len(jobs)} seeds (lost: the most of any seed)"
    print_table(title, headers, rows, headers[1:])
    first = RECIPES[0].name
    print(f"8 bits, {first}: {lost[first]:.2f} points below float at worst ({_MOST_LOST} allowed)")
    return 0 if lost[first] <= _MOST_LOST else 1


def _lost(scores: Sequence[float], floats: Sequence[float]) -> float:
    """Returns the most that any seed loses, in points."""
    return max(b - a for a, b in zip(scores, floats, strict=True))


def _cells(scores: Sequence[float], floats: Sequence[float]) -> tuple[str, str, str]:
    mean = sum(scores) / len(scores)
    return f"{mean:.2f}", f"{min(scores):.2f}", f"{_lost(scores, floats):.2f}"


def _trained(name: str, seed: int) -> Job:
    """Returns the job of a configuration with weights trained from a seed."""
    config = load_config(_ROOT / "configs" / f"{name}.toml").model_copy(update={"seed": seed})
    job = load_job(config, SilentProgress())
    assert config.train is not None
    assert config.dataset is not None
    assert job.dataset is not None
    with tempfile.TemporaryDirectory() as scratch:
        train_model(
            job.model,
            job.dataset,
            config.train,
            batch_size=config.dataset.batch_size,
            seed=seed,
            directory=Path(scratch),
            resume=False,
            progress=SilentProgress(),
        )
    return job


def _float_accuracy(job: Job) -> float:
    assert job.labels is not None
    return 100 * accuracy(job.model, job.test, job.labels)


def _integer_accuracy(job: Job, recipe: Recipe, width: int) -> float:
    """Returns the accuracy of the integer reference on the test samples, in %."""
    assert job.labels is not None
    graph = resolve("init_metadata")(MaseGraph(job.model))
    (name,) = graph.placeholders
    calibration = {name: job.calibration[0]}
    graph = resolve("add_common_metadata")(graph, {"dummy_in": {name: job.calibration[0][:2]}})
    for step, given in recipe.passes(width):
        run = resolve(step)
        data = {"calibration": calibration} if accepts(run, "calibration") else {}
        graph = run(graph, {**data, **given})
    (result,) = (n.all_input_nodes[0] for n in graph.fx_graph.nodes if n.op == "output")
    integers = run_in_integers(graph, {name: job.test[0].double().numpy()})[result.name]
    type = common_of(result).output
    scores = type.fixed.from_integers(integers)
    scores = scores if type.scale is None else scores * type.scale.floats()
    return 100 * hit_rate(torch.from_numpy(scores), job.labels)


if __name__ == "__main__":
    sys.exit(main())
