"""A residual block without multipliers: exact, as fast as predicted, in fewer than 5,000 LUTs."""

from __future__ import annotations

from pathlib import Path

from benchmarks.residual import INTERVAL, MOST_LUTS, compiled_block


def test_residual_block_of_adder_graphs_is_small(tmp_path: Path) -> None:
    accelerator, x = compiled_block("adders", tmp_path / "residual")
    run = accelerator.simulate(x, stall_probability=0.0, seed=1)
    assert (run.mismatches, run.deadlock) == (0, False)
    assert run.initiation_interval == run.ideal_initiation_interval == INTERVAL
    assert run.latency_cycles == run.predicted_latency_cycles
    kernels = {layer.module for layer in accelerator.manifest.layers if layer.macs}
    assert kernels == {"adders_conv1", "adders_conv2", "adders_shortcut"}
    used = accelerator.synthesize("ecp5-85k-nodsp", place_and_route=False)
    assert used.dsps == 0
    assert used.luts < MOST_LUTS
