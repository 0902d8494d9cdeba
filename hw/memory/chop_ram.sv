// Memory with one write port and one read port. Read latency 1: read_data_o holds the word in the
// cycle after read_i. A read in the cycle of a write to the same address returns the old word. No
// combinational paths.
module chop_ram #(
  parameter int unsigned Width = 8,
  parameter int unsigned Depth = 16,
  localparam int unsigned AddressWidth = chop_pkg::index_width(Depth)
) (
  input  logic                    clk_i,
  input  logic                    write_i,
  input  logic [AddressWidth-1:0] write_address_i,
  input  logic [Width-1:0]        write_data_i,
  input  logic                    read_i,
  input  logic [AddressWidth-1:0] read_address_i,
  output logic [Width-1:0]        read_data_o
);
  if (Width < 1 || Depth < 1) begin : gen_check
    $error("chop_ram: Width and Depth must be >= 1");
  end

  logic [Width-1:0] mem [0:Depth-1];

  always_ff @(posedge clk_i) begin
    if (write_i) mem[write_address_i] <= write_data_i;
  end

  always_ff @(posedge clk_i) begin
    if (read_i) read_data_o <= mem[read_address_i];
  end
endmodule
