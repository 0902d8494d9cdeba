// Gives some beats of the first input, then some of the next, and so on, again and again: Beats
// holds 32 bits for each input, the first one lowest. An element of input k has Widths[k] bits, 16
// each, and becomes y's by a shift to the left by Shifts[k], 16 each, with its sign where Signed[k]
// is set. The inputs lie side by side: the Lanes elements of input k begin at bit Lanes * Starts[k]
// (32 each); InWidth is the sum of all widths.
//
// Latency 1, one beat per cycle. x_ready_o of the input whose turn it is is combinational in
// y_ready_i, all others' are low; valid and data are registers.
module chop_concat #(
  parameter int unsigned            Inputs   = 2,
  parameter int unsigned            Lanes    = 2,
  parameter logic [Inputs*16-1:0]   Widths   = {Inputs{16'd8}},
  parameter logic [Inputs*16-1:0]   Shifts   = {Inputs{16'd0}},
  parameter logic [Inputs*32-1:0]   Starts   = {32'd8, {(Inputs - 1){32'd0}}},
  parameter logic [Inputs-1:0]      Signed   = {Inputs{1'b1}},
  parameter logic [Inputs*32-1:0]   Beats    = {Inputs{32'd2}},
  parameter int unsigned            InWidth  = 16,
  parameter int unsigned            OutWidth = 8
) (
  input  logic                      clk_i,
  input  logic                      rst_ni,
  input  logic [Lanes*InWidth-1:0]  x_data_i,
  input  logic [Inputs-1:0]         x_valid_i,
  output logic [Inputs-1:0]         x_ready_o,
  output logic [Lanes*OutWidth-1:0] y_data_o,
  output logic                      y_valid_o,
  input  logic                      y_ready_i
);
  if (Lanes < 1 || Inputs < 1) begin : gen_check
    $error("chop_concat: Lanes and Inputs must be >= 1");
  end

  // ---- Whose turn it is, one bit for each input ----

  logic [Inputs-1:0] turn_q, done;
  logic              valid, ready, step;
  assign valid     = |(x_valid_i & turn_q);
  assign step      = valid && ready;
  assign x_ready_o = turn_q & {Inputs{ready}};

  for (genvar k = 0; k < Inputs; k = k + 1) begin : gen_turn
    logic unused_first, last;
    chop_loop #(
      .Count(Beats[k*32 +: 32])
    ) u_loop (
      .clk_i  (clk_i),
      .rst_ni (rst_ni),
      .step_i (step && turn_q[k]),
      .first_o(unused_first),
      .last_o (last)
    );
    assign done[k] = last && turn_q[k];
    logic unused;
    assign unused = unused_first;
  end

  if (Inputs == 1) begin : gen_alone
    assign turn_q = 1'b1;
    logic unused;
    assign unused = done;
  end else begin : gen_turns
    always_ff @(posedge clk_i) begin
      if (!rst_ni) turn_q <= Inputs'(1);
      else if (step && (done != '0)) turn_q <= {turn_q[Inputs-2:0], turn_q[Inputs-1]};
    end
  end

  // ---- The elements of every input as y has them, and those of the one whose turn it is ----

  logic [Inputs*Lanes*OutWidth-1:0] values;
  for (genvar k = 0; k < Inputs; k = k + 1) begin : gen_input
    localparam int unsigned Width = 32'(Widths[k*16 +: 16]);
    for (genvar i = 0; i < Lanes; i = i + 1) begin : gen_lane
      logic [Width-1:0]    element;
      logic [OutWidth-1:0] extended;
      assign element = x_data_i[Lanes*Starts[k*32 +: 32] + i*Width +: Width];
      if (Signed[k]) begin : gen_signed
        assign extended = OutWidth'($signed(element));
      end else begin : gen_unsigned
        assign extended = OutWidth'(element);
      end
      assign values[(k*Lanes + i)*OutWidth +: OutWidth] = extended << Shifts[k*16 +: 16];
      // The high bits of a wide format whose values are known to be small.
      logic unused;
      assign unused = ^element;
    end
  end

  logic [Lanes*OutWidth-1:0] chosen;
  always_comb begin
    chosen = '0;
    for (int k = 0; k < int'(Inputs); k = k + 1) begin
      if (turn_q[k]) chosen = chosen | values[k*Lanes*OutWidth +: Lanes*OutWidth];
    end
  end

  chop_stream_register #(
    .Width(Lanes * OutWidth)
  ) u_register (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .valid_i(valid),
    .ready_o(ready),
    .data_i (chosen),
    .valid_o(y_valid_o),
    .ready_i(y_ready_i),
    .data_o (y_data_o)
  );
endmodule
