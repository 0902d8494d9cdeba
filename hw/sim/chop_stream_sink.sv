// Takes a stream with random ready gaps, records it and has a monitor check it. Simulation only.
//
// Every cycle ready_o is low with the stall probability, whatever valid_i is; with probability 0 it
// is always high. ready_o comes from a register. Every beat goes to <results>/<name>.hex.
module chop_stream_sink #(
  parameter int unsigned Lanes = 1,
  parameter int unsigned ElementWidth = 8
) (
  input  logic                          clk_i,
  input  logic                          rst_ni,
  input  longint unsigned               cycle_i,             // cycles since reset
  input  logic                          finish_i,

  input  string                         name_i,
  input  int unsigned                   port_i,              // different for every port
  input  int unsigned                   beats_per_sample_i,

  input  logic [Lanes*ElementWidth-1:0] data_i,
  input  logic                          valid_i,
  output logic                          ready_o,

  output logic                          failed_o,
  output logic                          done_o
);
  /* verilator no_inline_module */  // One C++ class for all sinks of a shape.

  int          capture;
  logic [31:0] random_q;
  logic [31:0] threshold;

  // In reset and not in an initial block: name_i has no value yet when those run.
  task automatic open();
    capture = $fopen(chop_sim_pkg::results_path(name_i, ".hex"), "w");
    if (capture == 0) $fatal(1, "cannot write the beats of stream '%s'", name_i);
    threshold = chop_sim_pkg::stall_threshold();
    random_q  = chop_sim_pkg::random_start(port_i);
  endtask

  initial begin
    capture = 0;
    ready_o = 1'b0;
  end

  always @(posedge clk_i) begin
    if (!rst_ni) begin
      if (capture == 0) open();
    end else begin
      random_q <= chop_sim_pkg::random_next(random_q);
      ready_o  <= random_q >= threshold;
      if (valid_i && ready_o) $fdisplay(capture, "%h", data_i);
    end
  end

  always @(posedge finish_i) $fclose(capture);

  chop_stream_monitor #(
    .Lanes(Lanes), .ElementWidth(ElementWidth)
  ) u_monitor (
    .clk_i             (clk_i),
    .rst_ni            (rst_ni),
    .cycle_i           (cycle_i),
    .finish_i          (finish_i),
    .name_i            (name_i),
    .beats_per_sample_i(beats_per_sample_i),
    .data_i            (data_i),
    .valid_i           (valid_i),
    .ready_i           (ready_o),
    .failed_o          (failed_o),
    .done_o            (done_o)
  );
endmodule
