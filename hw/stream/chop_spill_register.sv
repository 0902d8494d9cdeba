// Register for two beats that cuts every path: valid, data and ready_o come from registers. Latency
// 1, one beat per cycle, capacity 2. The second place takes the beat that arrives as the output
// stalls.
module chop_spill_register #(
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
    $error("chop_spill_register: Width must be >= 1");
  end

  logic             valid_q, spill_valid_q;
  logic [Width-1:0] data_q, spill_q;
  logic             accept, advance;
  assign ready_o = !spill_valid_q;
  assign valid_o = valid_q;
  assign data_o  = data_q;
  assign accept  = valid_i && ready_o;
  assign advance = ready_i || !valid_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      valid_q       <= 1'b0;
      spill_valid_q <= 1'b0;
    end else if (advance) begin
      valid_q       <= accept || spill_valid_q;
      spill_valid_q <= 1'b0;
    end else if (accept) begin
      spill_valid_q <= 1'b1;
    end
  end

  always_ff @(posedge clk_i) begin
    if (advance) data_q <= spill_valid_q ? spill_q : data_i;
    if (ready_o) spill_q <= data_i;
  end
endmodule
