// Watches a stream without touching it. Simulation only.
//
// - compares every beat with <vectors>/<name>.hex; with no such file it compares nothing and its
//   report says so;
// - checks the protocol: once valid, a stream stays valid and keeps its data until the handshake;
// - notes the cycles of the first beat and of every sample's last beat.
// When finish_i rises it writes all this to <results>/<name>.txt, one "key value ..." a line.
module chop_stream_monitor #(
  parameter int unsigned Lanes = 1,
  parameter int unsigned ElementWidth = 8
) (
  input  logic                          clk_i,
  input  logic                          rst_ni,
  input  longint unsigned               cycle_i,             // cycles since reset
  input  logic                          finish_i,

  input  string                         name_i,
  input  int unsigned                   beats_per_sample_i,

  input  logic [Lanes*ElementWidth-1:0] data_i,
  input  logic                          valid_i,
  input  logic                          ready_i,

  output logic                          failed_o,            // a wrong beat or a broken protocol
  output logic                          done_o               // every expected beat was seen
);
  /* verilator no_inline_module */  // One C++ class for all monitors of a shape.

  localparam int unsigned Width = Lanes * ElementWidth;

  logic             opened;
  int               file;
  longint unsigned  limit;
  logic [Width-1:0] expected;   // the next beat
  logic             have_expected;

  longint unsigned  taken;
  longint unsigned  extra;        // beats after the last expected one
  longint unsigned  mismatches;   // elements that differ
  longint unsigned  first_cycle, last_cycle;
  longint unsigned  sample_cycles[$];
  int unsigned      beat_in_sample;

  longint unsigned  bad_beat;
  logic [Width-1:0] bad_expected, bad_actual;

  logic             pending_q;  // a beat was offered in the last cycle and not taken
  logic [Width-1:0] pending_data_q;
  logic             broken;
  string            broken_how;
  longint unsigned  broken_cycle;

  task automatic fetch();
    have_expected = taken + 1 < limit && $fscanf(file, "%h", expected) == 1;
  endtask

  task automatic compare();
    logic [Width-1:0] difference;
    difference = data_i ^ expected;
    if (mismatches == 0) begin
      bad_beat     = taken;
      bad_expected = expected;
      bad_actual   = data_i;
    end
    /* verilator unroll_disable */
    for (int unsigned lane = 0; lane < Lanes; lane++) begin
      if (difference[lane*ElementWidth +: ElementWidth] != 0) mismatches = mismatches + 1;
    end
  endtask

  task automatic take();
    if (taken == 0) first_cycle = cycle_i;
    last_cycle = cycle_i;
    if (file != 0) begin
      if (!have_expected) begin
        extra = extra + 1;
      end else begin
        if (data_i != expected) compare();
        fetch();
      end
    end
    taken = taken + 1;
    beat_in_sample = beat_in_sample + 1;
    if (beat_in_sample == beats_per_sample_i) begin
      beat_in_sample = 0;
      sample_cycles.push_back(cycle_i);
    end
  endtask

  task automatic check_protocol();
    if (!valid_i || data_i != pending_data_q) begin
      broken         = 1'b1;
      broken_cycle = cycle_i;
      broken_how   = valid_i ? "data" : "valid";
    end
  endtask

  task automatic report();
    int out;
    out = $fopen(chop_sim_pkg::results_path(name_i, ".txt"), "w");
    if (out == 0) $fatal(1, "cannot write the report of stream '%s'", name_i);
    $fdisplay(out, "beats %0d", taken);
    $fdisplay(out, "compared %0d", file != 0);
    $fdisplay(out, "mismatches %0d", mismatches);
    $fdisplay(out, "extra %0d", extra);
    $fdisplay(out, "valid %0d", valid_i);
    $fdisplay(out, "ready %0d", ready_i);
    if (taken != 0) $fdisplay(out, "first %0d", first_cycle);
    if (taken != 0) $fdisplay(out, "last %0d", last_cycle);
    if (mismatches != 0)
      $fdisplay(out, "mismatch %0d %h %h", bad_beat, bad_expected, bad_actual);
    if (broken) $fdisplay(out, "broken %s %0d", broken_how, broken_cycle);
    foreach (sample_cycles[i]) $fdisplay(out, "sample %0d", sample_cycles[i]);
    $fclose(out);
  endtask

  // In reset and not in an initial block: name_i has no value yet when those run.
  task automatic open();
    opened        = 1'b1;
    limit         = chop_sim_pkg::beat_limit(beats_per_sample_i);
    file          = $fopen(chop_sim_pkg::vectors_path(name_i), "r");
    have_expected = file != 0 && $fscanf(file, "%h", expected) == 1;
  endtask

  initial begin
    opened         = 1'b0;
    have_expected  = 1'b0;
    taken          = 0;
    mismatches     = 0;
    broken       = 1'b0;
    extra          = 0;
    beat_in_sample = 0;
    pending_q      = 1'b0;
  end

  assign done_o   = opened && !have_expected;
  assign failed_o = broken || mismatches != 0 || extra != 0;

  // What is read here was settled before the edge: nothing but this block writes it.
  always @(posedge clk_i) begin
    if (!rst_ni) begin
      if (!opened) open();
    end else begin
      if (pending_q && !broken) check_protocol();
      if (valid_i && ready_i) take();
      pending_q <= valid_i && !ready_i;
      if (valid_i && !ready_i) pending_data_q <= data_i;
    end
  end

  always @(posedge finish_i) report();
endmodule
