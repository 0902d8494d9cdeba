// Drives ready at random, whatever valid does. Simulation only.
module rtl_sink (
  input  logic        clk_i,
  input  logic        rst_ni,
  input  int unsigned stall_i,
  output logic        ready_o
);
  always @(posedge clk_i) ready_o <= rst_ni && !rtl_random::chance(stall_i);
endmodule
