"""Strategies: which settings come next. One seed, one result, also of a study that was resumed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from chop.config.search import SearchConfig
from chop.errors import ConfigError
from chop.search.metrics import find_metric
from chop.search.result import Direction
from chop.search.space import Space
from chop.search.tickets import Ledger

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial, TrialState

__all__ = [
    "check_strategy",
    "directions_of",
    "make_pruner",
    "make_sampler",
    "strategy_sampler",
    "total_trials",
]

DEFAULT_TRIALS = 100
# The same for every number of trials: a study that goes on draws what a longer one would have.
_STARTUP_TRIALS = 10
_POPULATION = 20


def total_trials(search: SearchConfig, space: Space) -> int:
    """Returns how many trials the study has in all."""
    if search.strategy == "brute_force":
        return min(space.size, search.trials or space.size)
    return search.trials or DEFAULT_TRIALS


def check_strategy(search: SearchConfig, space: Space) -> None:
    """Raises ConfigError where the strategy cannot search such a space."""
    if search.strategy == "cmaes":
        if len(search.objectives) > 1:
            raise ConfigError(
                f"search.strategy = 'cmaes' has one objective, got {len(search.objectives)}; "
                "use nsga2, tpe or gp, or write the others as constraints"
            )
        for parameter in space.parameters:
            if not parameter.ordinal:
                raise ConfigError(
                    f"search.strategy = 'cmaes' needs numbers, and parameter '{parameter.name}' "
                    "has choices without an order; use tpe, gp, nsga2, random or brute_force"
                )
    if search.strategy == "brute_force" and search.warm_start:
        raise ConfigError(
            "search.strategy = 'brute_force' visits every setting; leave warm_start out"
        )
    if search.strategy == "brute_force" and search.trials and search.trials < space.size:
        raise ConfigError(
            f"search.strategy = 'brute_force' visits all {space.size} settings, more than "
            f"search.trials = {search.trials}; leave trials out, or use tpe"
        )


def make_sampler(search: SearchConfig, space: Space) -> BaseSampler:
    """Returns the sampler of a study: for every trial the strategy's own, seeded by its ticket."""
    from optuna.samplers import BaseSampler as Base

    class Ticketed(Base):
        """Makes the strategy's sampler for each trial, once it is known which ticket it holds."""

        def __init__(self) -> None:
            self._inner: Base = strategy_sampler(search, 0)
            self._settings: Mapping[str, Any] | None = None

        def before_trial(self, study: Study, trial: FrozenTrial) -> None:
            ticket = Ledger.of(study.get_trials(deepcopy=False)).tickets[trial.number]
            self._inner = strategy_sampler(search, ticket)
            self._settings = None
            if search.strategy == "brute_force":
                self._settings = space.nth(ticket % space.size)
            self._inner.before_trial(study, trial)

        def infer_relative_search_space(
            self, study: Study, trial: FrozenTrial
        ) -> dict[str, BaseDistribution]:
            return self._inner.infer_relative_search_space(study, trial)

        def sample_relative(
            self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
        ) -> dict[str, Any]:
            return self._inner.sample_relative(study, trial, search_space)

        def sample_independent(
            self,
            study: Study,
            trial: FrozenTrial,
            param_name: str,
            param_distribution: BaseDistribution,
        ) -> Any:
            if self._settings is not None:
                (parameter,) = (p for p in space.parameters if p.name == param_name)
                return parameter.stored(self._settings[param_name])
            return self._inner.sample_independent(study, trial, param_name, param_distribution)

        def after_trial(
            self,
            study: Study,
            trial: FrozenTrial,
            state: TrialState,
            values: Sequence[float] | None,
        ) -> None:
            self._inner.after_trial(study, trial, state, values)

    return Ticketed()


def strategy_sampler(search: SearchConfig, ticket: int) -> BaseSampler:
    """Returns Optuna's sampler for one trial.

    What a sampler learns is in the storage. Each trial's has a seed of its own, so that a study
    that was stopped and resumed draws what it would have drawn. Brute force needs none.
    """
    from optuna import samplers

    words = np.random.SeedSequence((search.seed, ticket)).generate_state(1)
    seed = int(words[0])
    makers: Mapping[str, Callable[[], Any]] = {
        "brute_force": lambda: samplers.RandomSampler(seed),
        "random": lambda: samplers.RandomSampler(seed),
        "tpe": lambda: samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP_TRIALS),
        "gp": lambda: samplers.GPSampler(
            seed=seed,
            n_startup_trials=_STARTUP_TRIALS,
            deterministic_objective=True,
            warn_independent_sampling=False,
        ),
        "nsga2": lambda: samplers.NSGAIISampler(seed=seed, population_size=_POPULATION),
        "cmaes": lambda: samplers.CmaEsSampler(
            # Its generator starts anew with every trial; the number of one is part of its seed.
            seed=seed,
            n_startup_trials=_STARTUP_TRIALS,
            with_margin=True,
            warn_independent_sampling=False,
        ),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler: BaseSampler = makers[search.strategy]()
    return sampler


def make_pruner(search: SearchConfig, epochs: int) -> BasePruner:
    """Returns the pruner; it sees one accuracy after each of the epochs."""
    from optuna import pruners

    match search.pruner:
        case "median":
            return pruners.MedianPruner(n_startup_trials=4)
        case "successive_halving":
            return pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
        case "hyperband":
            return pruners.HyperbandPruner(1, max(epochs, 1), reduction_factor=2)
    return pruners.NopPruner()


def directions_of(search: SearchConfig) -> tuple[Direction, ...]:
    """Returns which way is better, objective by objective."""
    return tuple(find_metric(name, "search.objectives").direction for name in search.objectives)
