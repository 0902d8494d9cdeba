// Copies a stream to Outputs branches, eagerly: every branch takes a beat when it can and is not
// shown it again; the input is accepted in the cycle in which the last branch takes it. Latency 0,
// one beat per cycle. Combinational: valid_i and data_i to the outputs, ready_i to ready_o.
module chop_fork #(
  parameter int unsigned Width   = 8,
  parameter int unsigned Outputs = 2
) (
  input  logic               clk_i,
  input  logic               rst_ni,
  input  logic               valid_i,
  output logic               ready_o,
  input  logic [Width-1:0]   data_i,
  output logic [Outputs-1:0] valid_o,
  input  logic [Outputs-1:0] ready_i,
  output logic [Width-1:0]   data_o
);
  if (Width < 1 || Outputs < 1) begin : gen_check
    $error("chop_fork: Width and Outputs must be >= 1");
  end

  // Branches that already took the beat at the input.
  logic [Outputs-1:0] done_q;
  assign data_o  = data_i;
  assign valid_o = {Outputs{valid_i}} & ~done_q;
  assign ready_o = &(done_q | ready_i);

  always_ff @(posedge clk_i) begin
    if (!rst_ni) done_q <= '0;
    else if (valid_i) done_q <= ready_o ? '0 : done_q | ready_i;
  end
endmodule
