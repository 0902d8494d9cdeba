// Shared by the simulation harness: run-time options and random numbers. Not synthesisable.
//
//   +vectors=<dir>  where a stream's beats are read from: <dir>/<name>.hex, one beat a line
//   +results=<dir>  where the harness writes what it saw
//   +stall=<n>      a port stalls in a cycle with probability n / 2^32; 0 never stalls
//   +seed=<n>       seed of the stalls; every port draws from a sequence of its own
//   +samples=<n>    stop after n samples; 0 runs to the end of the vectors
//   +limit=<n>      cycles without a handshake on any port that count as a deadlock
package chop_sim_pkg;

  function automatic string vectors_path(input string name);
    /* verilator no_inline_task */
    string directory;
    if ($value$plusargs("vectors=%s", directory) == 0) directory = "tb/vectors";
    vectors_path = {directory, "/", name, ".hex"};
  endfunction

  function automatic string results_path(input string name, input string suffix);
    /* verilator no_inline_task */
    string directory;
    if ($value$plusargs("results=%s", directory) == 0) directory = "tb/results";
    results_path = {directory, "/", name, suffix};
  endfunction

  function automatic logic [31:0] stall_threshold();
    /* verilator no_inline_task */
    if ($value$plusargs("stall=%d", stall_threshold) == 0) stall_threshold = 0;
  endfunction

  function automatic int unsigned deadlock_limit();
    /* verilator no_inline_task */
    if ($value$plusargs("limit=%d", deadlock_limit) == 0) deadlock_limit = 100000;
  endfunction

  // Beats to play: the whole file unless +samples says less.
  function automatic longint unsigned beat_limit(input int unsigned beats_per_sample);
    /* verilator no_inline_task */
    longint unsigned samples;
    if ($value$plusargs("samples=%d", samples) == 0) samples = 0;
    beat_limit = samples == 0 ? '1 : samples * longint'(beats_per_sample);
  endfunction

  // The first state of a port's xorshift generator: seed and port number through MurmurHash3's
  // finaliser, so that neighbouring seeds and ports share nothing. Never 0, where xorshift stays.
  function automatic logic [31:0] random_start(input int unsigned port);
    /* verilator no_inline_task */
    logic [31:0] h;
    if ($value$plusargs("seed=%d", h) == 0) h = 0;
    h = h * 32'h9e3779b1 + port * 32'h85ebca77 + 32'h165667b1;
    h = (h ^ (h >> 16)) * 32'h85ebca6b;
    h = (h ^ (h >> 13)) * 32'hc2b2ae35;
    h = h ^ (h >> 16);
    random_start = h == 0 ? 32'h1 : h;
  endfunction

  // Marsaglia's xorshift32: period 2^32 - 1 over the nonzero words.
  function automatic logic [31:0] random_next(input logic [31:0] state);
    logic [31:0] s;
    s = state ^ (state << 13);
    s = s ^ (s >> 17);
    random_next = s ^ (s << 5);
  endfunction

endpackage
