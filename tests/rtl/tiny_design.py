"""A tiny design, written by hand, that a test breaks in one known way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from chop.formats.rounding import Ints
from chop.ir.manifest import FormatEntry, Manifest, StreamEntry
from chop.sim.testbench import write_testbench

SAMPLES = 6
ELEMENTS = 8
LANES = 2
BEATS = ELEMENTS // LANES

# A registered stage from x to mid and one from mid to y. MID, TAP and HEAD are what a test breaks:
# declarations and assigns that make mid_*, the data of y, and x_ready_o.
TOP = """
module {top} (
  input  logic        clk_i,
  input  logic        rst_ni,
  input  logic [15:0] x_data_i,
  input  logic        x_valid_i,
  output logic        x_ready_o,
  output logic [15:0] y_data_o,
  output logic        y_valid_o,
  input  logic        y_ready_i
);
  // Beats accepted at x.
  logic [15:0] count;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) count <= 16'd0;
    else if (x_valid_i && x_ready_o) count <= count + 16'd1;
  end

  logic [15:0] first_data, mid_data, last_data;
  logic first_valid, first_ready, mid_valid, mid_ready, last_valid, last_ready;

  {head}

  always_ff @(posedge clk_i) begin
    if (!rst_ni) first_valid <= 1'b0;
    else if (first_ready) first_valid <= x_valid_i && x_ready_o;
    if (first_ready) first_data <= x_data_i;
  end
  assign first_ready = !first_valid || mid_ready;

  {mid}

  always_ff @(posedge clk_i) begin
    if (!rst_ni) last_valid <= 1'b0;
    else if (mid_ready) last_valid <= mid_valid;
    if (mid_ready) last_data <= mid_data;
  end
  assign mid_ready = !last_valid || last_ready;

  {tail}
endmodule
"""
HEAD = "assign x_ready_o = first_ready;"
MID = "assign mid_data = first_data; assign mid_valid = first_valid;"
TAIL = "assign y_data_o = last_data; assign y_valid_o = last_valid; assign last_ready = y_ready_i;"


def stream(name: str) -> StreamEntry:
    fmt = FormatEntry(width=8, frac_width=4, signed=True)
    shape = (ELEMENTS,)
    return StreamEntry(
        name=name, signal=name, node=f"n_{name}", shape=shape, format=fmt, lanes=LANES
    )


def emit(
    directory: Path,
    head: str = HEAD,
    mid: str = MID,
    tail: str = TAIL,
    top: str = "top",
    rom: Sequence[str] = (),
) -> Path:
    """Writes a folder as the emitter does, around a hand-written top."""
    (directory / "rtl").mkdir(parents=True)
    text = TOP.format(top=top, head=head, mid=mid, tail=tail)
    (directory / "rtl" / f"{top}.sv").write_text(text, encoding="utf-8")
    manifest = Manifest(
        name=f"tiny_{top}",
        top=top,
        rounding="half_up",
        inputs=(stream("x"),),
        outputs=(stream("y"),),
        streams=(stream("mid"),),
        layers=(),
        multipliers=0,
        ideal_initiation_interval=BEATS,
        predicted_initiation_interval=BEATS,
        predicted_latency_cycles=2,
        rtl=(f"rtl/{top}.sv",),
        testbench=(),
        rom=tuple(rom),
        config_hash="",
        weights_hash="",
    )
    manifest = manifest.model_copy(update={"testbench": write_testbench(manifest, directory)})
    (directory / "design.json").write_text(manifest.to_json(), encoding="utf-8")
    return directory


def samples(count: int = SAMPLES, seed: int = 0) -> Ints:
    return np.random.default_rng(seed).integers(-128, 128, (count, ELEMENTS))


def values(x: Ints) -> tuple[Mapping[str, Ints], Mapping[str, Ints]]:
    return {"x": x}, {"mid": x, "y": x}
