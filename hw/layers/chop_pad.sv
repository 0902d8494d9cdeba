// Puts beats of a constant between those of a sample: First before the first, and after every beat
// as many as the Moves of chop_walk say (those after the last one and before the first one of the
// next sample together). A sample has OutBeats beats then. Elements of x become OutWidth bits wide
// and are shifted left by ShiftLeft; every element of the new beats is PadValue (its low bits).
//
// Latency 1, one beat per cycle. Constants wait for nothing, but those before a sample's first beat
// wait until it is valid. x_ready_o is combinational in y_ready_i, valid and data are registers.
module chop_pad #(
  parameter int unsigned           Lanes     = 2,
  parameter int unsigned           InWidth   = 8,
  parameter bit                    InSigned  = 1'b1,
  parameter int unsigned           ShiftLeft = 0,
  parameter int unsigned           OutWidth  = 8,
  parameter logic [63:0]           PadValue  = 64'd0,
  parameter int unsigned           OutBeats  = 6,
  parameter int unsigned           First     = 1,
  parameter int unsigned           GapWidth  = 2,
  parameter int unsigned           Levels    = 1,
  parameter logic [Levels*32-1:0]  Counts    = {Levels{32'd3}},
  parameter logic [Levels*32+31:0] Moves     = {32'd3, {Levels{32'd0}}}
) (
  input  logic                      clk_i,
  input  logic                      rst_ni,
  input  logic [Lanes*InWidth-1:0]  x_data_i,
  input  logic                      x_valid_i,
  output logic                      x_ready_o,
  output logic [Lanes*OutWidth-1:0] y_data_o,
  output logic                      y_valid_o,
  input  logic                      y_ready_i
);
  if (Lanes < 1) begin : gen_check
    $error("chop_pad: Lanes must be >= 1");
  end

  // Constants that are still to be given.
  logic [GapWidth-1:0] gap_q, move;
  logic                fill, waits, valid, ready, step, unused_last;
  assign fill      = (gap_q != '0);
  assign valid     = x_valid_i || (fill && !waits);
  assign step      = valid && ready;
  assign x_ready_o = ready && !fill;

  chop_walk #(
    .Levels(Levels),
    .Width (GapWidth),
    .Counts(Counts),
    .Moves (Moves)
  ) u_walk (
    .clk_i (clk_i),
    .rst_ni(rst_ni),
    .step_i(step && !fill),
    .last_o(unused_last),
    .move_o(move)
  );

  always_ff @(posedge clk_i) begin
    if (!rst_ni) gap_q <= GapWidth'(First);
    else if (step) gap_q <= fill ? gap_q - 1'b1 : move;
  end

  if (First == 0) begin : gen_starts_with_data
    assign waits = 1'b0;
  end else begin : gen_starts_with_constants
    logic unused;
    chop_loop #(
      .Count(OutBeats)
    ) u_beat (
      .clk_i  (clk_i),
      .rst_ni (rst_ni),
      .step_i (step),
      .first_o(waits),
      .last_o (unused)
    );
  end

  logic [Lanes*OutWidth-1:0] results;
  for (genvar i = 0; i < Lanes; i = i + 1) begin : gen_lane
    logic [OutWidth-1:0] extended;
    if (InSigned) begin : gen_signed
      assign extended = OutWidth'($signed(x_data_i[i*InWidth +: InWidth]));
    end else begin : gen_unsigned
      assign extended = OutWidth'(x_data_i[i*InWidth +: InWidth]);
    end
    assign results[i*OutWidth +: OutWidth] =
        fill ? PadValue[OutWidth-1:0] : extended << ShiftLeft;
  end

  chop_stream_register #(
    .Width(Lanes * OutWidth)
  ) u_register (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .valid_i(valid),
    .ready_o(ready),
    .data_i (results),
    .valid_o(y_valid_o),
    .ready_i(y_ready_i),
    .data_o (y_data_o)
  );

  logic unused;
  assign unused = ^{unused_last, PadValue, x_data_i};
endmodule
