"""Synthesis of an emitted folder."""

from __future__ import annotations

from pathlib import Path

from chop.config.schema import SynthesizeConfig
from chop.flows.progress import Progress
from chop.synth.layers import LayerCost, layer_costs
from chop.synth.synthesize import SynthesisReport, synthesize_design

__all__ = ["compare_layers", "synthesize_folder"]


def synthesize_folder(
    directory: Path, config: SynthesizeConfig | None, progress: Progress
) -> SynthesisReport:
    """Returns what the design takes on the configured target, by default that of the schema.

    Raises DataError when the folder holds no design, ToolError when a tool fails.
    """
    config = config or SynthesizeConfig()
    with progress.task(f"synthesise for {config.target}"):
        return synthesize_design(
            directory, config.target, config.place_and_route, config.placements
        )


def compare_layers(
    directory: Path, config: SynthesizeConfig | None, progress: Progress
) -> tuple[LayerCost, ...]:
    """Returns what each layer takes after synthesis beside the compiler's estimate."""
    config = config or SynthesizeConfig()
    with progress.task(f"synthesise layer by layer for {config.target}"):
        return layer_costs(directory, config.target)
