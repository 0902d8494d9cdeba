// Walks through nested loops, a step at a time, the innermost first: Counts holds 32 bits for each.
// move_o belongs to the present step: entry k of Moves, 32 bits each, where loop k is the innermost
// that does not end with this step; the last entry where all of them do (last_o). Both are
// combinational in the counts alone.
module chop_walk #(
  parameter int unsigned          Levels = 2,
  parameter int unsigned          Width  = 8,
  parameter logic [Levels*32-1:0] Counts = {Levels{32'd2}},
  parameter logic [Levels*32+31:0] Moves = {(Levels + 1){32'd1}}
) (
  input  logic             clk_i,
  input  logic             rst_ni,
  input  logic             step_i,
  output logic             last_o,
  output logic [Width-1:0] move_o
);
  if (Levels < 1 || Width < 1 || Width > 32) begin : gen_check
    $error("chop_walk: Levels must be >= 1 and Width 1 to 32");
  end

  // Bit k: the loops inside loop k end with this step.
  logic [Levels:0] ends;
  logic [Levels-1:0] unused_first;
  assign ends[0] = 1'b1;
  assign last_o  = ends[Levels];

  for (genvar k = 0; k < Levels; k = k + 1) begin : gen_loop
    logic last;
    chop_loop #(
      .Count(Counts[k*32 +: 32])
    ) u_loop (
      .clk_i  (clk_i),
      .rst_ni (rst_ni),
      .step_i (step_i && ends[k]),
      .first_o(unused_first[k]),
      .last_o (last)
    );
    assign ends[k+1] = ends[k] && last;
  end

  always_comb begin
    move_o = Moves[0 +: Width];
    for (int k = 1; k <= int'(Levels); k = k + 1) begin
      if (ends[k]) move_o = Moves[k*32 +: Width];
    end
  end

  logic unused;
  assign unused = ^{unused_first, Moves};
endmodule
