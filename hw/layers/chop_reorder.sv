// Gives the beats of every block of Beats beats in another order, each as often as wanted, and of
// these some lanes, in any order: y lane l is x lane LaneMap[l], 32 bits each. The first step reads
// beat First of the block; the distances to the next one are the Moves of chop_walk (two's
// complement), the last of them from a block's last step to the next one's first. A step may read a
// beat from the cycle after it was accepted on, a block's last step waits for the whole block, and
// then the block is free. A circle of Depth beats of memory, at least a block: with more, the next
// block loads while this one is read.
//
// Latency 2, one step per cycle: a step reads in a cycle in which its beat is stored and the output
// register is free or taken, and its beat is valid in the next. x_ready_o and y_valid_o depend on
// registers only; y_ready_i enables the datapath and reaches neither.
module chop_reorder #(
  parameter int unsigned            ElementWidth = 8,
  parameter int unsigned            InLanes      = 2,
  parameter int unsigned            OutLanes     = 2,
  parameter logic [OutLanes*32-1:0] LaneMap      = {32'd1, {(OutLanes - 1){32'd0}}},
  parameter int unsigned            Beats        = 4,
  parameter int unsigned            First        = 0,
  parameter int unsigned            Levels       = 1,
  parameter logic [Levels*32-1:0]   Counts       = {Levels{32'd4}},
  parameter logic [Levels*32+31:0]  Moves        = {-32'd3, {Levels{32'd1}}},
  parameter int unsigned            Depth        = 8
) (
  input  logic                             clk_i,
  input  logic                             rst_ni,
  input  logic [InLanes*ElementWidth-1:0]  x_data_i,
  input  logic                             x_valid_i,
  output logic                             x_ready_o,
  output logic [OutLanes*ElementWidth-1:0] y_data_o,
  output logic                             y_valid_o,
  input  logic                             y_ready_i
);
  if (InLanes < 1 || OutLanes < 1) begin : gen_check_lanes
    $error("chop_reorder: InLanes and OutLanes must be >= 1");
  end
  if (Depth < Beats) begin : gen_check_depth
    $error("chop_reorder: Depth must be >= Beats");
  end

  // ---- What is stored, from the block's first beat on ----

  localparam int unsigned CountWidth = chop_pkg::count_width(Depth);
  logic [CountWidth-1:0] stored_q, needed;
  logic accept, step, step_last, done;
  assign x_ready_o = (stored_q != CountWidth'(Depth));
  assign accept    = x_valid_i && x_ready_o;
  assign done      = step && step_last;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) stored_q <= '0;
    else stored_q <= stored_q + CountWidth'(accept) - (done ? CountWidth'(Beats) : '0);
  end

  // ---- The place of the step in the block ----

  localparam int unsigned PlaceWidth = chop_pkg::index_width(Beats);
  logic [PlaceWidth-1:0] place_q, move;
  assign needed = step_last ? CountWidth'(Beats - 1) : CountWidth'(place_q);

  chop_walk #(
    .Levels(Levels),
    .Width (PlaceWidth),
    .Counts(Counts),
    .Moves (Moves)
  ) u_walk (
    .clk_i (clk_i),
    .rst_ni(rst_ni),
    .step_i(step),
    .last_o(step_last),
    .move_o(move)
  );

  always_ff @(posedge clk_i) begin
    if (!rst_ni) place_q <= PlaceWidth'(First);
    else if (step) place_q <= place_q + move;
  end

  // ---- Memory: a circle of Depth beats; base_q is the block's first ----

  localparam int unsigned AddressWidth = chop_pkg::index_width(Depth);
  logic [AddressWidth-1:0] write_q, base_q;
  logic [AddressWidth:0]   read, read_round, base, base_round;
  logic [InLanes*ElementWidth-1:0] word;

  assign read       = {1'b0, base_q} + (AddressWidth + 1)'(place_q);
  assign read_round = read - (AddressWidth + 1)'(Depth);
  assign base       = {1'b0, base_q} + (AddressWidth + 1)'(Beats % Depth);
  assign base_round = base - (AddressWidth + 1)'(Depth);

  always_ff @(posedge clk_i) begin
    if (!rst_ni) write_q <= '0;
    else if (accept) write_q <= (write_q == AddressWidth'(Depth - 1)) ? '0 : write_q + 1'b1;
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) base_q <= '0;
    else if (done) begin
      base_q <= (base >= (AddressWidth + 1)'(Depth)) ? base_round[AddressWidth-1:0]
                                                     : base[AddressWidth-1:0];
    end
  end

  chop_ram #(
    .Width(InLanes * ElementWidth),
    .Depth(Depth)
  ) u_ram (
    .clk_i          (clk_i),
    .write_i        (accept),
    .write_address_i(write_q),
    .write_data_i   (x_data_i),
    .read_i         (step),
    .read_address_i ((read >= (AddressWidth + 1)'(Depth)) ? read_round[AddressWidth-1:0]
                                                          : read[AddressWidth-1:0]),
    .read_data_o    (word)
  );

  // ---- Output: the memory's register ----

  logic valid_q;
  assign step      = (stored_q > needed) && (!valid_q || y_ready_i);
  assign y_valid_o = valid_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) valid_q <= 1'b0;
    else if (!valid_q || y_ready_i) valid_q <= step;
  end

  for (genvar i = 0; i < OutLanes; i = i + 1) begin : gen_lane
    assign y_data_o[i*ElementWidth +: ElementWidth] =
        word[LaneMap[i*32 +: 32]*ElementWidth +: ElementWidth];
  end

  logic unused;
  assign unused = ^{word, LaneMap, read_round[AddressWidth], base_round[AddressWidth]};
endmodule
