// A ROM with a synchronous read.
module weights #(
  parameter int unsigned Width = 8,
  parameter int unsigned Depth = 2,
  parameter File = ""
) (
  input  logic                     clk_i,
  input  logic                     en_i,
  input  logic [$clog2(Depth)-1:0] address_i,
  output logic [Width-1:0]         data_o
);
  logic [Width-1:0] mem [0:Depth-1];
  initial $readmemh(File, mem);
  always_ff @(posedge clk_i) begin
    if (en_i) data_o <= mem[address_i];
  end
endmodule
