// Joins two streams of operands: a beat of each passes in the same cycle. An operand that is
// smaller than the result is given again and again (chop_repeat: ABeats, ARepeats, ASpread, ADepth;
// Depth 0 is an operand of the result's size). Latency 0 for such an operand, 2 for a repeated one;
// one beat per cycle. Combinational: the valids of what is not repeated to valid_o, all valids and
// ready_i to the readies.
module chop_operands #(
  parameter int unsigned Lanes    = 4,
  parameter int unsigned AWidth   = 8,
  parameter int unsigned ABeats   = 1,
  parameter int unsigned ARepeats = 1,
  parameter bit          ASpread  = 1'b0,
  parameter int unsigned ADepth   = 0,
  parameter int unsigned BWidth   = 8,
  parameter int unsigned BBeats   = 1,
  parameter int unsigned BRepeats = 1,
  parameter bit          BSpread  = 1'b0,
  parameter int unsigned BDepth   = 0
) (
  input  logic                    clk_i,
  input  logic                    rst_ni,
  input  logic [Lanes*AWidth-1:0] a_data_i,
  input  logic                    a_valid_i,
  output logic                    a_ready_o,
  input  logic [Lanes*BWidth-1:0] b_data_i,
  input  logic                    b_valid_i,
  output logic                    b_ready_o,
  output logic [Lanes*AWidth-1:0] a_data_o,
  output logic [Lanes*BWidth-1:0] b_data_o,
  output logic                    valid_o,
  input  logic                    ready_i
);
  logic a_valid, a_ready, b_valid, b_ready;

  chop_repeat #(
    .ElementWidth(AWidth),
    .Lanes       (Lanes),
    .Beats       (ABeats),
    .Repeats     (ARepeats),
    .Spread      (ASpread),
    .Depth       (ADepth)
  ) u_a (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .valid_i(a_valid_i),
    .ready_o(a_ready_o),
    .data_i (a_data_i),
    .valid_o(a_valid),
    .ready_i(a_ready),
    .data_o (a_data_o)
  );

  chop_repeat #(
    .ElementWidth(BWidth),
    .Lanes       (Lanes),
    .Beats       (BBeats),
    .Repeats     (BRepeats),
    .Spread      (BSpread),
    .Depth       (BDepth)
  ) u_b (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .valid_i(b_valid_i),
    .ready_o(b_ready_o),
    .data_i (b_data_i),
    .valid_o(b_valid),
    .ready_i(b_ready),
    .data_o (b_data_o)
  );

  chop_join #(
    .Inputs(2)
  ) u_join (
    .valid_i({b_valid, a_valid}),
    .ready_o({b_ready, a_ready}),
    .valid_o(valid_o),
    .ready_i(ready_i)
  );
endmodule
