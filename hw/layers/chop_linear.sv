// y = W x + b, exactly, by blocks of InLanes x OutLanes products. OutWidth bits two's complement:
// sums wrap inside, the result is known to fit. Products are shifted left by ProductShift before
// the accumulation, so that the bias may have a finer scale.
//
// NI = InFeatures/InLanes beats in, NO = OutFeatures/OutLanes beats out, NI*NO cycles per sample,
// one step each:
//   InputStationary 0: output group outer, input beat inner; OutLanes accumulators
//   InputStationary 1: input beat outer, output group inner; a memory of NO partial sums
// WeightFile: a word per step, in step order, weight [o*InLanes + i] of output lane o and input
// lane i. BiasFile: a word of OutLanes values per output group.
//
// A beat accepted in cycle a may be used by a step from a+1 on. A step that completes an output
// group, issued in cycle s, has its beat valid in s + RomLatency + 2 +
// ceil(clog2(InLanes)/LevelsPerStage). It issues only with one of OutDepth credits, which the
// output handshake returns for the next cycle, so the datapath never stalls. No combinational path
// between the two streams, nor from valid to ready or back.
module chop_linear #(
  parameter int unsigned InFeatures      = 8,
  parameter int unsigned OutFeatures     = 8,
  parameter int unsigned InLanes         = 2,
  parameter int unsigned OutLanes        = 2,
  parameter int unsigned InWidth         = 8,
  parameter bit          InSigned        = 1'b1,
  parameter int unsigned WeightWidth     = 8,
  parameter int unsigned BiasWidth       = 16,
  parameter int unsigned OutWidth        = 20,
  parameter int unsigned ProductShift    = 0,
  parameter bit          InputStationary = 1'b0,
  parameter int unsigned InDepth         = 8,
  parameter int unsigned OutDepth        = 2,
  parameter int unsigned LevelsPerStage  = 1,
  parameter int unsigned RomLatency      = 1,
  parameter              RomStyle        = "auto",
  parameter              WeightFile      = "",
  parameter              BiasFile        = "",
  parameter bit          HasBias         = 1'b1
) (
  input  logic                         clk_i,
  input  logic                         rst_ni,
  input  logic [InLanes*InWidth-1:0]   x_data_i,
  input  logic                         x_valid_i,
  output logic                         x_ready_o,
  output logic [OutLanes*OutWidth-1:0] y_data_o,
  output logic                         y_valid_o,
  input  logic                         y_ready_i
);
  if (InFeatures % InLanes != 0 || OutFeatures % OutLanes != 0) begin : gen_check_lanes
    $error("chop_linear: InLanes must divide InFeatures, and OutLanes OutFeatures");
  end
  if (HasBias && BiasWidth > OutWidth) begin : gen_check_bias
    $error("chop_linear: BiasWidth must be <= OutWidth");
  end

  localparam int unsigned InBeats  = InFeatures / InLanes;
  localparam int unsigned OutBeats = OutFeatures / OutLanes;
  localparam int unsigned Steps    = InBeats * OutBeats;

  // Bits above OutWidth cannot reach the sum, so products and tree drop them.
  localparam int unsigned FullWidth = InWidth + WeightWidth;
  localparam int unsigned TermWidth = (OutWidth > ProductShift) ? OutWidth - ProductShift : 1;
  localparam int unsigned ProductWidth = chop_pkg::min(FullWidth, TermWidth);
  localparam int unsigned TreeWidth = chop_pkg::min(FullWidth + $clog2(InLanes), TermWidth);

  // Cycles from a step's issue to its accumulation: memories, product register, adder tree.
  localparam int unsigned TreeLatency = chop_pkg::ceil_div($clog2(InLanes), LevelsPerStage);
  localparam int unsigned Stages      = RomLatency + 1 + TreeLatency;

  // ---- Issue: one step per cycle ----

  logic step, step_valid, step_first, step_last;
  logic beat_first, beat_last, repeat_last;
  logic [InLanes*InWidth-1:0] x_read;

  chop_replay_buffer #(
    .Width  (InLanes * InWidth),
    .Beats  (InputStationary ? 1 : InBeats),
    .Repeats(OutBeats),
    .Depth  (InDepth)
  ) u_replay (
    .clk_i        (clk_i),
    .rst_ni       (rst_ni),
    .valid_i      (x_valid_i),
    .ready_o      (x_ready_o),
    .data_i       (x_data_i),
    .step_valid_o (step_valid),
    .step_i       (step),
    .beat_first_o (beat_first),
    .beat_last_o  (beat_last),
    .repeat_last_o(repeat_last),
    .data_o       (x_read)
  );

  if (InputStationary && InBeats > 1) begin : gen_outer_beats
    localparam int unsigned BeatWidth = chop_pkg::index_width(InBeats);
    logic [BeatWidth-1:0] beat_q;
    assign step_first = (beat_q == '0);
    assign step_last  = (beat_q == BeatWidth'(InBeats - 1));
    always_ff @(posedge clk_i) begin
      if (!rst_ni) beat_q <= '0;
      else if (step && repeat_last) beat_q <= step_last ? '0 : beat_q + 1'b1;
    end
    logic unused;
    assign unused = ^{beat_first, beat_last};
  end else begin : gen_inner_beats
    assign step_first = beat_first;
    assign step_last  = beat_last;
    logic unused;
    assign unused = repeat_last;
  end

  // A free credit is a free place in the output queue that no step in flight has claimed.
  localparam int unsigned CreditWidth = chop_pkg::count_width(OutDepth);
  logic [CreditWidth-1:0] credits_q;
  logic claim, refund;
  assign step   = step_valid && (!step_last || credits_q != '0);
  assign claim  = step && step_last;
  assign refund = y_valid_o && y_ready_i;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) credits_q <= CreditWidth'(OutDepth);
    // Adding all ones counts down, in the same adder.
    else if (claim != refund) credits_q <= credits_q + (refund ? CreditWidth'(1) : '1);
  end

  // Control runs beside the data: bit k describes the step issued k+1 cycles ago.
  logic [Stages-1:0] valid_q, first_q, last_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) valid_q <= '0;
    else valid_q <= {valid_q[Stages-2:0], step};
  end
  always_ff @(posedge clk_i) begin
    first_q <= {first_q[Stages-2:0], step_first};
    last_q  <= {last_q[Stages-2:0], step_last};
  end

  // ---- Weights and inputs of the step ----

  localparam int unsigned StepWidth = chop_pkg::index_width(Steps);
  logic [StepWidth-1:0] step_q;
  logic [OutLanes*InLanes*WeightWidth-1:0] weights;
  logic [InLanes*InWidth-1:0] x;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) step_q <= '0;
    else if (step) step_q <= (step_q == StepWidth'(Steps - 1)) ? '0 : step_q + 1'b1;
  end

  chop_rom #(
    .Width  (OutLanes * InLanes * WeightWidth),
    .Depth  (Steps),
    .File   (WeightFile),
    .Latency(RomLatency),
    .Style  (RomStyle)
  ) u_weights (
    .clk_i    (clk_i),
    .en_i     (step),
    .address_i(step_q),
    .data_o   (weights)
  );

  if (RomLatency == 1) begin : gen_x_direct
    assign x = x_read;
  end else begin : gen_x_delayed
    always_ff @(posedge clk_i) x <= x_read;
  end

  // ---- Products, summed over the input lanes ----

  localparam int unsigned XWidth = InSigned ? InWidth : InWidth + 1;
  logic [OutLanes*OutWidth-1:0] terms;

  for (genvar o = 0; o < OutLanes; o = o + 1) begin : gen_out
    logic [InLanes*ProductWidth-1:0] products;
    logic signed [TreeWidth-1:0] sum;

    for (genvar i = 0; i < InLanes; i = i + 1) begin : gen_in
      logic signed [XWidth-1:0]       x_lane;
      logic signed [WeightWidth-1:0]  weight;
      logic signed [ProductWidth-1:0] product_q;
      if (InSigned) begin : gen_signed
        assign x_lane = x[i*InWidth +: InWidth];
      end else begin : gen_unsigned
        assign x_lane = {1'b0, x[i*InWidth +: InWidth]};
      end
      assign weight  = weights[(o*InLanes+i)*WeightWidth +: WeightWidth];
      always_ff @(posedge clk_i) begin
        product_q <= ProductWidth'(FullWidth'(x_lane) * FullWidth'(weight));
      end
      assign products[i*ProductWidth +: ProductWidth] = product_q;
    end

    chop_adder_tree #(
      .Inputs        (InLanes),
      .InWidth       (ProductWidth),
      .OutWidth      (TreeWidth),
      .LevelsPerStage(LevelsPerStage)
    ) u_tree (
      .clk_i (clk_i),
      .data_i(products),
      .sum_o (sum)
    );

    assign terms[o*OutWidth +: OutWidth] = OutWidth'(sum) << ProductShift;
  end

  // ---- Accumulation: the first step of a group starts from the bias ----

  logic first, last, sum_valid;
  assign first     = first_q[Stages-1];
  assign last      = last_q[Stages-1];
  assign sum_valid = valid_q[Stages-1];

  // The group that reaches the accumulation in the next cycle, so that its bias and partial sum are
  // read for then.
  localparam int unsigned GroupWidth = chop_pkg::index_width(OutBeats);
  logic [GroupWidth-1:0] group_q;
  logic group_done;
  assign group_done = valid_q[Stages-2] && (InputStationary || last_q[Stages-2]);
  always_ff @(posedge clk_i) begin
    if (!rst_ni) group_q <= '0;
    else if (group_done) group_q <= (group_q == GroupWidth'(OutBeats - 1)) ? '0 : group_q + 1'b1;
  end

  logic [OutLanes*OutWidth-1:0] biases, partials, sums;

  if (HasBias) begin : gen_bias
    logic [OutLanes*BiasWidth-1:0] word;
    chop_rom #(
      .Width(OutLanes * BiasWidth),
      .Depth(OutBeats),
      .File (BiasFile)
    ) u_biases (
      .clk_i    (clk_i),
      .en_i     (valid_q[Stages-2] && first_q[Stages-2]),
      .address_i(group_q),
      .data_o   (word)
    );
    for (genvar o = 0; o < OutLanes; o = o + 1) begin : gen_out
      logic signed [BiasWidth-1:0] bias;
      assign bias = word[o*BiasWidth +: BiasWidth];
      assign biases[o*OutWidth +: OutWidth] = OutWidth'(bias);
    end
  end else begin : gen_no_bias
    assign biases = '0;
  end

  if (InBeats == 1) begin : gen_no_partials
    assign partials = '0;
  end else if (InputStationary && OutBeats > 1) begin : gen_memory
    // A group's next read is OutBeats >= 2 cycles after this one, so after this one's write.
    logic [GroupWidth-1:0] write_group_q;
    always_ff @(posedge clk_i) write_group_q <= group_q;
    chop_ram #(
      .Width(OutLanes * OutWidth),
      .Depth(OutBeats)
    ) u_partials (
      .clk_i          (clk_i),
      .write_i        (sum_valid),
      .write_address_i(write_group_q),
      .write_data_i   (sums),
      .read_i         (valid_q[Stages-2]),
      .read_address_i (group_q),
      .read_data_o    (partials)
    );
  end else begin : gen_register
    logic [OutLanes*OutWidth-1:0] sums_q;
    always_ff @(posedge clk_i) begin
      if (sum_valid) sums_q <= sums;
    end
    assign partials = sums_q;
  end

  for (genvar o = 0; o < OutLanes; o = o + 1) begin : gen_sum
    logic [OutWidth-1:0] start;
    if (InBeats == 1) begin : gen_single
      assign start = biases[o*OutWidth +: OutWidth];
    end else begin : gen_multiple
      assign start = first ? biases[o*OutWidth +: OutWidth] : partials[o*OutWidth +: OutWidth];
    end
    // The term first: synthesis then absorbs the choice of the start into the carry chain's LUTs.
    assign sums[o*OutWidth +: OutWidth] = terms[o*OutWidth +: OutWidth] + start;
  end

  if (InBeats == 1) begin : gen_unused_partials
    logic unused;
    assign unused = ^{first, partials};
  end

  logic unused_ready;
  chop_fifo #(
    .Width(OutLanes * OutWidth),
    .Depth(OutDepth)
  ) u_queue (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .valid_i(sum_valid && last),
    .ready_o(unused_ready),
    .data_i (sums),
    .valid_o(y_valid_o),
    .ready_i(y_ready_i),
    .data_o (y_data_o)
  );
endmodule
