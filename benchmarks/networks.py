"""`make bench-networks`: every ready-made convolutional network down the whole road.

Per network: time from capture to the emitted folder, of it that of the schedule (foldings too) and
of the queues' depths alone, interval beside the ideal one, predicted and measured cycles, and the
RTL's outputs against the integer reference without stalls and with. Seeded weights, random images.
The script ends with status 1 when an output differs or a prediction is off by a cycle.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

import torch

import chop
from chop.cli.render import print_table
from chop.config.schema import ModelConfig
from chop.errors import ChopError
from chop.flows.compile import Simulation
from chop.models.create import create_model

STALLS = (0.0, 0.5)
HEADERS = (
    *("network", "interval", "/ideal", "latency", "LUT", "DSP", "BRAM"),
    *("wrong", "FIFOs", "folds", "emit", "RTL"),
)


@dataclass(frozen=True, slots=True)
class Network:
    """A registered model, the shape of an image, and the interval it is folded to, in cycles."""

    name: str
    shape: tuple[int, ...]
    interval: int


NETWORKS = (
    Network("lenet5", (1, 28, 28), 12_544),
    Network("lenet_300_100", (784,), 2_352),
    Network("vgg_small", (3, 32, 32), 294_912),
    Network("resnet8", (3, 32, 32), 147_456),
    Network("ds_cnn", (1, 49, 10), 32_000),
    Network("mobilenet_v1", (3, 32, 32), 65_536),
    Network("autoencoder", (640,), 5_120),
    Network("conv_autoencoder", (1, 28, 28), 50_176),
    Network("tcn", (4, 64), 16_384),
    Network("unet_mini", (1, 32, 32), 147_456),
    Network("se_net", (1, 16, 16), 36_864),
)


def main() -> int:
    """Prints the table; returns 1 when a network is wrong, mispredicted or refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", help="names of networks")
    parser.add_argument("--samples", type=int, default=3)
    arguments = parser.parse_args()
    rows, sound = [], True
    for network in NETWORKS:
        if arguments.only and network.name not in arguments.only:
            continue
        try:
            row, good = _measure(network, arguments.samples)
        except ChopError as error:
            print(f"error: {network.name}: {error}", file=sys.stderr)
            row, good = (network.name, *("-",) * (len(HEADERS) - 1)), False
        rows.append(row)
        sound = sound and good
    print_table(
        "networks, 8 bits, seeded weights (FIFOs, folds, emit, RTL: seconds)",
        HEADERS,
        rows,
        HEADERS[1:],
    )
    return 0 if sound else 1


def _latency(run: Simulation) -> str:
    """Returns the cycles to the first output, and those predicted where they differ."""
    predicted = run.predicted_latency_cycles
    wrong = f" (not {predicted:,})" if predicted != run.latency_cycles else ""
    return f"{run.latency_cycles:,}{wrong}"


def _measure(network: Network, samples: int) -> tuple[tuple[str, ...], bool]:
    model = create_model(ModelConfig(name=network.name), 0)
    model.eval()
    torch.manual_seed(0)
    x = torch.rand(16, *network.shape)
    start = time.process_time()
    accelerator = chop.compile(
        model,
        x[:1],
        config={"hardware": {"target_initiation_interval": network.interval}},
        calibration_inputs=x,
    )
    emitted = time.process_time() - start
    start = time.process_time()
    sizing = _schedule(accelerator, network.interval)
    scheduled = time.process_time() - start - sizing
    start = time.perf_counter()
    runs = [accelerator.simulate(x[:samples], stall_probability=p, seed=1) for p in STALLS]
    free = runs[0]
    wrong = sum(run.mismatches for run in runs)
    exact = (
        free.initiation_interval == free.predicted_initiation_interval
        and free.latency_cycles == free.predicted_latency_cycles
    )
    good = wrong == 0 and exact and not any(run.deadlock for run in runs)
    if not good:
        print(f"error: {network.name}: {runs}", file=sys.stderr)
    layers = accelerator.manifest.layers
    row = (
        network.name,
        f"{free.initiation_interval:,.0f}",
        f"{free.initiation_interval / free.ideal_initiation_interval:.3f}",
        _latency(free),
        f"{sum(layer.luts for layer in layers):,}",
        f"{sum(layer.dsps for layer in layers):,}",
        f"{sum(layer.brams for layer in layers):,}",
        f"{wrong:,}",
        f"{sizing:.2f}",
        f"{scheduled:.2f}",
        f"{emitted:.1f}",
        f"{time.perf_counter() - start:.1f}",
    )
    return row, good


def _schedule(accelerator: chop.Accelerator, interval: int) -> float:
    """Schedules anew; returns the seconds of the part that finds the queues' depths, done twice."""
    from chop.ops.base import RomOptions
    from chop.passes.registry import resolve
    from chop.schedule.plan import make_plan
    from chop.schedule.units import dataflow_of, foldings_of

    options = {"target_initiation_interval": interval}
    graph = resolve("add_hardware_metadata")(accelerator.graph, options)
    dataflow = dataflow_of(graph)
    foldings = foldings_of(graph, dataflow)
    start = time.process_time()
    make_plan(dataflow, foldings, RomOptions())
    return time.process_time() - start


if __name__ == "__main__":
    raise SystemExit(main())
