// y = sum over Beats of w[k] * x[k], Lanes products a beat: a result every Beats beats. Its ready is
// combinational. Written for the synthesis tests, so that they need neither the library nor chop.
module mac #(
  parameter int unsigned Lanes = 4,
  parameter int unsigned Beats = 512,
  parameter WeightFile = ""
) (
  input  logic               clk_i,
  input  logic               rst_ni,
  input  logic [Lanes*8-1:0] x_data_i,
  input  logic               x_valid_i,
  output logic               x_ready_o,
  output logic [23:0]        y_data_o,
  output logic               y_valid_o,
  input  logic               y_ready_i
);
  localparam int unsigned CountWidth = $clog2(Beats);

  logic [CountWidth-1:0] count_q;
  logic [Lanes*8-1:0] w_q, x_q;
  logic [Lanes*16-1:0] products;
  logic signed [23:0] sum, acc_q;
  logic valid_q, last_q;

  assign x_ready_o = !y_valid_o || y_ready_i;

  weights #(.Width(Lanes*8), .Depth(Beats), .File(WeightFile)) u_weights (
    .clk_i(clk_i), .en_i(x_ready_o), .address_i(count_q), .data_o(w_q)
  );

  for (genvar i = 0; i < Lanes; i++) begin : gen_lane
    logic signed [7:0] w, x;
    logic signed [15:0] product;
    assign w = w_q[i*8 +: 8];
    assign x = x_q[i*8 +: 8];
    assign product = w * x;
    assign products[i*16 +: 16] = product;
  end

  always_comb begin
    sum = acc_q;
    for (int unsigned i = 0; i < Lanes; i++) sum = sum + 24'($signed(products[i*16 +: 16]));
  end

  always_ff @(posedge clk_i) begin
    if (x_ready_o) x_q <= x_data_i;
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      count_q   <= '0;
      valid_q   <= 1'b0;
      last_q    <= 1'b0;
      acc_q     <= '0;
      y_valid_o <= 1'b0;
      y_data_o  <= '0;
    end else if (x_ready_o) begin
      valid_q   <= x_valid_i;
      last_q    <= x_valid_i && count_q == CountWidth'(Beats - 1);
      y_valid_o <= last_q;
      y_data_o  <= sum;
      if (x_valid_i) count_q <= count_q == CountWidth'(Beats - 1) ? '0 : count_q + 1'b1;
      if (valid_q) acc_q <= last_q ? '0 : sum;
    end
  end
endmodule
