// Register for one beat. Latency 1, one beat per cycle. Cuts valid and data; ready_o is
// combinational in ready_i.
module chop_stream_register #(
  parameter int unsigned Width = 8
) (
  input  logic             clk_i,
  input  logic             rst_ni,
  input  logic             valid_i,
  output logic             ready_o,
  input  logic [Width-1:0] data_i,
  output logic             valid_o,
  input  logic             ready_i,
  output logic [Width-1:0] data_o
);
  if (Width < 1) begin : gen_check
    $error("chop_stream_register: Width must be >= 1");
  end

  logic             valid_q;
  logic [Width-1:0] data_q;
  assign ready_o = ready_i || !valid_q;
  assign valid_o = valid_q;
  assign data_o  = data_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) valid_q <= 1'b0;
    else if (ready_o) valid_q <= valid_i;
  end

  // Data needs no reset: nobody may look at it while valid_o is low.
  always_ff @(posedge clk_i) begin
    if (valid_i && ready_o) data_q <= data_i;
  end
endmodule
