// y = W x + b, exactly, by blocks of InLanes x OutLanes products. OutWidth bits two's complement:
// sums wrap inside, the result is known to fit. Products are shifted left by ProductShift before
// the accumulation, so that the bias may have a finer scale.
//
// NI = InFeatures/InLanes beats in, NO = OutFeatures/OutLanes beats out, NI*NO cycles per sample,
// one step each:
//   InputStationary 0: output group outer, input beat inner; OutLanes accumulators
//   InputStationary 1: input beat outer, output group inner; a memory of NO partial sums
// WeightSets: vector v meets the weights and biases of set v modulo WeightSets (a convolution in
// groups); both files then hold one set after the other. SetVectors: so many vectors meet a set
// before the next one is due, and after SetRuns such runs set 0 is (a transposed convolution).
// WeightFile: a word per step, in step order, weight [o*InLanes + i] of output lane o and input
// lane i, a code of WeightWidth bits that chop_product reads (WeightKind, MantissaWidth). A product
// takes FullWidth bits. BiasFile: a word of OutLanes values per output group. For every kind but
// integer they make up for what a product leaves out: 1 for each weight with its sign set (not with
// block exponents), and for xnor, which counts the products that are 1, -InFeatures in all.
//
// Block exponents: with InExponentWidth an element of x is {exponent, number}, a beat has one
// exponent; with WeightExponentWidth a word of ExponentFile holds one per output lane. The sum over
// the input lanes is shifted left by them, in a stage of its own.
//
// A beat accepted in cycle a may be used by a step from a+1 on. A step that completes an output
// group, issued in cycle s, has its beat valid in s + RomLatency + ProductStages + 1 +
// ceil(clog2(InLanes)/LevelsPerStage), plus 1 with block exponents, plus 1 for minifloat. It issues
// only with one of OutDepth credits, which the output handshake returns for the next cycle, so the
// datapath never stalls. No combinational path between the two streams, nor from valid to ready or
// back.
module chop_linear #(
  parameter int unsigned InFeatures          = 8,
  parameter int unsigned OutFeatures         = 8,
  parameter int unsigned InLanes             = 2,
  parameter int unsigned OutLanes            = 2,
  parameter int unsigned WeightSets          = 1,
  parameter int unsigned SetVectors          = 1,
  parameter int unsigned SetRuns             = WeightSets,
  parameter int unsigned InWidth             = 8,
  parameter bit          InSigned            = 1'b1,
  parameter int unsigned InExponentWidth     = 0,
  parameter              WeightKind          = "integer",
  parameter int unsigned WeightWidth         = 8,
  parameter int unsigned MantissaWidth       = 0,
  parameter int unsigned WeightExponentWidth = 0,
  parameter int unsigned FullWidth           = InWidth + WeightWidth,
  parameter int unsigned BiasWidth           = 16,
  parameter int unsigned OutWidth            = 20,
  parameter int unsigned ProductShift        = 0,
  parameter bit          InputStationary     = 1'b0,
  parameter int unsigned InDepth             = 8,
  parameter int unsigned OutDepth            = 2,
  parameter int unsigned LevelsPerStage      = 1,
  parameter int unsigned RomLatency          = 1,
  parameter              RomStyle            = "auto",
  parameter int unsigned ProductStages       = 1,
  parameter              WeightFile          = "",
  parameter              ExponentFile        = "",
  parameter              BiasFile            = "",
  parameter bit          HasBias             = 1'b1,
  localparam int unsigned ElementWidth = InExponentWidth + InWidth
) (
  input  logic                            clk_i,
  input  logic                            rst_ni,
  input  logic [InLanes*ElementWidth-1:0] x_data_i,
  input  logic                            x_valid_i,
  output logic                            x_ready_o,
  output logic [OutLanes*OutWidth-1:0]    y_data_o,
  output logic                            y_valid_o,
  input  logic                            y_ready_i
);
  if (InFeatures % InLanes != 0 || OutFeatures % OutLanes != 0) begin : gen_check_lanes
    $error("chop_linear: InLanes must divide InFeatures, and OutLanes OutFeatures");
  end
  if (ProductStages != 1 && ProductStages != 2) begin : gen_check_stages
    $error("chop_linear: ProductStages must be 1 or 2");
  end
  if (HasBias && BiasWidth > OutWidth) begin : gen_check_bias
    $error("chop_linear: BiasWidth must be <= OutWidth");
  end

  localparam int unsigned InBeats  = InFeatures / InLanes;
  localparam int unsigned OutBeats = OutFeatures / OutLanes;
  localparam int unsigned Steps    = InBeats * OutBeats * WeightSets;

  // Text of equal widths, as the comparison wants it.
  localparam bit IsXnor   = (128'(WeightKind) == 128'("xnor"));
  localparam bit IsScaled = (InExponentWidth != 0) || (WeightExponentWidth != 0);

  // Bits above OutWidth cannot reach the sum, so products and tree drop them.
  localparam int unsigned TermWidth = (OutWidth > ProductShift) ? OutWidth - ProductShift : 1;
  localparam int unsigned ProductWidth = chop_pkg::min(FullWidth, TermWidth);

  // Cycles from a step's issue to its accumulation: memories, product, adder tree, shift.
  localparam int unsigned ProductLatency =
      ((128'(WeightKind) == 128'("minifloat")) ? 1 : 0) + ProductStages;
  localparam int unsigned TreeLatency    = chop_pkg::ceil_div($clog2(InLanes), LevelsPerStage);
  localparam int unsigned Stages = RomLatency + ProductLatency + TreeLatency + (IsScaled ? 1 : 0);

  // ---- What is kept of an input beat: of +-1 the signs, one exponent ----

  localparam int unsigned LaneWidth   = IsXnor ? 1 : InWidth;
  localparam int unsigned StoredWidth = InExponentWidth + InLanes * LaneWidth;
  logic [StoredWidth-1:0] x_stored;

  for (genvar i = 0; i < InLanes; i = i + 1) begin : gen_stored
    assign x_stored[i*LaneWidth +: LaneWidth] =
        x_data_i[i*ElementWidth + InWidth - LaneWidth +: LaneWidth];
  end
  if (InExponentWidth != 0) begin : gen_exponent
    assign x_stored[StoredWidth-1 -: InExponentWidth] = x_data_i[InWidth +: InExponentWidth];
  end
  if (StoredWidth != InLanes * ElementWidth) begin : gen_unused_data
    logic unused;
    assign unused = ^x_data_i;
  end

  // ---- Issue: one step per cycle ----

  logic step, step_valid, step_first, step_last;
  logic beat_first, beat_last, repeat_last;
  logic [StoredWidth-1:0] x_read;

  chop_replay_buffer #(
    .Width  (StoredWidth),
    .Beats  (InputStationary ? 1 : InBeats),
    .Repeats(OutBeats),
    .Depth  (InDepth)
  ) u_replay (
    .clk_i        (clk_i),
    .rst_ni       (rst_ni),
    .valid_i      (x_valid_i),
    .ready_o      (x_ready_o),
    .data_i       (x_stored),
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
  logic [Stages-1:0] valid_q, last_q;
  logic [Stages-2:0] first_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) valid_q <= '0;
    else valid_q <= {valid_q[Stages-2:0], step};
  end
  always_ff @(posedge clk_i) begin
    first_q <= (Stages - 1)'({first_q, step_first});
    last_q  <= {last_q[Stages-2:0], step_last};
  end

  // ---- Weights and inputs of the step ----

  localparam int unsigned StepWidth = chop_pkg::index_width(Steps);
  logic [StepWidth-1:0] step_address;
  logic [OutLanes*InLanes*WeightWidth-1:0] weights;

  chop_set_address #(
    .Words     (InBeats * OutBeats),
    .Sets      (WeightSets),
    .RunVectors(SetVectors),
    .Runs      (SetRuns)
  ) u_step (
    .clk_i    (clk_i),
    .rst_ni   (rst_ni),
    .step_i   (step),
    .address_o(step_address)
  );

  // The address stands still without a step, so that words in LUTs need no enable, which hundreds
  // of flip-flops would wait for.
  logic weights_read;
  assign weights_read = step || (128'(RomStyle) != 128'("block"));

  chop_rom #(
    .Width  (OutLanes * InLanes * WeightWidth),
    .Depth  (Steps),
    .File   (WeightFile),
    .Latency(RomLatency),
    .Style  (RomStyle)
  ) u_weights (
    .clk_i    (clk_i),
    .en_i     (weights_read),
    .address_i(step_address),
    .data_o   (weights)
  );

  logic [chop_pkg::max(OutLanes*WeightExponentWidth, 1)-1:0] exponents;
  if (WeightExponentWidth != 0) begin : gen_exponents
    chop_rom #(
      .Width  (OutLanes * WeightExponentWidth),
      .Depth  (Steps),
      .File   (ExponentFile),
      .Latency(RomLatency),
      .Style  (RomStyle)
    ) u_exponents (
      .clk_i    (clk_i),
      .en_i     (step),
      .address_i(step_address),
      .data_o   (exponents)
    );
  end else begin : gen_no_exponents
    assign exponents = '0;
    logic unused;
    assign unused = ^exponents;
  end

  // ---- Products, summed over the input lanes ----

  // Beside the weights' further registers, but for the last.
  logic [StoredWidth-1:0] x_late;
  if (RomLatency < 3) begin : gen_x_soon
    assign x_late = x_read;
  end else begin : gen_x_late
    logic [(RomLatency-2)*StoredWidth-1:0] late_q;
    always_ff @(posedge clk_i) late_q <= ((RomLatency-2)*StoredWidth)'({late_q, x_read});
    assign x_late = late_q[(RomLatency-3)*StoredWidth +: StoredWidth];
  end

  logic [OutLanes*OutWidth-1:0] terms;

  for (genvar o = 0; o < OutLanes; o = o + 1) begin : gen_out
    logic [InLanes*ProductWidth-1:0] products;
    logic [TermWidth-1:0]            sum;
    logic [OutWidth-1:0]             term;

    // Multipliers lie far apart. So each output lane has a copy of x, which synthesis must not
    // take for one register.
    logic [StoredWidth-1:0] x;
    if (RomLatency == 1) begin : gen_x_direct
      assign x = x_late;
    end else begin : gen_x_delayed
      (* keep *) always_ff @(posedge clk_i) x <= x_late;
    end

    for (genvar i = 0; i < InLanes; i = i + 1) begin : gen_in
      logic [ProductWidth-1:0] product, product_q;
      chop_product #(
        .Kind         (WeightKind),
        .InWidth      (LaneWidth),
        .InSigned     (InSigned),
        .WeightWidth  (WeightWidth),
        .MantissaWidth(MantissaWidth),
        .OutWidth     (ProductWidth),
        .Negate       (IsScaled)
      ) u_product (
        .clk_i    (clk_i),
        .x_i      (x[i*LaneWidth +: LaneWidth]),
        .weight_i (weights[(o*InLanes+i)*WeightWidth +: WeightWidth]),
        .product_o(product)
      );
      always_ff @(posedge clk_i) product_q <= product;
      if (ProductStages == 1) begin : gen_near
        assign products[i*ProductWidth +: ProductWidth] = product_q;
      end else begin : gen_far
        logic [ProductWidth-1:0] product_late;
        always_ff @(posedge clk_i) product_late <= product_q;
        assign products[i*ProductWidth +: ProductWidth] = product_late;
      end
    end

    chop_adder_tree #(
      .Inputs        (InLanes),
      .InWidth       (ProductWidth),
      .OutWidth      (TermWidth),
      .Signed        (!IsXnor),
      .LevelsPerStage(LevelsPerStage)
    ) u_tree (
      .clk_i (clk_i),
      .data_i(products),
      .sum_o (sum)
    );

    assign term = OutWidth'(sum) << ProductShift;

    if (IsScaled) begin : gen_scaled
      // The exponents run beside the products and their sum.
      localparam int unsigned ShiftWidth =
          chop_pkg::max(InExponentWidth, WeightExponentWidth)
          + ((InExponentWidth != 0 && WeightExponentWidth != 0) ? 1 : 0);
      localparam int unsigned Delay = ProductLatency + TreeLatency;
      logic [ShiftWidth-1:0]       x_exponent, weight_exponent, shift;
      logic [Delay*ShiftWidth-1:0] shifts_q;
      logic [OutWidth-1:0]         term_q;
      if (InExponentWidth != 0) begin : gen_x
        assign x_exponent = ShiftWidth'(x[StoredWidth-1 -: InExponentWidth]);
      end else begin : gen_no_x
        assign x_exponent = '0;
      end
      if (WeightExponentWidth != 0) begin : gen_weight
        assign weight_exponent =
            ShiftWidth'(exponents[o*WeightExponentWidth +: WeightExponentWidth]);
      end else begin : gen_no_weight
        assign weight_exponent = '0;
      end
      assign shift = shifts_q[(Delay-1)*ShiftWidth +: ShiftWidth];
      always_ff @(posedge clk_i) begin
        shifts_q <= (Delay * ShiftWidth)'({shifts_q, x_exponent + weight_exponent});
        term_q   <= term << shift;
      end
      assign terms[o*OutWidth +: OutWidth] = term_q;
    end else begin : gen_unscaled
      assign terms[o*OutWidth +: OutWidth] = term;
    end
  end

  // ---- Accumulation: the first step of a group starts from the bias ----

  logic last, sum_valid;
  assign last      = last_q[Stages-1];
  assign sum_valid = valid_q[Stages-1];

  // The group that reaches the accumulation in the next cycle, so that its partial sum (and bias)
  // is read for then.
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
    localparam int unsigned Starts     = OutBeats * WeightSets;
    localparam int unsigned StartWidth = chop_pkg::index_width(Starts);
    logic [OutLanes*BiasWidth-1:0] word;
    logic [StartWidth-1:0]         start_address;
    logic                          start_read;
    assign start_read = valid_q[Stages-2] && first_q[Stages-2];

    if (WeightSets == 1) begin : gen_one_set
      assign start_address = group_q;
    end else begin : gen_sets
      // Every group of every vector has one first step, in this order.
      chop_set_address #(
        .Words     (OutBeats),
        .Sets      (WeightSets),
        .RunVectors(SetVectors),
        .Runs      (SetRuns)
      ) u_start (
        .clk_i    (clk_i),
        .rst_ni   (rst_ni),
        .step_i   (start_read),
        .address_o(start_address)
      );
    end

    chop_rom #(
      .Width(OutLanes * BiasWidth),
      .Depth(Starts),
      .File (BiasFile)
    ) u_biases (
      .clk_i    (clk_i),
      .en_i     (start_read),
      .address_i(start_address),
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
    // A group's next sum is OutBeats >= 2 cycles after this one, so it may be read a cycle after
    // this one's write. Many sums are a block of memory, whose output wants a register before the
    // addition: they are read a cycle sooner.
    localparam bit Sooner = OutBeats > 64;
    logic [GroupWidth-1:0]        write_group_q, read_group;
    logic [OutLanes*OutWidth-1:0] word;
    logic                         read;
    always_ff @(posedge clk_i) write_group_q <= group_q;

    if (Sooner) begin : gen_sooner
      logic [GroupWidth-1:0] next_q;
      logic [Stages-1:0]     issued;
      assign issued     = {valid_q[Stages-2:0], step};
      assign read       = issued[Stages-2];
      assign read_group = next_q;
      always_ff @(posedge clk_i) begin
        if (!rst_ni) next_q <= '0;
        else if (read) next_q <= (next_q == GroupWidth'(OutBeats - 1)) ? '0 : next_q + 1'b1;
      end
      always_ff @(posedge clk_i) partials <= word;
      logic unused;
      assign unused = issued[Stages-1];
    end else begin : gen_direct
      assign read       = valid_q[Stages-2];
      assign read_group = group_q;
      assign partials   = word;
    end

    chop_ram #(
      .Width(OutLanes * OutWidth),
      .Depth(OutBeats)
    ) u_partials (
      .clk_i          (clk_i),
      .write_i        (sum_valid),
      .write_address_i(write_group_q),
      .write_data_i   (sums),
      .read_i         (read),
      .read_address_i (read_group),
      .read_data_o    (word)
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
      // Every lane has this flag for itself, kept apart: one register would be far from most.
      logic first;
      (* keep *) always_ff @(posedge clk_i) first <= first_q[Stages-2];
      assign start = first ? biases[o*OutWidth +: OutWidth] : partials[o*OutWidth +: OutWidth];
    end
    // The term first: synthesis then absorbs the choice of the start into the carry chain's LUTs.
    assign sums[o*OutWidth +: OutWidth] = terms[o*OutWidth +: OutWidth] + start;
  end

  if (InBeats == 1) begin : gen_unused_partials
    logic unused;
    assign unused = ^{first_q, partials};
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
