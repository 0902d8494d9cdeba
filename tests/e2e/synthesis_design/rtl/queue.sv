// 16 words of LUT RAM, read asynchronously: no layer, as a FIFO between two layers is none.
module queue #(
  parameter int unsigned Width = 24
) (
  input  logic             clk_i,
  input  logic             rst_ni,
  input  logic [Width-1:0] x_data_i,
  input  logic             x_valid_i,
  output logic             x_ready_o,
  output logic [Width-1:0] y_data_o,
  output logic             y_valid_o,
  input  logic             y_ready_i
);
  (* ram_style = "distributed" *) logic [Width-1:0] mem [0:15];
  logic [3:0] write_q, read_q;
  logic [4:0] count_q;
  logic push, pop;

  assign x_ready_o = !count_q[4];
  assign y_valid_o = count_q != '0;
  assign y_data_o = mem[read_q];
  assign push = x_valid_i && x_ready_o;
  assign pop = y_valid_o && y_ready_i;

  always_ff @(posedge clk_i) begin
    if (push) mem[write_q] <= x_data_i;
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      write_q <= '0;
      read_q  <= '0;
      count_q <= '0;
    end else begin
      write_q <= write_q + 4'(push);
      read_q  <= read_q + 4'(pop);
      count_q <= count_q + 5'(push) - 5'(pop);
    end
  end
endmodule
