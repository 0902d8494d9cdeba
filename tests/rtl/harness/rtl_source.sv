// Drives a stream of random beats with random gaps; data is random, too, while valid is low. Simulation only.
module rtl_source #(
  parameter int unsigned Lanes = 1,
  parameter int unsigned Width = 8
) (
  input  logic                   clk_i,
  input  logic                   rst_ni,
  input  int unsigned            stall_i,
  output logic                   valid_o,
  input  logic                   ready_i,
  output logic [Lanes*Width-1:0] data_o
);
  always @(posedge clk_i) begin
    if (!rst_ni || !valid_o || ready_i) begin
      valid_o <= rst_ni && !rtl_random::chance(stall_i);
      for (int unsigned i = 0; i < Lanes; i++) begin
        data_o[i*Width +: Width] <= Width'(rtl_random::element(Width));
      end
    end
  end
endmodule
