// Memory with one write port and one read port. Read latency 1: read_data_o holds the word in the
// cycle after read_i. A read in the cycle of a write to the same address returns the old word. No
// combinational paths. Few words and bits are distributed memory: a block's output, without a
// register of its own, comes late in the cycle (5.8 ns on an ECP5, a flip-flop's after 0.5).
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

  // An attribute takes a literal, so either style has its own copy of the memory.
  if (chop_pkg::is_distributed(Depth, Width)) begin : gen_distributed
    (* ram_style = "distributed" *) logic [Width-1:0] mem [0:Depth-1];
    always_ff @(posedge clk_i) begin
      if (write_i) mem[write_address_i] <= write_data_i;
    end
    always_ff @(posedge clk_i) begin
      if (read_i) read_data_o <= mem[read_address_i];
    end
  end else begin : gen_auto
    logic [Width-1:0] mem [0:Depth-1];
    always_ff @(posedge clk_i) begin
      if (write_i) mem[write_address_i] <= write_data_i;
    end
    always_ff @(posedge clk_i) begin
      if (read_i) read_data_o <= mem[read_address_i];
    end
  end
endmodule
