// Sums, maxima or minima over axes of a stream, exactly: a sample is OuterSteps x Groups x
// InnerSteps x Beats beats, the last innermost, and of every (group, beat) the OuterSteps x
// InnerSteps beats become one. A beat of x holds Taps times Lanes elements (tap, lane), whose taps
// become one too. Results leave in the order (group, beat), as
// y = saturate(round(value * 2^(ShiftLeft - ShiftRight))).
//   Kind 0: sums of SumWidth bits, which are known to fit; 1: maxima; 2: minima
// Groups x Beats partial results are kept: in registers if that is one, else in a memory.
//
// The last beat of a result is valid at y after S + 1 cycles, S = max(1, ceil(clog2(Taps) /
// LevelsPerStage)): S stages join the taps, the last one joins the beats and rounds. One beat per
// cycle. Each stage accepts when it is empty or its beat moves on, so x_ready_o is combinational in
// y_ready_i; valid and data are registers.
module chop_reduce #(
  parameter int unsigned Kind           = 0,
  parameter int unsigned Taps           = 2,
  parameter int unsigned Lanes          = 2,
  parameter int unsigned OuterSteps     = 2,
  parameter int unsigned Groups         = 2,
  parameter int unsigned InnerSteps     = 2,
  parameter int unsigned Beats          = 2,
  parameter int unsigned InWidth        = 8,
  parameter bit          InSigned       = 1'b1,
  parameter int unsigned SumWidth       = 12,
  parameter bit          SumSigned      = 1'b1,
  parameter int unsigned OutWidth       = 12,
  parameter bit          OutSigned      = 1'b1,
  parameter int unsigned ShiftRight     = 0,
  parameter int unsigned ShiftLeft      = 0,
  parameter int unsigned Rounding       = 0,
  parameter int unsigned LevelsPerStage = 2,
  localparam int unsigned InLanes = Taps * Lanes
) (
  input  logic                       clk_i,
  input  logic                       rst_ni,
  input  logic [InLanes*InWidth-1:0] x_data_i,
  input  logic                       x_valid_i,
  output logic                       x_ready_o,
  output logic [Lanes*OutWidth-1:0]  y_data_o,
  output logic                       y_valid_o,
  input  logic                       y_ready_i
);
  if (Kind > 2) begin : gen_check_kind
    $error("chop_reduce: Kind must be 0, 1 or 2");
  end
  if (Taps < 1 || Lanes < 1 || LevelsPerStage < 1) begin : gen_check_lanes
    $error("chop_reduce: Taps, Lanes and LevelsPerStage must be >= 1");
  end
  if (Kind == 0 && SumWidth < InWidth) begin : gen_check_width
    $error("chop_reduce: SumWidth must be >= InWidth");
  end

  localparam int unsigned Levels = $clog2(Taps);
  localparam int unsigned Stages = chop_pkg::max(1, chop_pkg::ceil_div(Levels, LevelsPerStage));
  localparam int unsigned Width  = (Kind == 0) ? SumWidth : InWidth;
  localparam bit          Signed = (Kind == 0) ? SumSigned : InSigned;

  // ---- Control: a stage is ready where it, or one behind it, is empty, or the last one's beat
  // moves on ----

  logic [Stages-1:0] valid_q, ready, load;
  logic              step, last_ready;
  for (genvar s = 0; s < Stages; s = s + 1) begin : gen_stage
    assign ready[s] = last_ready || !(&valid_q[Stages-1:s]);
    if (s == 0) begin : gen_first
      assign load[s] = x_valid_i && ready[s];
    end else begin : gen_next
      assign load[s] = valid_q[s-1] && ready[s];
    end
    always_ff @(posedge clk_i) begin
      if (!rst_ni) valid_q[s] <= 1'b0;
      else if (load[s]) valid_q[s] <= 1'b1;
      else if (ready[s]) valid_q[s] <= 1'b0;
    end
  end
  assign x_ready_o = ready[0];

  // ---- The taps of a beat: level k holds ceil(Taps / 2^k) values of each lane ----

  for (genvar k = 0; k <= Levels; k = k + 1) begin : gen_level
    localparam int unsigned Nodes     = chop_pkg::ceil_div(Taps, 1 << k);
    localparam int unsigned NodeWidth = (Kind == 0) ? chop_pkg::min(InWidth + k, Width) : InWidth;
    localparam int unsigned Stage     = (k == 0) ? 0 : (k - 1) / LevelsPerStage;
    logic [Nodes*Lanes*NodeWidth-1:0] values, values_d;

    if (k == 0) begin : gen_inputs
      assign values_d = x_data_i;
    end else begin : gen_nodes
      localparam int unsigned Below      = chop_pkg::ceil_div(Taps, 1 << (k - 1));
      localparam int unsigned BelowWidth =
          (Kind == 0) ? chop_pkg::min(InWidth + k - 1, Width) : InWidth;
      for (genvar i = 0; i < Nodes * Lanes; i = i + 1) begin : gen_node
        localparam int unsigned Left  = (i / Lanes) * 2 * Lanes + i % Lanes;
        localparam int unsigned Right = Left + Lanes;
        logic [BelowWidth-1:0] a_below, b_below;
        logic [NodeWidth-1:0]  value;
        assign a_below = gen_level[k-1].values[Left*BelowWidth +: BelowWidth];
        if (Right < Below * Lanes) begin : gen_pair
          assign b_below = gen_level[k-1].values[Right*BelowWidth +: BelowWidth];
        end else begin : gen_odd
          assign b_below = (Kind == 0) ? '0 : a_below;
        end
        if (Kind == 0) begin : gen_sum
          logic [NodeWidth-1:0] a, b;
          // Kept as it is, as in chop_adder_tree.
          (* keep *) logic [NodeWidth-1:0] sum;
          if (NodeWidth > BelowWidth) begin : gen_wider
            assign a = {InSigned && a_below[BelowWidth-1], a_below};
            assign b = {InSigned && b_below[BelowWidth-1], b_below};
          end else begin : gen_wrapped
            assign a = a_below;
            assign b = b_below;
          end
          assign sum   = a + b;
          assign value = sum;
        end else begin : gen_extreme
          logic greater;
          if (InSigned) begin : gen_signed
            assign greater = $signed(a_below) > $signed(b_below);
          end else begin : gen_unsigned
            assign greater = a_below > b_below;
          end
          assign value = (greater == (Kind == 1)) ? a_below : b_below;
        end
        assign values_d[i*NodeWidth +: NodeWidth] = value;
      end
    end

    if ((k > 0 && k % LevelsPerStage == 0) || k == Levels) begin : gen_register
      always_ff @(posedge clk_i) begin
        if (load[Stage]) values <= values_d;
      end
    end else begin : gen_wires
      assign values = values_d;
    end
  end

  localparam int unsigned TermWidth =
      (Kind == 0) ? chop_pkg::min(InWidth + Levels, Width) : InWidth;
  logic [Lanes*TermWidth-1:0] terms;
  assign terms = gen_level[Levels].values;

  // ---- The place of the beat that comes into the last stage ----

  logic enter, beat_last, inner_first, inner_last, group_last, outer_first, outer_last;
  logic [1:0] unused_first;
  assign enter = load[Stages-1];

  chop_loop #(
    .Count(Beats)
  ) u_beats (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .step_i (enter),
    .first_o(unused_first[0]),
    .last_o (beat_last)
  );
  chop_loop #(
    .Count(InnerSteps)
  ) u_inner (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .step_i (enter && beat_last),
    .first_o(inner_first),
    .last_o (inner_last)
  );
  chop_loop #(
    .Count(Groups)
  ) u_groups (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .step_i (enter && beat_last && inner_last),
    .first_o(unused_first[1]),
    .last_o (group_last)
  );
  chop_loop #(
    .Count(OuterSteps)
  ) u_outer (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .step_i (enter && beat_last && inner_last && group_last),
    .first_o(outer_first),
    .last_o (outer_last)
  );

  logic last_q, result_ready;
  always_ff @(posedge clk_i) begin
    if (enter) last_q <= outer_last && inner_last;
  end
  assign last_ready = !last_q || result_ready;
  assign step       = valid_q[Stages-1] && last_ready;

  // ---- What the beats before gave ----

  localparam int unsigned Partials = Groups * Beats;
  localparam bit          Repeats  = OuterSteps * InnerSteps > 1;
  logic [Lanes*Width-1:0] earlier, results;
  logic                   first;
  assign first = outer_first && inner_first;

  if (!Repeats) begin : gen_none
    assign earlier = '0;
    logic unused;
    assign unused = ^{first, step, earlier, unused_first};
  end else if (Partials == 1) begin : gen_one
    logic [Lanes*Width-1:0] results_q;
    always_ff @(posedge clk_i) begin
      if (step) results_q <= results;
    end
    assign earlier = results_q;
    logic unused;
    assign unused = ^unused_first;
  end else begin : gen_memory
    localparam int unsigned AddressWidth = chop_pkg::index_width(Partials);
    logic [AddressWidth-1:0] address_q, own_q;
    logic [Lanes*Width-1:0]  word;

    always_ff @(posedge clk_i) begin
      if (!rst_ni) begin
        address_q <= '0;
      end else if (enter) begin
        if (!beat_last) address_q <= address_q + 1'b1;
        else if (!inner_last) address_q <= address_q - AddressWidth'(Beats - 1);
        else address_q <= group_last ? '0 : address_q + 1'b1;
      end
    end
    always_ff @(posedge clk_i) begin
      if (enter) own_q <= address_q;
    end

    // Two beats of one result are two beats apart, so that the first is written before the second
    // is read; only those of one group follow each other at once where Beats is 1.
    chop_ram #(
      .Width(Lanes * Width),
      .Depth(Partials)
    ) u_partials (
      .clk_i          (clk_i),
      .write_i        (step && !last_q),
      .write_address_i(own_q),
      .write_data_i   (results),
      .read_i         (enter),
      .read_address_i (address_q),
      .read_data_o    (word)
    );

    if (Beats == 1 && InnerSteps > 1) begin : gen_follow
      logic [Lanes*Width-1:0] results_q;
      always_ff @(posedge clk_i) begin
        if (step) results_q <= results;
      end
      for (genvar i = 0; i < Lanes; i = i + 1) begin : gen_lane
        logic follows_q;
        (* keep *) always_ff @(posedge clk_i) if (enter) follows_q <= !inner_first;
        assign earlier[i*Width +: Width] =
            follows_q ? results_q[i*Width +: Width] : word[i*Width +: Width];
      end
    end else begin : gen_apart
      assign earlier = word;
    end
    logic unused;
    assign unused = ^unused_first;
  end

  for (genvar i = 0; i < Lanes; i = i + 1) begin : gen_lane
    logic [TermWidth-1:0] term;
    logic [Width-1:0]     a, b, value;
    assign term = terms[i*TermWidth +: TermWidth];
    assign b    = earlier[i*Width +: Width];
    if (Width > TermWidth) begin : gen_wider
      assign a = {{(Width - TermWidth){InSigned && term[TermWidth-1]}}, term};
    end else begin : gen_equal
      assign a = term;
    end
    if (!Repeats) begin : gen_alone
      assign value = a;
      logic unused;
      assign unused = ^b;
    end else if (Kind == 0) begin : gen_sum
      logic first_q;
      (* keep *) always_ff @(posedge clk_i) if (enter) first_q <= first;
      // The term first: synthesis then absorbs the choice into the carry chain's LUTs.
      assign value = a + (first_q ? '0 : b);
    end else begin : gen_extreme
      // Every lane has its flags for itself, kept apart: one register would be far from most.
      logic greater, first_q;
      (* keep *) always_ff @(posedge clk_i) if (enter) first_q <= first;
      if (InSigned) begin : gen_signed
        assign greater = $signed(a) > $signed(b);
      end else begin : gen_unsigned
        assign greater = a > b;
      end
      assign value = (first_q || greater == (Kind == 1)) ? a : b;
    end
    assign results[i*Width +: Width] = value;
  end

  chop_cast #(
    .Lanes     (Lanes),
    .InWidth   (Width),
    .InSigned  (Signed),
    .OutWidth  (OutWidth),
    .OutSigned (OutSigned),
    .ShiftRight(ShiftRight),
    .ShiftLeft (ShiftLeft),
    .Rounding  (Rounding)
  ) u_cast (
    .clk_i    (clk_i),
    .rst_ni   (rst_ni),
    .x_data_i (results),
    .x_valid_i(valid_q[Stages-1] && last_q),
    .x_ready_o(result_ready),
    .y_data_o (y_data_o),
    .y_valid_o(y_valid_o),
    .y_ready_i(y_ready_i)
  );
endmodule
