"""The table [search]: what is searched, how, for what, and what of it is measured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["MeasureConfig", "SearchConfig", "SpaceConfig", "Strategy"]

Strategy = Literal["brute_force", "random", "tpe", "gp", "nsga2", "cmaes"]
Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class SpaceConfig(_Section):
    """One part of the space: settings of one pass.

    Attributes:
        pass_name: of the list of passes, or "hardware"; by default the pass that quantises.
        select: which nodes, as rules say it ({type = "linear"}, {name = "fc1"}, {regex = "fc.*"});
            without it the seeds are arguments of the pass itself.
        each: whether every selected node has choices of its own, or one choice is for all.
        seeds: for every key (of a layer's table, or the path of an argument, "weight.sparsity") a
            list of choices, or {low, high, step} for whole numbers. A choice that is a table is
            laid over the table at the key; the key "config" is a layer's whole table, and
            replaces it.
    """

    pass_name: str | None = Field(default=None, alias="pass")
    select: dict[str, object] | None = None
    each: bool = True
    seeds: dict[str, object] = Field(min_length=1)


class MeasureConfig(_Section):
    """What tools measure.

    Attributes:
        when: on the Pareto front once the study is done, or in every trial.
        metrics: yosys_luts, yosys_ffs, yosys_dsps, yosys_brams, fmax, rtl_accuracy.
        target: of `chop list targets`, for Yosys and nextpnr.
        most: how many trials of the front, evenly along it, the best one among them.
        samples: of the test set, for rtl_accuracy; all of it by default.
    """

    when: Literal["front", "every"] = "front"
    metrics: list[str] = Field(default=["yosys_luts", "yosys_ffs", "yosys_dsps", "yosys_brams"])
    target: str = "ecp5-85k"
    most: Count = 8
    samples: Count | None = None


class SearchConfig(_Section):
    """How the space is searched.

    Attributes:
        trials: in total, over all workers and resumptions; brute force takes the whole space
            where this is None, the others 100.
        objectives: names of metrics; several make a Pareto front.
        constraints: "accuracy >= float - 1 point", "luts <= 20_000", "luts <= 60 % of baseline".
        pruner: stops trials that train badly.
        workers: processes of this machine.
        storage: None is SQLite in runs/<name>/search.db; "journal" a journal file there; else the
            path of one, or a URL of SQLAlchemy (sqlite, postgresql, mysql).
        heartbeat_seconds: how often a worker says that it lives; after six times that without a
            word it is taken for dead, and its trial is done again.
        warm_start: settings to begin with: whole names of parameters, or their last words, which
            then set all that end so ({weight_width = 8}).
        train: "none" takes the weights as they are; "fine_tune" trains every trial's quantised
            network; "full" trains every trial from the start, before it is quantised.
        epochs: of that training; None takes those of [qat] (fine_tune) or [train] (full).
        samples: of the test set (or validation set) that trials are evaluated on; all by default.
        data: which part accuracy and loss are of: the test set, or the part of the training set
            that train.validation_fraction holds out.
    """

    strategy: Strategy = "tpe"
    trials: Count | None = None
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    objectives: list[str] = Field(min_length=1)
    constraints: list[str] = []
    pruner: Literal["none", "median", "successive_halving", "hyperband"] = "none"
    workers: Count = 1
    storage: str | None = None
    heartbeat_seconds: Annotated[float, Field(gt=0)] = 10.0
    warm_start: list[dict[str, object]] = []
    train: Literal["none", "fine_tune", "full"] = "none"
    epochs: Count | None = None
    samples: Count | None = None
    data: Literal["test", "validation"] = "test"
    measure: MeasureConfig | None = None
    space: list[SpaceConfig] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> SearchConfig:
        if self.pruner != "none" and self.train == "none":
            raise ValueError(
                f"must train when pruner is '{self.pruner}', got train = 'none'; "
                "set train = 'fine_tune', or pruner = 'none'"
            )
        if self.pruner != "none" and len(self.objectives) > 1:
            raise ValueError(
                f"must have one objective when pruner is '{self.pruner}', "
                f"got {len(self.objectives)}; write the others as constraints"
            )
        if self.epochs is not None and self.train == "none":
            raise ValueError("must train when epochs are given, got train = 'none'")
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError("must have every objective once")
        return self
