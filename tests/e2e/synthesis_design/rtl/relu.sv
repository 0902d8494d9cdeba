// max(0, x), one register; its ready is combinational.
module relu #(
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
  assign x_ready_o = !y_valid_o || y_ready_i;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) y_valid_o <= 1'b0;
    else if (x_ready_o) y_valid_o <= x_valid_i;
  end

  always_ff @(posedge clk_i) begin
    if (x_ready_o) y_data_o <= x_data_i[Width-1] ? '0 : x_data_i;
  end
endmodule
