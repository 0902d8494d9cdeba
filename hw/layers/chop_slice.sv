// Keeps some beats of a sample, in order, and of these some lanes, in any order: y lane l is x lane
// LaneMap[l], 32 bits each. First beats come before the first that is kept; the beats between one
// that is kept and the next, and from the last over the end of the sample, are the Moves of
// chop_walk. A beat that is not kept is taken at once.
//
// Latency 1, one beat per cycle; x_ready_o is combinational in y_ready_i, valid and data are
// registers.
module chop_slice #(
  parameter int unsigned            ElementWidth = 8,
  parameter int unsigned            InLanes      = 4,
  parameter int unsigned            OutLanes     = 2,
  parameter logic [OutLanes*32-1:0] LaneMap      = {OutLanes{32'd0}},
  parameter int unsigned            First        = 1,
  parameter int unsigned            GapWidth     = 1,
  parameter int unsigned            Levels       = 1,
  parameter logic [Levels*32-1:0]   Counts       = {Levels{32'd3}},
  parameter logic [Levels*32+31:0]  Moves        = {(Levels + 1){32'd1}}
) (
  input  logic                             clk_i,
  input  logic                             rst_ni,
  input  logic [InLanes*ElementWidth-1:0]  x_data_i,
  input  logic                             x_valid_i,
  output logic                             x_ready_o,
  output logic [OutLanes*ElementWidth-1:0] y_data_o,
  output logic                             y_valid_o,
  input  logic                             y_ready_i
);
  if (InLanes < 1 || OutLanes < 1) begin : gen_check
    $error("chop_slice: InLanes and OutLanes must be >= 1");
  end

  logic [OutLanes*ElementWidth-1:0] lanes;
  for (genvar i = 0; i < OutLanes; i = i + 1) begin : gen_lane
    assign lanes[i*ElementWidth +: ElementWidth] =
        x_data_i[LaneMap[i*32 +: 32]*ElementWidth +: ElementWidth];
  end

  logic keep, ready;
  assign x_ready_o = ready || !keep;

  if (First == 0 && Moves == '0) begin : gen_all
    assign keep = 1'b1;
  end else begin : gen_some
    // Beats that are still to be dropped.
    logic [GapWidth-1:0] gap_q, move;
    logic                accept, unused_last;
    assign keep   = (gap_q == '0);
    assign accept = x_valid_i && x_ready_o;

    chop_walk #(
      .Levels(Levels),
      .Width (GapWidth),
      .Counts(Counts),
      .Moves (Moves)
    ) u_walk (
      .clk_i (clk_i),
      .rst_ni(rst_ni),
      .step_i(accept && keep),
      .last_o(unused_last),
      .move_o(move)
    );

    always_ff @(posedge clk_i) begin
      if (!rst_ni) gap_q <= GapWidth'(First);
      else if (accept) gap_q <= keep ? move : gap_q - 1'b1;
    end
  end

  chop_stream_register #(
    .Width(OutLanes * ElementWidth)
  ) u_register (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .valid_i(x_valid_i && keep),
    .ready_o(ready),
    .data_i (lanes),
    .valid_o(y_valid_o),
    .ready_i(y_ready_i),
    .data_o (y_data_o)
  );

  logic unused;
  assign unused = ^{x_data_i, LaneMap};
endmodule
