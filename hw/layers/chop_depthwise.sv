// A convolution of every channel by itself: the windows of chop_window, of which Lanes channels
// meet Lanes x Multiplier rows of weights a cycle; channel c gives the outputs c*Multiplier to
// c*Multiplier + Multiplier - 1, channels innermost. Exactly: SumWidth bits two's complement, sums
// wrap inside, the result is known to fit. Products are shifted left by ProductShift before the
// accumulation, so that the bias may have a finer scale.
//   Parallel 0: one tap a cycle, T = KernelHeight*KernelWidth cycles for an output beat; windows by
//     channel beat, kh, kw; Lanes*Multiplier products
//   Parallel 1: all taps a cycle; T*Lanes*Multiplier products
// A beat is OutLanes = Lanes*Multiplier outputs. WeightFile: a word per step of a window, in step
// order, weight [o*P + t] of output lane o and tap lane t of P (1, or T), a code of WeightWidth
// bits that chop_product reads. BiasFile: a word of OutLanes values per output beat of a window.
// For every kind but integer they make up for what a product leaves out, as in chop_linear.
//
// A step takes a beat of the windows in the cycle in which it is valid. One that completes an
// output beat, in cycle s, has it valid in s + RomLatency + 2 + ceil(clog2(P)/LevelsPerStage), plus
// 1 for minifloat. It needs one of OutDepth credits, which the output handshake returns for the
// next cycle; without one the windows wait. No combinational path between the two streams, nor from
// valid to ready or back.
module chop_depthwise #(
  parameter int unsigned Channels       = 4,
  parameter int unsigned Lanes          = 2,
  parameter int unsigned Multiplier     = 1,
  parameter int unsigned Height         = 6,
  parameter int unsigned Width          = 6,
  parameter int unsigned KernelHeight   = 3,
  parameter int unsigned KernelWidth    = 3,
  parameter int unsigned StrideHeight   = 1,
  parameter int unsigned StrideWidth    = 1,
  parameter int unsigned DilationHeight = 1,
  parameter int unsigned DilationWidth  = 1,
  parameter int unsigned PadTop         = 1,
  parameter int unsigned PadLeft        = 1,
  parameter int unsigned OutHeight      = 6,
  parameter int unsigned OutWidth       = 6,
  parameter bit          Parallel       = 1'b0,
  parameter int unsigned Depth          = 36,
  parameter int unsigned InWidth        = 8,
  parameter bit          InSigned       = 1'b1,
  parameter              WeightKind     = "integer",
  parameter int unsigned WeightWidth    = 8,
  parameter int unsigned MantissaWidth  = 0,
  parameter int unsigned FullWidth      = InWidth + WeightWidth,
  parameter int unsigned BiasWidth      = 16,
  parameter int unsigned SumWidth       = 20,
  parameter int unsigned ProductShift   = 0,
  parameter int unsigned OutDepth       = 2,
  parameter int unsigned LevelsPerStage = 1,
  parameter int unsigned RomLatency     = 1,
  parameter              RomStyle       = "auto",
  parameter              WeightFile     = "",
  parameter              BiasFile       = "",
  parameter bit          HasBias        = 1'b1,
  localparam int unsigned OutLanes = Lanes * Multiplier
) (
  input  logic                         clk_i,
  input  logic                         rst_ni,
  input  logic [Lanes*InWidth-1:0]     x_data_i,
  input  logic                         x_valid_i,
  output logic                         x_ready_o,
  output logic [OutLanes*SumWidth-1:0] y_data_o,
  output logic                         y_valid_o,
  input  logic                         y_ready_i
);
  if (Multiplier < 1 || Lanes < 1) begin : gen_check_lanes
    $error("chop_depthwise: Lanes and Multiplier must be >= 1");
  end
  if (HasBias && BiasWidth > SumWidth) begin : gen_check_bias
    $error("chop_depthwise: BiasWidth must be <= SumWidth");
  end

  localparam int unsigned Taps     = KernelHeight * KernelWidth;
  localparam int unsigned TapLanes = Parallel ? Taps : 1;
  localparam int unsigned SumSteps = Parallel ? 1 : Taps;
  localparam int unsigned OutBeats = Channels / Lanes;
  localparam int unsigned Steps    = SumSteps * OutBeats;

  // Text of equal widths, as the comparison wants it.
  localparam bit IsXnor = (128'(WeightKind) == 128'("xnor"));

  // Bits above SumWidth cannot reach the sum, so products and tree drop them.
  localparam int unsigned TermWidth = (SumWidth > ProductShift) ? SumWidth - ProductShift : 1;
  localparam int unsigned ProductWidth = chop_pkg::min(FullWidth, TermWidth);

  // Cycles from a step to its accumulation: memories, product, adder tree.
  localparam int unsigned ProductLatency = (128'(WeightKind) == 128'("minifloat")) ? 2 : 1;
  localparam int unsigned TreeLatency    = chop_pkg::ceil_div($clog2(TapLanes), LevelsPerStage);
  localparam int unsigned Stages         = RomLatency + ProductLatency + TreeLatency;

  // ---- Windows ----

  localparam int unsigned InLanes = TapLanes * Lanes;
  logic [InLanes*InWidth-1:0] window;
  logic window_valid, step;

  chop_window #(
    .ElementWidth  (InWidth),
    .Channels      (Channels),
    .Lanes         (Lanes),
    .Height        (Height),
    .Width         (Width),
    .KernelHeight  (KernelHeight),
    .KernelWidth   (KernelWidth),
    .StrideHeight  (StrideHeight),
    .StrideWidth   (StrideWidth),
    .DilationHeight(DilationHeight),
    .DilationWidth (DilationWidth),
    .PadTop        (PadTop),
    .PadLeft       (PadLeft),
    .OutHeight     (OutHeight),
    .OutWidth      (OutWidth),
    .Parallel      (Parallel),
    .ChannelOuter  (!Parallel),
    .Depth         (Depth)
  ) u_window (
    .clk_i    (clk_i),
    .rst_ni   (rst_ni),
    .x_data_i (x_data_i),
    .x_valid_i(x_valid_i),
    .x_ready_o(x_ready_o),
    .y_data_o (window),
    .y_valid_o(window_valid),
    .y_ready_i(step)
  );

  // ---- Steps: one per beat of a window ----

  logic step_first, step_last;
  chop_loop #(
    .Count(SumSteps)
  ) u_taps (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .step_i (step),
    .first_o(step_first),
    .last_o (step_last)
  );

  // A free credit is a free place in the output queue that no step in flight has claimed.
  localparam int unsigned CreditWidth = chop_pkg::count_width(OutDepth);
  logic [CreditWidth-1:0] credits_q;
  logic claim, refund;
  assign step   = window_valid && (!step_last || credits_q != '0);
  assign claim  = step && step_last;
  assign refund = y_valid_o && y_ready_i;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) credits_q <= CreditWidth'(OutDepth);
    // Adding all ones counts down, in the same adder.
    else if (claim != refund) credits_q <= credits_q + (refund ? CreditWidth'(1) : '1);
  end

  // Control runs beside the data: bit k describes the step k+1 cycles ago.
  logic [Stages-1:0] valid_q, first_q, last_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) valid_q <= '0;
    else valid_q <= {valid_q[Stages-2:0], step};
  end
  always_ff @(posedge clk_i) begin
    first_q <= {first_q[Stages-2:0], step_first};
    last_q  <= {last_q[Stages-2:0], step_last};
  end

  // ---- Weights and inputs of the step; of +-1 the signs are kept ----

  localparam int unsigned LaneWidth = IsXnor ? 1 : InWidth;
  localparam int unsigned StepWidth = chop_pkg::index_width(Steps);
  logic [StepWidth-1:0]                         step_q;
  logic [OutLanes*TapLanes*WeightWidth-1:0]     weights;
  logic [RomLatency*InLanes*LaneWidth-1:0]      stored_q;
  logic [InLanes*LaneWidth-1:0]                 kept, x;

  for (genvar i = 0; i < InLanes; i = i + 1) begin : gen_kept
    assign kept[i*LaneWidth +: LaneWidth] = window[i*InWidth + InWidth - LaneWidth +: LaneWidth];
  end
  if (LaneWidth != InWidth) begin : gen_unused_bits
    logic unused;
    assign unused = ^window;
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) step_q <= '0;
    else if (step) step_q <= (step_q == StepWidth'(Steps - 1)) ? '0 : step_q + 1'b1;
  end

  chop_rom #(
    .Width  (OutLanes * TapLanes * WeightWidth),
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

  always_ff @(posedge clk_i) begin
    stored_q <= (RomLatency * InLanes * LaneWidth)'({stored_q, kept});
  end
  assign x = stored_q[(RomLatency-1)*InLanes*LaneWidth +: InLanes*LaneWidth];

  // ---- Products, summed over the tap lanes ----

  logic [OutLanes*SumWidth-1:0] terms;

  for (genvar o = 0; o < OutLanes; o = o + 1) begin : gen_out
    logic [TapLanes*ProductWidth-1:0] products;
    logic [TermWidth-1:0]             sum;

    for (genvar t = 0; t < TapLanes; t = t + 1) begin : gen_tap
      localparam int unsigned Element = t * Lanes + o / Multiplier;
      logic [ProductWidth-1:0] product, product_q;
      chop_product #(
        .Kind         (WeightKind),
        .InWidth      (LaneWidth),
        .InSigned     (InSigned),
        .WeightWidth  (WeightWidth),
        .MantissaWidth(MantissaWidth),
        .OutWidth     (ProductWidth)
      ) u_product (
        .clk_i    (clk_i),
        .x_i      (x[Element*LaneWidth +: LaneWidth]),
        .weight_i (weights[(o*TapLanes+t)*WeightWidth +: WeightWidth]),
        .product_o(product)
      );
      always_ff @(posedge clk_i) product_q <= product;
      assign products[t*ProductWidth +: ProductWidth] = product_q;
    end

    chop_adder_tree #(
      .Inputs        (TapLanes),
      .InWidth       (ProductWidth),
      .OutWidth      (TermWidth),
      .Signed        (!IsXnor),
      .LevelsPerStage(LevelsPerStage)
    ) u_tree (
      .clk_i (clk_i),
      .data_i(products),
      .sum_o (sum)
    );

    assign terms[o*SumWidth +: SumWidth] = SumWidth'(sum) << ProductShift;
  end

  // ---- Accumulation: the first step of a sum starts from the bias ----

  logic [OutLanes*SumWidth-1:0] biases, sums;
  logic sum_valid, last;
  assign sum_valid = valid_q[Stages-1];
  assign last      = last_q[Stages-1];

  if (HasBias) begin : gen_bias
    localparam int unsigned BeatWidth = chop_pkg::index_width(OutBeats);
    logic [OutLanes*BiasWidth-1:0] word;
    logic [BeatWidth-1:0]          beat_q;
    logic                          read;
    assign read = valid_q[Stages-2] && first_q[Stages-2];
    always_ff @(posedge clk_i) begin
      if (!rst_ni) beat_q <= '0;
      else if (read) beat_q <= (beat_q == BeatWidth'(OutBeats - 1)) ? '0 : beat_q + 1'b1;
    end
    chop_rom #(
      .Width(OutLanes * BiasWidth),
      .Depth(OutBeats),
      .File (BiasFile)
    ) u_biases (
      .clk_i    (clk_i),
      .en_i     (read),
      .address_i(beat_q),
      .data_o   (word)
    );
    for (genvar o = 0; o < OutLanes; o = o + 1) begin : gen_out
      logic signed [BiasWidth-1:0] bias;
      assign bias = word[o*BiasWidth +: BiasWidth];
      assign biases[o*SumWidth +: SumWidth] = SumWidth'(bias);
    end
  end else begin : gen_no_bias
    assign biases = '0;
  end

  if (SumSteps == 1) begin : gen_single
    for (genvar o = 0; o < OutLanes; o = o + 1) begin : gen_out
      assign sums[o*SumWidth +: SumWidth] =
          terms[o*SumWidth +: SumWidth] + biases[o*SumWidth +: SumWidth];
    end
    logic unused;
    assign unused = ^first_q;
  end else begin : gen_multiple
    logic [OutLanes*SumWidth-1:0] sums_q;
    always_ff @(posedge clk_i) begin
      if (sum_valid) sums_q <= sums;
    end
    for (genvar o = 0; o < OutLanes; o = o + 1) begin : gen_out
      // The term first: synthesis then absorbs the choice of the start into the carry chain's LUTs.
      assign sums[o*SumWidth +: SumWidth] = terms[o*SumWidth +: SumWidth]
          + (first_q[Stages-1] ? biases[o*SumWidth +: SumWidth] : sums_q[o*SumWidth +: SumWidth]);
    end
  end

  logic unused_ready;
  chop_fifo #(
    .Width(OutLanes * SumWidth),
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
