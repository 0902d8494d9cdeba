// Drives a stream from a vector file, with random gaps. Simulation only.
//
// valid_o never waits for ready_i, and valid_o and data_o hold until the handshake. Before each
// beat the source stays idle for one more cycle with the stall probability, again and again; with
// probability 0 it offers a beat in every cycle. Both outputs come from registers.
// When finish_i rises it writes what became of the stream to <results>/<name>.txt.
module chop_stream_source #(
  parameter int unsigned Width = 8
) (
  input  logic             clk_i,
  input  logic             rst_ni,
  input  longint unsigned  cycle_i,             // cycles since reset
  input  logic             finish_i,

  // Constants, as ports because a parameter would make a copy of the module for every value.
  input  string            name_i,              // reads <vectors>/<name>.hex
  input  int unsigned      port_i,              // a different number for every port of the design
  input  int unsigned      beats_per_sample_i,

  output logic [Width-1:0] data_o,
  output logic             valid_o,
  input  logic             ready_i,

  output logic             done_o               // the design took every beat
);
  /* verilator no_inline_module */  // One C++ class for all sources of a width.

  int               file;
  longint unsigned  limit;
  longint unsigned  fetched;
  longint unsigned  taken;
  logic             offered;      // whether there was a beat yet
  longint unsigned  first_cycle;  // of its being offered
  logic [Width-1:0] beat;       // the beat after the one in data_o
  logic             have_beat;
  logic [31:0]      random_q;
  logic [31:0]      threshold;

  task automatic fetch();
    have_beat = fetched < limit && $fscanf(file, "%h", beat) == 1;
    if (have_beat) fetched = fetched + 1;
  endtask

  // In reset and not in an initial block: name_i has no value yet when those run.
  task automatic open();
    file = $fopen(chop_sim_pkg::vectors_path(name_i), "r");
    if (file == 0) $fatal(1, "vector file of stream '%s' not found", name_i);
    limit     = chop_sim_pkg::beat_limit(beats_per_sample_i);
    threshold = chop_sim_pkg::stall_threshold();
    random_q  = chop_sim_pkg::random_start(port_i);
    fetched   = 0;
    fetch();
  endtask

  initial begin
    file    = 0;
    valid_o = 1'b0;
    taken   = 0;
    offered = 1'b0;
  end

  task automatic report();
    int out;
    out = $fopen(chop_sim_pkg::results_path(name_i, ".txt"), "w");
    if (out == 0) $fatal(1, "cannot write the report of stream '%s'", name_i);
    $fdisplay(out, "beats %0d", taken);
    $fdisplay(out, "valid %0d", valid_o);
    $fdisplay(out, "ready %0d", ready_i);
    if (offered) $fdisplay(out, "first %0d", first_cycle);
    $fclose(out);
  endtask

  assign done_o = file != 0 && !have_beat && !valid_o;

  always @(posedge clk_i) begin
    if (!rst_ni) begin
      if (file == 0) open();
    end else begin
      random_q <= chop_sim_pkg::random_next(random_q);
      if (valid_o && !offered) begin
        offered     <= 1'b1;
        first_cycle <= cycle_i;
      end
      if (valid_o && ready_i) taken <= taken + 1;
      if (!valid_o || ready_i) begin
        if (have_beat && random_q >= threshold) begin
          valid_o <= 1'b1;
          data_o  <= beat;
          fetch();
        end else begin
          valid_o <= 1'b0;
        end
      end
    end
  end

  always @(posedge finish_i) report();
endmodule
