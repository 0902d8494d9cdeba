"""What a configuration may say. Values are checked when made; an unknown key is an error."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from chop.config.search import SearchConfig

__all__ = [
    "CompressConfig",
    "CompressStage",
    "Config",
    "DatasetConfig",
    "ModelConfig",
    "PassCall",
    "SimulateConfig",
    "SynthesizeConfig",
    "TrainConfig",
]

# Names a folder under build/ and runs/.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
# What every generator here takes, those in the RTL test bench included.
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Probability = Annotated[float, Field(ge=0, lt=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ModelConfig(_Section):
    """Where the model comes from: a registered name, "file.py:function" or a saved graph.

    `inputs` is the shape of one sample of every input, for a job without a data set.
    """

    name: str | None = None
    path: str | None = None
    graph: str | None = None
    arguments: dict[str, object] = {}
    inputs: list[list[Count]] = []

    @model_validator(mode="after")
    def _one_source(self) -> ModelConfig:
        given = [key for key in ("name", "path", "graph") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(
                "must have exactly one of name, path and graph, "
                f"got {' and '.join(given) if given else 'none'}"
            )
        return self


class DatasetConfig(_Section):
    """Which data, and how much of it training and calibration see at a time."""

    name: str
    batch_size: Count = 64
    calibration_samples: Count = 1024


class TrainConfig(_Section):
    """How the weights are found.

    Attributes:
        warmup_epochs: in which the learning rate rises linearly.
        gradient_clip: the largest norm of all gradients together; 0 does not clip.
        patience: epochs without a better one that end the training; 0 never does.
        checkpoint_every_steps: writes one in mid-epoch, too; 0 only at the end of epochs.
    """

    epochs: Count = 10
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_epochs: NonNegative = 0
    gradient_clip: Annotated[float, Field(ge=0)] = 0.0
    validation_fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    patience: NonNegative = 0
    checkpoint_every_steps: NonNegative = 0

    @model_validator(mode="after")
    def _patience_has_data(self) -> TrainConfig:
        if self.patience and not self.validation_fraction:
            raise ValueError(
                f"must have validation_fraction above 0 when patience is {self.patience}, got 0.0"
            )
        return self


class CompressStage(_Section):
    """One step of a compression: what happens to the weights, and the training around it.

    Attributes:
        kind: "prune" removes weights, "surgery" lets them come back, "share" gives them few values.
        arguments: those of the pass "prune" (prune, surgery) or "share_weights" (share).
        rounds: how often the masks change in the training, evenly from `begin` to `end`, shares of
            it; `schedule` says how sparse it is after a share of the rounds.
        margin: of a surgery: a weight returns above (1 + margin) times what it went below.
        train: the training; without it weights are removed or shared at once.
    """

    kind: Literal["prune", "surgery", "share"]
    arguments: dict[str, object] = {}
    rounds: Count = 1
    begin: Annotated[float, Field(ge=0, le=1)] = 0.0
    end: Annotated[float, Field(ge=0, le=1)] = 0.5
    schedule: Literal["cubic", "linear", "constant"] = "cubic"
    margin: Annotated[float, Field(ge=0)] = 0.1
    train: TrainConfig | None = None

    @model_validator(mode="after")
    def _fits(self) -> CompressStage:
        if self.train is None and self.kind == "surgery":
            raise ValueError("must have a table train: a surgery happens in a training")
        if self.train is not None and self.train.validation_fraction:
            raise ValueError(
                "must have train.validation_fraction 0, for the last weights are kept, "
                f"got {self.train.validation_fraction}"
            )
        if self.begin > self.end:
            raise ValueError(f"must have begin <= end, got {self.begin} and {self.end}")
        if self.train is None and self.rounds > 1:
            raise ValueError(f"must have a table train for rounds = {self.rounds}")
        return self


class CompressConfig(_Section):
    """The stages of `chop compress`, one after the other, and how their result is coded.

    `position_bits` are those of a distance between weights; without it every tensor gets those that
    suit it.
    """

    stages: list[CompressStage] = []
    position_bits: Annotated[int, Field(ge=0, le=8)] | None = None


class PassCall(_Section):
    """One pass of the list; its arguments are parsed by the pass itself."""

    name: str
    arguments: dict[str, object] = {}


class SimulateConfig(_Section):
    """What the emitted RTL is run on; `samples` of the test set, all of it by default."""

    samples: Count | None = None
    stall_probability: Probability = 0.3
    seed: Seed = 0
    check_streams: bool = False


class SynthesizeConfig(_Section):
    """The device that the emitted RTL is synthesised for.

    `placements` are tried, each from a seed of its own; the fastest one counts.
    """

    target: str = "ecp5-85k"
    place_and_route: bool = True
    placements: Count = 1


class Config(_Section):
    """A whole job. `passes` is None when the compiler's default road is meant.

    `retrain` trains the network before the first pass that quantises it, after those that reshape
    or prune it; `qat` trains it after the last pass that quantises it. `search` is read by
    `chop search` alone. `compress` makes the weights sparse and shared before all passes.
    """

    name: Name = "design"
    seed: Seed = 0
    model: ModelConfig | None = None
    dataset: DatasetConfig | None = None
    train: TrainConfig | None = None
    retrain: TrainConfig | None = None
    qat: TrainConfig | None = None
    passes: tuple[PassCall, ...] | None = None
    hardware: dict[str, object] = {}
    simulate: SimulateConfig = SimulateConfig()
    synthesize: SynthesizeConfig | None = None
    search: SearchConfig | None = None
    compress: CompressConfig | None = None

    def compiler_config(self) -> dict[str, object]:
        """Returns the part that `chop.compile` reads: name, passes and hardware."""
        result: dict[str, object] = {"name": self.name, "hardware": dict(self.hardware)}
        if self.passes is not None:
            result["passes"] = [{"name": call.name, **call.arguments} for call in self.passes]
        return result
