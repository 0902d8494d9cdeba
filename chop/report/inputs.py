"""What the page is made from: design.json of a build folder and the JSON files of its run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from chop.errors import DataError
from chop.ir.manifest import Manifest

__all__ = [
    "Compression",
    "Inputs",
    "NumbersRow",
    "Report",
    "Simulation",
    "Study",
    "Synthesis",
    "TensorSize",
    "Training",
    "Trial",
    "read_inputs",
]


class _File(BaseModel):
    """Fields that the page has no use for are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class NumbersRow(_File):
    """A node of report_numbers; what an older file has not is None."""

    node: str
    operator: str
    format: str
    low: int
    high: int
    sqnr_db: float | None
    elements: int
    differing: int
    largest_difference: int
    requantiser: str
    proof: str
    weight: str
    weight_bits: float | None
    weight_sqnr_db: float | None
    size_bits: int
    zeros: int | None = None
    weights: int | None = None
    weight_zeros: int | None = None


class _Totals(_File):
    size_bits: int
    size_ratio: float | None
    bit_operations: int
    bit_operations_ratio: float | None
    elements: int
    differing: int


class _Numbers(_File):
    samples: int
    rows: tuple[NumbersRow, ...]
    totals: _Totals


class _Accuracy(_File):
    samples: int
    float_accuracy: float
    integer_accuracy: float


class Simulation(_File):
    """One run of the RTL."""

    samples: int
    stall_probability: float
    elements: int
    mismatches: int
    deadlock: bool
    cycles: int
    initiation_interval: float
    latency_cycles: int
    first_mismatch: str | None = None


class Synthesis(_File):
    """What Yosys and nextpnr found."""

    target: str
    device: str
    luts: int
    ffs: int
    dsps: int
    brams: int
    capacity: dict[str, int]
    fmax_mhz: float | None
    fmax_note: str
    critical_path: str | None


class _Layer(_File):
    node: str
    cycles: int
    in_lanes: int
    out_lanes: int
    out_format: str
    luts: int


class Report(_File):
    """report.json, which `chop transform` writes."""

    layers: tuple[_Layer, ...] = ()
    accuracy: _Accuracy | None = None
    numbers: _Numbers | None = None
    simulations: tuple[Simulation, ...] = ()
    synthesis: Synthesis | None = None

    def describes(self, manifest: Manifest) -> bool:
        """Whether it was made from this design, as far as its layers tell."""
        ours = tuple(_Layer(**layer.model_dump()) for layer in manifest.layers)
        return not self.layers or self.layers == ours


class Training(_File):
    """metrics.json, which a training writes."""

    epochs: int
    seconds: float
    train_accuracy: float
    test_accuracy: float


class _Constraint(_File):
    text: str
    metric: str
    sense: Literal["<=", ">="]
    bound: float


class _Parameter(_File):
    name: str
    choices: tuple[Any, ...]


class Trial(_File):
    """One trial of a study."""

    number: int
    state: str
    values: tuple[float, ...] = ()
    feasible: bool = False
    violation: float = 0.0
    parameters: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    measured: dict[str, float] = {}
    intermediate: tuple[float, ...] = ()
    user: dict[str, Any] = {}


class _Baseline(_File):
    float_metrics: dict[str, float] = {}
    metrics: dict[str, float] = {}
    measured: dict[str, float] = {}


class Study(_File):
    """search.json, which `chop search` writes."""

    name: str
    objectives: tuple[tuple[str, Literal["maximize", "minimize"]], ...]
    constraints: tuple[_Constraint, ...] = ()
    parameters: tuple[_Parameter, ...] = ()
    trials: tuple[Trial, ...]
    best: int | None = None
    pareto: tuple[int, ...] = ()
    nearest: int | None = None
    baseline: _Baseline = _Baseline()
    settings: dict[str, Any] = {}
    seconds: float = 0.0

    def trial(self, number: int) -> Trial:
        """Returns the trial of that number. Raises KeyError where there is none."""
        return {trial.number: trial for trial in self.trials}[number]


class TensorSize(_File):
    """What a tensor takes after a stage."""

    name: str
    form: str
    params: int
    kept: int
    fillers: int
    values: int
    mean_value_bits: float
    mean_position_bits: float
    codebook_bytes: int
    table_bytes: int
    bytes: int


class _Stage(_File):
    name: str
    accuracy: float
    params: int
    kept: int
    bytes: int
    ratio: float
    layers: tuple[TensorSize, ...] = ()


class Compression(_File):
    """compression.json, which `chop compress` writes."""

    file: str
    stages: tuple[_Stage, ...]


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that the page may show; what was not made is None."""

    build: Path
    run: Path
    manifest: Manifest
    report: Report | None
    training: Training | None
    study: Study | None
    compression: Compression | None


_Model = TypeVar("_Model", bound=BaseModel)


def read_inputs(build: Path, run: Path) -> Inputs:
    """Reads a build folder and the run's files, as far as there are any.

    Raises DataError for a folder that is no design, and for a file that is not what it should be.
    """
    if not build.is_dir():
        raise DataError(f"no folder '{build}'; emit a design with 'chop emit', or name its folder")
    return Inputs(
        build=build,
        run=run,
        manifest=Manifest.load(build),
        report=_read(run / "report.json", Report),
        training=_read(run / "metrics.json", Training),
        study=_read(run / "search.json", Study),
        compression=_read(run / "compression.json", Compression),
    )


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' cannot be read: {error}; remove it or make it anew") from error


def _read(path: Path, model: type[_Model]) -> _Model | None:
    text = _text(path)
    if text is None:
        return None
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        (first, *_) = error.errors()
        where = ".".join(map(str, first["loc"]))
        place = f" at '{where}'" if where else ""
        raise DataError(
            f"'{path}' is malformed{place}: {first['msg']}; remove it or make it anew"
        ) from error
