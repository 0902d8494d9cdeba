"""From a model to an accelerator: the road of `chop.compile`."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from chop.config.load import load_config
from chop.config.schema import Config
from chop.errors import ConfigError, ShapeError
from chop.flows.captured import check_captured
from chop.formats.rounding import Floats, Ints
from chop.integer.modules import holds_integers
from chop.ir.graph import MaseGraph
from chop.ir.manifest import Manifest, StreamEntry
from chop.ir.serialize import load_graph, save_graph
from chop.ir.stream import tensor_order
from chop.ir.words import stream_words
from chop.ops.annotate import run_in_integers
from chop.passes.contract import accepts
from chop.passes.registry import resolve

if TYPE_CHECKING:
    from torch import nn

    from chop.sim.simulate import Mismatch
    from chop.synth.synthesize import SynthesisReport

__all__ = [
    "DEFAULT_PASSES",
    "QUANTISING",
    "Accelerator",
    "FineTune",
    "Simulation",
    "compile",
    "compile_trained",
    "emit_graph",
    "open_graph",
    "road_of",
    "run_road",
]

Inputs = torch.Tensor | Sequence[torch.Tensor]

GRAPH_FILE = "graph.pt"
FineTune = Callable[[MaseGraph], MaseGraph]
QUANTISING = ("quantize", "float_to_fake")
_EMIT_PASSES = ("emit_verilog_top", "emit_internal_rtl", "emit_bram", "emit_verilog_tb")
# What is run without [passes]: 8-bit fixed point, fractions chosen from the calibration data.
DEFAULT_PASSES: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("fold_batch_norm", {}),
    (
        "quantize",
        {
            "by": "type",
            "default": {
                "config": {
                    "name": "integer",
                    "data_in_width": 8,
                    "data_in_frac_width": "auto",
                    "weight_width": 8,
                    "weight_frac_width": "auto",
                    "bias_width": 16,
                    "bias_frac_width": "auto",
                }
            },
        },
    ),
)
# Fewer samples would not show the steady interval; they are repeated up to this number.
_LEAST_SAMPLES = 16


@dataclass(frozen=True, slots=True)
class Simulation:
    """What the RTL did, in cycles of its clock.

    `outputs` are the RTL's own results, dequantised, as `Accelerator.predict` gives them;
    `mismatches` counts the elements that differ from the integer reference. The measured interval
    is the mean distance between samples once the queues are full (only meaningful without stalls);
    latency is from the first input to the first output handshake.
    """

    outputs: tuple[torch.Tensor, ...]
    mismatches: int
    first_mismatch: Mismatch | None
    cycles: int
    initiation_interval: float
    ideal_initiation_interval: int
    predicted_initiation_interval: int
    latency_cycles: int
    predicted_latency_cycles: int
    deadlock: bool
    waiting: tuple[str, ...]
    samples: int
    build_seconds: float
    run_seconds: float


class Accelerator:
    """A compiled design: the quantised graph, the emitted folder and its manifest.

    `fake_graph` is the fake-quantised graph: the one that takes real values where `graph` holds
    integers only (fake_to_true). A folder does not keep it: None where it was loaded from one.
    """

    def __init__(
        self,
        graph: MaseGraph,
        directory: Path,
        scratch: tempfile.TemporaryDirectory[str] | None,
        fake_graph: MaseGraph | None = None,
    ) -> None:
        self.graph = graph
        self.fake_graph = fake_graph or (None if holds_integers(graph.model) else graph)
        self.directory = directory
        self.manifest = Manifest.load(directory)
        # Without out_dir the folder lives as long as this object.
        self._scratch = scratch

    @staticmethod
    def load(directory: Path | str) -> Accelerator:
        """Returns the design of a folder that `compile` wrote. Raises DataError."""
        place = Path(directory)
        Manifest.load(place)
        return Accelerator(load_graph(place / GRAPH_FILE), place, None)

    def predict(self, inputs: Inputs) -> tuple[torch.Tensor, ...]:
        """Returns the integer reference's outputs, dequantised: float64 tensors, batch first.

        Raises ShapeError when the inputs do not fit the graph.
        """
        integers = run_in_integers(self.graph, self._arrays(inputs))
        return tuple(self._dequantised(out, integers[out.node]) for out in self.manifest.outputs)

    def simulate(
        self,
        inputs: Inputs,
        stall_probability: float = 0.0,
        seed: int = 0,
        check_streams: bool = False,
        waves: bool = False,
    ) -> Simulation:
        """Runs the inputs through the emitted RTL and compares every output with the reference.

        `stall_probability`: of each port to pause in a cycle; `check_streams` compares every
        internal stream too, and names the first node, sample and element that differs; `waves`
        keeps a trace in the folder. Fewer than 16 samples are repeated up to that number, to
        measure the interval; only the outputs of those given are returned.
        """
        from chop.sim.simulate import SimulationOptions, simulate_design

        arrays = self._arrays(inputs)
        given = len(next(iter(arrays.values())))
        turns = np.arange(max(given, _LEAST_SAMPLES)) % given
        integers = run_in_integers(self.graph, {k: v[turns] for k, v in arrays.items()})
        checked = (*self.manifest.outputs, *(self.manifest.streams if check_streams else ()))
        run = simulate_design(
            self.directory,
            stream_words(self.graph, self.manifest.inputs, integers),
            stream_words(self.graph, checked, integers),
            SimulationOptions(
                stall_probability=stall_probability,
                seed=seed,
                check_streams=check_streams,
                waves=waves,
            ),
        )
        return Simulation(
            outputs=tuple(
                self._dequantised(s, tensor_order(run.outputs[s.name], s.shape, s.layout))[:given]
                for s in self.manifest.outputs
            ),
            mismatches=run.mismatches,
            first_mismatch=run.first_mismatch,
            cycles=run.cycles,
            initiation_interval=run.initiation_interval,
            ideal_initiation_interval=self.manifest.ideal_initiation_interval,
            predicted_initiation_interval=self.manifest.predicted_initiation_interval,
            latency_cycles=run.first_output_cycle - run.first_input_cycle,
            predicted_latency_cycles=self.manifest.predicted_latency_cycles,
            deadlock=run.deadlock,
            waiting=run.waiting,
            samples=len(turns),
            build_seconds=run.build_seconds,
            run_seconds=run.run_seconds,
        )

    def synthesize(
        self, target: str = "ecp5-85k", place_and_route: bool = True, placements: int = 1
    ) -> SynthesisReport:
        """Returns resources and, where the pip tools can route the target, the clock frequency.

        Of several placements the fastest counts.
        """
        from chop.synth.synthesize import synthesize_design

        return synthesize_design(self.directory, target, place_and_route, placements)

    def _arrays(self, inputs: Inputs) -> dict[str, Floats]:
        named = _named(self.graph, inputs)
        shapes = {name: x.shape[1:] for name, x in self.graph.example_inputs.items()}
        for name, x in named.items():
            if x.dim() == 0 or len(x) == 0 or x.shape[1:] != shapes[name]:
                wanted = ", ".join(["N", *map(str, shapes[name])])
                raise ShapeError(
                    f"input '{name}' must have shape [{wanted}] with N >= 1, got {list(x.shape)}"
                )
        if len({len(x) for x in named.values()}) != 1:
            raise ShapeError("the inputs have different batch sizes; make them equal")
        return {name: x.detach().double().numpy() for name, x in named.items()}

    def _dequantised(self, entry: StreamEntry, levels: Ints) -> torch.Tensor:
        return torch.from_numpy(entry.format.from_integers(levels))


def compile(
    model: nn.Module | MaseGraph,
    example_inputs: Inputs,
    config: Mapping[str, Any] | str | Path | None = None,
    calibration_inputs: Inputs | None = None,
    out_dir: str | Path | None = None,
) -> Accelerator:
    """Returns the model as an accelerator, with its RTL emitted.

    Args:
        model: a PyTorch module (its parameters are copied, its mode is kept) or a MaseGraph.
        example_inputs: one batch, a tensor or a tuple of tensors, batch first.
        config: a mapping, the path of a TOML file, or None (8-bit fixed point, fractions chosen
            from the calibration data). The tables read are `passes` and `hardware`.
        calibration_inputs: data to choose fractions from; the example inputs where None.
        out_dir: the folder to write, replaced if it is a design; a temporary one, which lives as
            long as the result, where None.

    Raises ChopError: bad configuration, a model that cannot be captured or has no exact form.
    Nothing is written unless everything succeeds.
    """
    place = None if out_dir is None else Path(out_dir)
    return compile_trained(
        model, example_inputs, load_config(config), calibration_inputs, place, None
    )


def compile_trained(
    model: nn.Module | MaseGraph,
    example_inputs: Inputs,
    config: Config,
    calibration_inputs: Inputs | None,
    out_dir: Path | None,
    fine_tune: FineTune | None,
    retrain: FineTune | None = None,
    done: int = 0,
) -> Accelerator:
    """`compile`, with a training of the quantised graph right after the last quantising pass.

    The model has been through the first `done` passes already. `retrain` trains the float graph
    right before the first pass that quantises (after the last where none does). Raises ConfigError
    when there is something to fine-tune but no pass quantises.
    """
    graph = open_graph(model, example_inputs)
    passes = slice(done, None)
    graph, fake = run_road(graph, config, calibration_inputs, fine_tune, retrain, passes)
    graph = resolve("add_hardware_metadata")(graph, config.hardware)
    return emit_graph(graph, config, out_dir, fake)


def open_graph(model: nn.Module | MaseGraph, example_inputs: Inputs) -> MaseGraph:
    """Returns the captured model with common and software metadata: where every road begins."""
    tensors = (example_inputs,) if isinstance(example_inputs, torch.Tensor) else example_inputs
    graph = model.copy() if isinstance(model, MaseGraph) else MaseGraph(model, tensors)
    examples = _named(graph, example_inputs)
    if not isinstance(model, MaseGraph):
        check_captured(model, graph, tensors)
    graph = resolve("init_metadata")(graph)
    graph = resolve("add_common_metadata")(graph, {"dummy_in": examples})
    return resolve("add_software_metadata")(graph)


def run_road(
    graph: MaseGraph,
    config: Config,
    calibration_inputs: Inputs | None,
    fine_tune: FineTune | None = None,
    retrain: FineTune | None = None,
    passes: slice = slice(None),
) -> tuple[MaseGraph, MaseGraph | None]:
    """Returns the graph after the configuration's passes, and as it was before fake_to_true.

    Trains where `compile_trained` says it. `passes` runs a part of the list only. The second result
    is None where there is no fake_to_true. Raises ConfigError as `compile_trained`.
    """
    road = road_of(config)
    quantising = [i for i, (name, _) in enumerate(road) if name in QUANTISING]
    if fine_tune is not None and not quantising:
        raise ConfigError(
            "the table [qat] trains a quantised network, and no pass quantises; "
            f"add one of {', '.join(QUANTISING)}"
        )
    fake = None
    first, last = (quantising[0], quantising[-1]) if quantising else (len(road), -1)
    numbers = range(len(road))[passes]
    for i in numbers:
        if retrain is not None and i == first:
            graph = retrain(graph)
        name, given = road[i]
        fake = graph if name == "fake_to_true" and fake is None else fake
        arguments = _completed(name, given, graph, config, calibration_inputs)
        graph = resolve(name)(graph, arguments)
        if fine_tune is not None and i == last:
            graph = fine_tune(graph)
    if retrain is not None and first == numbers.stop == len(road):
        graph = retrain(graph)
    return graph, fake


def road_of(config: Config) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """Returns the passes and their arguments, those that emit left out."""
    return tuple((name, given) for name, given in _passes(config) if name not in _EMIT_PASSES)


def _passes(config: Config) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    if config.passes is None:
        return DEFAULT_PASSES
    return tuple((call.name, call.arguments) for call in config.passes)


def _completed(
    name: str,
    arguments: Mapping[str, Any],
    graph: MaseGraph,
    config: Config,
    calibration: Inputs | None,
) -> dict[str, Any]:
    """Returns a pass's arguments with what the caller, not the configuration, knows."""
    offered: dict[str, Any] = {"dummy_in": graph.example_inputs}
    if calibration is not None:
        offered["calibration"] = offered["data"] = _named(graph, calibration)
    if "rounding" in config.hardware:
        offered["rounding"] = config.hardware["rounding"]
    wanted = {key: value for key, value in offered.items() if accepts(resolve(name), key)}
    return {**wanted, **arguments}


def emit_graph(
    graph: MaseGraph, config: Config, out_dir: Path | None, fake: MaseGraph | None
) -> Accelerator:
    scratch = None
    if out_dir is None:
        scratch = tempfile.TemporaryDirectory(prefix="chop-")
        out_dir = Path(scratch.name) / config.name
    _check_replaceable(out_dir)
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    # Written beside its place and moved there whole: a failure leaves nothing behind.
    with tempfile.TemporaryDirectory(prefix=".chop-", dir=out_dir.parent) as place:
        made = Path(place) / out_dir.name
        arguments = {"project_dir": made, "name": config.name, "config_hash": _config_hash(config)}
        for name in _EMIT_PASSES:
            resolve(name)(graph, arguments)
        save_graph(graph, made / GRAPH_FILE)
        if out_dir.exists():
            out_dir.replace(Path(place) / "old")
        made.replace(out_dir)
    return Accelerator(graph, out_dir, scratch, fake)


def _check_replaceable(out_dir: Path) -> None:
    if not out_dir.exists() or (out_dir / "design.json").exists():
        return
    if not out_dir.is_dir() or any(out_dir.iterdir()):
        raise ConfigError(
            f"'{out_dir}' exists and is not an emitted design; choose another folder or remove it"
        )


def _config_hash(config: Config) -> str:
    text = json.dumps(config.compiler_config(), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _named(graph: MaseGraph, inputs: Inputs) -> dict[str, torch.Tensor]:
    tensors = (inputs,) if isinstance(inputs, torch.Tensor) else tuple(inputs)
    names = graph.placeholders
    if len(tensors) != len(names):
        raise ShapeError(
            f"the model takes {len(names)} inputs ({', '.join(names)}), got {len(tensors)}"
        )
    for name, x in zip(names, tensors, strict=True):
        if not isinstance(x, torch.Tensor):
            raise ShapeError(f"input '{name}' must be a torch.Tensor, got {type(x).__name__}")
    return dict(zip(names, tensors, strict=True))
