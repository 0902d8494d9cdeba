"""What the strategies are worth: on a planted optimum, at equal trials, and against brute force.

    .venv/bin/python benchmarks/search.py [--seeds 20] [--trials 60]

The space is that of mixed precision: eight layers of six widths each, 1,679,616 settings. A setting
drawn for the seed is the optimum; the loss of any other is the sum, over the layers, of a weight of
the layer times the distance of its width, with a term that couples neighbours. A second space of
4^4 settings is small enough for brute force, which must find the true best. Studies run through the
same samplers and tickets as `chop search`, with a function in place of the compiler.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna

from chop.config.search import SearchConfig, Strategy
from chop.search.samplers import make_sampler, total_trials
from chop.search.space import Parameter, Space
from chop.search.storage import quiet_optuna
from chop.search.tickets import Claims

STRATEGIES: tuple[Strategy, ...] = ("random", "tpe", "gp", "nsga2", "cmaes")
WIDTHS = (2, 3, 4, 5, 6, 8)


@dataclass(frozen=True, slots=True)
class Planted:
    """A loss over the widths of some layers, 0 at `optimum` and above it elsewhere."""

    optimum: tuple[int, ...]
    weights: tuple[float, ...]
    coupling: float

    @staticmethod
    def drawn(seed: int, layers: int, widths: Sequence[int]) -> Planted:
        rng = random.Random(seed)
        optimum = tuple(rng.choice(widths) for _ in range(layers))
        return Planted(optimum, tuple(rng.uniform(0.2, 2.0) for _ in range(layers)), 0.3)

    def loss(self, setting: Sequence[int]) -> float:
        off = [width - best for width, best in zip(setting, self.optimum, strict=True)]
        own = sum(w * abs(d) for w, d in zip(self.weights, off, strict=True))
        coupled = sum((a - b) ** 2 for a, b in itertools.pairwise(off))
        return own + self.coupling * coupled


def space_of(layers: int, widths: Sequence[int]) -> Space:
    """Returns the space of a width for each layer."""
    return Space(
        tuple(
            Parameter(
                f"fc{i}.weight_width", "quantize", (f"fc{i}",), "weight_width", (*widths,), True, 0
            )
            for i in range(layers)
        )
    )


def run_study(
    strategy: Strategy, space: Space, planted: Planted, seed: int, trials: int | None
) -> list[float]:
    """Returns the losses of a study's trials, in their order."""
    table = {"select": {"type": "linear"}, "seeds": {"weight_width": [2]}}
    search = SearchConfig.model_validate(
        {
            "strategy": strategy,
            "trials": trials,
            "seed": seed,
            "objectives": ["loss"],
            "space": [table],
        }
    )
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(
        storage=storage, sampler=make_sampler(search, space), direction="minimize"
    )
    claims = Claims(study, storage, total_trials(search, space), 10.0)
    losses = []
    while (taken := claims.take()) is not None:
        trial, _ = taken
        setting = [
            parameter.choice(trial.suggest_int(parameter.name, 0, len(parameter.choices) - 1))
            for parameter in space.parameters
        ]
        losses.append(planted.loss(setting))
        study.tell(trial.number, losses[-1])
    return losses


def compare(seeds: int, trials: int, layers: int) -> Mapping[Strategy, list[float]]:
    """Returns the best loss of every strategy and seed, each at so many trials."""
    space = space_of(layers, WIDTHS)
    found: dict[Strategy, list[float]] = {}
    for strategy in STRATEGIES:
        started = time.monotonic()
        found[strategy] = [
            min(run_study(strategy, space, Planted.drawn(seed, layers, WIDTHS), seed, trials))
            for seed in range(seeds)
        ]
        pairs = zip(found[strategy], found["random"], strict=True)
        wins = sum(ours < theirs for ours, theirs in pairs)
        seconds = time.monotonic() - started
        middle, mean = statistics.median(found[strategy]), statistics.mean(found[strategy])
        print(
            f"{strategy:8s} best loss after {trials} trials: median {middle:6.2f}, "
            f"mean {mean:6.2f}; better than random in {wins:2d} of {seeds}; {seconds:.0f} s",
            flush=True,
        )
    return found


def brute_force(seeds: int) -> None:
    """Prints in how many studies brute force found the planted optimum."""
    widths, layers = (2, 4, 6, 8), 4
    space = space_of(layers, widths)
    hits = 0
    for seed in range(seeds):
        planted = Planted.drawn(seed, layers, widths)
        losses = run_study("brute_force", space, planted, seed, None)
        assert len(losses) == space.size
        hits += min(losses) == 0.0
    print(f"brute_force: the optimum of {space.size} settings found in {hits} of {seeds} studies")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--layers", type=int, default=8)
    given = parser.parse_args()
    quiet_optuna()
    compare(given.seeds, given.trials, given.layers)
    brute_force(min(given.seeds, 5))


if __name__ == "__main__":
    main()
