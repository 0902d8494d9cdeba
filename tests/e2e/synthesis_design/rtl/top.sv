// x -> fc1 -> queue -> act1 -> y
module top (
  input  logic        clk_i,
  input  logic        rst_ni,
  input  logic [31:0] x_data_i,
  input  logic        x_valid_i,
  output logic        x_ready_o,
  output logic [23:0] y_data_o,
  output logic        y_valid_o,
  input  logic        y_ready_i
);
  logic [23:0] fc1_data, queued_data;
  logic fc1_valid, fc1_ready, queued_valid, queued_ready;

  mac #(.Lanes(4), .Beats(512), .WeightFile("rom/fc1_weight.mem")) u_fc1 (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .x_data_i(x_data_i), .x_valid_i(x_valid_i), .x_ready_o(x_ready_o),
    .y_data_o(fc1_data), .y_valid_o(fc1_valid), .y_ready_i(fc1_ready)
  );
  queue #(.Width(24)) u_queue (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .x_data_i(fc1_data), .x_valid_i(fc1_valid), .x_ready_o(fc1_ready),
    .y_data_o(queued_data), .y_valid_o(queued_valid), .y_ready_i(queued_ready)
  );
  relu #(.Width(24)) u_act1 (
    .clk_i(clk_i), .rst_ni(rst_ni),
    .x_data_i(queued_data), .x_valid_i(queued_valid), .x_ready_o(queued_ready),
    .y_data_o(y_data_o), .y_valid_o(y_valid_o), .y_ready_i(y_ready_i)
  );
endmodule
