"""`make bench-accuracy`: what quantisation costs in accuracy, seed by seed, as integers.

Every accuracy but the float one is that of the integer network, on all test samples. Recipes are
the shipped configurations; MNIST takes part where CHOP_DATA_DIR has it or it can be downloaded.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from chop.cli.progress import make_progress
from chop.cli.render import print_table
from chop.config.load import load_config
from chop.config.schema import Config, PassCall
from chop.errors import ChopError
from chop.flows.evaluate import measure_accuracy
from chop.flows.job import Job, accuracy, load_job
from chop.flows.prepare import compile_job
from chop.flows.weights import train_job
from chop.nn.quantizers.registry import ALGORITHMS

_CONFIGS = Path(__file__).parents[1] / "configs"
_SEEDS = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A configuration, and the points of accuracy that it may lose on the mean of the seeds."""

    label: str
    config: str
    allowed: float


RECIPES = (
    Recipe("PTQ, 8 bits", "mlp", 0.3),
    Recipe("QAT, 4 bits", "4bit", 0.5),
    Recipe("QAT, 2 bits", "2bit", 2.0),
    Recipe("QAT, ternary weights", "ternary", 1.5),
)


def main() -> int:
    """Prints the tables; returns 1 when a recipe loses more than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=["digits", "mnist"])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(_SEEDS))
    parser.add_argument("--no-algorithms", action="store_true", help="only the recipes")
    arguments = parser.parse_args()
    sound = True
    # Trainings are kept in runs/ of a folder of their own.
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        for data in arguments.data:
            jobs = [_trained(f"{data}_mlp", seed) for seed in arguments.seeds]
            floats = [_float_accuracy(job) for job in jobs]
            rows = [_row("float", floats, floats, None)]
            for recipe in RECIPES:
                config = load_config(_CONFIGS / f"{data}_{recipe.config}.toml")
                found = [_integer_accuracy(job, config) for job in jobs]
                rows.append(_row(recipe.label, found, floats, recipe.allowed))
                sound = sound and _lost(found, floats) <= recipe.allowed
            if not arguments.no_algorithms:
                rows += _algorithms(data, jobs, floats)
            headers = (
                "recipe",
                *(f"seed {s}" for s in arguments.seeds),
                "mean",
                "lost",
                "may lose",
            )
            print_table(f"{data}: accuracy of the integer network, %", headers, rows, headers[1:])
    return 0 if sound else 1


def _trained(config: str, seed: int) -> Job:
    """Returns the float network of a configuration, trained with the seed."""
    parsed = load_config(_CONFIGS / f"{config}.toml")
    job = load_job(
        parsed.model_copy(update={"seed": seed, "name": f"{config}_{seed}"}), make_progress(True)
    )
    train_job(job, make_progress(True))
    return job


def _float_accuracy(job: Job) -> float:
    assert job.labels is not None
    return accuracy(job.model, job.test, job.labels)


def _integer_accuracy(job: Job, config: Config) -> float:
    """Returns the accuracy of the job's weights after the configuration's passes and [qat]."""
    name = f"{config.name}_{job.config.seed}"
    merged = job.config.model_copy(
        update={"passes": config.passes, "qat": config.qat, "name": name}
    )
    other = replace(job, config=merged, model=copy.deepcopy(job.model))
    with tempfile.TemporaryDirectory() as scratch:
        accelerator = compile_job(other, Path(scratch) / "design", make_progress(True))
        measured = measure_accuracy(other, accelerator, make_progress(True))
    assert measured is not None
    return measured.integer_accuracy


def _algorithms(data: str, jobs: Sequence[Job], floats: Sequence[float]) -> list[tuple[str, ...]]:
    """Returns a row per training algorithm, at the format that it is made for."""
    base = load_config(_CONFIGS / f"{data}_4bit.toml")
    rows = []
    for name in ALGORITHMS:
        for label, weight, data_in in _TABLE.get(name, ()):
            config = _with_rule(base, {**weight}, {**data_in})
            config = config.model_copy(update={"name": f"{data}_{name}_{label}".replace(" ", "_")})
            try:
                found = [_integer_accuracy(job, config) for job in jobs]
            except ChopError as error:
                raise SystemExit(f"{name}: {error}") from error
            rows.append(_row(f"{name}: {label}", found, floats, None))
    return rows


_LSQ4 = {"format": "scaled_integer", "width": 4, "algorithm": "lsq"}
_EIGHT = {"format": "integer", "width": 8}
_TABLE: Mapping[str, tuple[tuple[str, Mapping[str, Any], Mapping[str, Any]], ...]] = {
    "ste": (("4 bits", {"format": "integer", "width": 4}, {"format": "integer", "width": 4}),),
    "pact": (("4-bit data", _LSQ4, {**_LSQ4, "algorithm": "pact"}),),
    "sawb": (("4-bit weights", {**_LSQ4, "algorithm": "sawb"}, _LSQ4),),
    "lsq": (("4 bits", _LSQ4, _LSQ4),),
    "tqt": (
        (
            "4 bits",
            {"format": "integer", "width": 4, "algorithm": "tqt"},
            {"format": "integer", "width": 4, "algorithm": "tqt"},
        ),
    ),
    "inq": (("5-bit powers of two", {"format": "log", "width": 5, "algorithm": "inq"}, _EIGHT),),
    "rpr": (("ternary weights", {"format": "ternary", "algorithm": "rpr"}, _EIGHT),),
    "ana": (("ternary weights", {"format": "ternary", "algorithm": "ana"}, _EIGHT),),
}


def _with_rule(config: Config, weight: Mapping[str, Any], data_in: Mapping[str, Any]) -> Config:
    rule = {"select": {"type": "linear"}, "weight": dict(weight), "data_in": dict(data_in)}
    call = PassCall(name="float_to_fake", arguments={"rules": [rule]})
    return config.model_copy(update={"passes": (call,)})


def _lost(found: Sequence[float], floats: Sequence[float]) -> float:
    """Returns the points lost on the mean."""
    return 100 * (statistics.mean(floats) - statistics.mean(found))


def _row(
    label: str, found: Sequence[float], floats: Sequence[float], allowed: float | None
) -> tuple[str, ...]:
    mean = statistics.mean(found)
    may = "" if allowed is None else f"{allowed:.1f}"
    cells = (f"{100 * value:.2f}" for value in found)
    return (label, *cells, f"{100 * mean:.2f}", f"{_lost(found, floats):+.2f}", may)


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(main())
