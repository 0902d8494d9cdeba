// First in, first out queue of Depth beats in distributed memory (asynchronous read); Depth 1 is a
// register. Latency 1, one beat per cycle (every other cycle for Depth 1). Valid, data and ready_o
// come from registers and memory only: no combinational path in either direction.
module chop_fifo #(
  parameter int unsigned Width = 8,
  parameter int unsigned Depth = 2
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
  if (Width < 1 || Depth < 1) begin : gen_check
    $error("chop_fifo: Width and Depth must be >= 1");
  end

  logic push, pop;
  assign push = valid_i && ready_o;
  assign pop  = valid_o && ready_i;

  if (Depth == 1) begin : gen_register
    logic             valid_q;
    logic [Width-1:0] data_q;
    assign ready_o = !valid_q;
    assign valid_o = valid_q;
    assign data_o  = data_q;

    always_ff @(posedge clk_i) begin
      if (!rst_ni) valid_q <= 1'b0;
      else if (push || pop) valid_q <= push;
    end

    always_ff @(posedge clk_i) begin
      if (push) data_q <= data_i;
    end
  end else begin : gen_memory
    localparam int unsigned AddressWidth = chop_pkg::index_width(Depth);
    localparam int unsigned CountWidth   = chop_pkg::count_width(Depth);

    logic [Width-1:0] mem [0:Depth-1];
    logic [AddressWidth-1:0] write_q, read_q;
    logic [CountWidth-1:0]   count_q;
    assign ready_o = (count_q != CountWidth'(Depth));
    assign valid_o = (count_q != '0);
    assign data_o  = mem[read_q];

    always_ff @(posedge clk_i) begin
      if (!rst_ni) begin
        write_q <= '0;
        read_q  <= '0;
        count_q <= '0;
      end else begin
        if (push) write_q <= (write_q == AddressWidth'(Depth - 1)) ? '0 : write_q + 1'b1;
        if (pop) read_q <= (read_q == AddressWidth'(Depth - 1)) ? '0 : read_q + 1'b1;
        // Adding all ones counts down, in the same adder.
        if (push != pop) count_q <= count_q + (push ? CountWidth'(1) : '1);
      end
    end

    always_ff @(posedge clk_i) begin
      if (push) mem[write_q] <= data_i;
    end
  end
endmodule
