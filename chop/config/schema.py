"""What a configuration may say. Values are checked when made; an unknown key is an error."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
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
    """The device that the emitted RTL is synthesised for."""

    target: str = "ecp5-85k"
    place_and_route: bool = True


class Config(_Section):
    """A whole job. `passes` is None when the compiler's default road is meant.

    `qat` trains the network once more after the last pass that quantises it.
    """

    name: Name = "design"
    seed: Seed = 0
    model: ModelConfig | None = None
    dataset: DatasetConfig | None = None
    train: TrainConfig | None = None
    qat: TrainConfig | None = None
    passes: tuple[PassCall, ...] | None = None
    hardware: dict[str, object] = {}
    simulate: SimulateConfig = SimulateConfig()
    synthesize: SynthesizeConfig | None = None

    def compiler_config(self) -> dict[str, object]:
        """Returns the part that `chop.compile` reads: name, passes and hardware."""
        result: dict[str, object] = {"name": self.name, "hardware": dict(self.hardware)}
        if self.passes is not None:
            result["passes"] = [{"name": call.name, **call.arguments} for call in self.passes]
        return result
