// Integers to MXINT: blocks of BlockBeats beats share an exponent (the last block of a row of
// RowBeats may be shorter). y is {exponent, mantissa} per element, with
//   exponent = the bits of the block's largest |x| less Base, within 0..2^ExponentWidth-1, 0 for 0
//   mantissa = saturate(round(x * 2^(OutWidth - 1 - Base - exponent))) in +-(2^(OutWidth-1) - 1)
// Rounding as chop_round_saturate. A block waits for its last beat: accepted in cycle a, that makes
// the block's first result valid in a + 4, the others one cycle after the other (a block after the
// one before). One beat per cycle; capacity BlockBeats + 4, in an operand register, a FIFO of
// BlockBeats + 1 beats (and of 4 blocks) and two elastic stages. No combinational path between the
// two streams; valid and data are registers.
module chop_mxint_cast #(
  parameter int unsigned        Lanes         = 2,
  parameter int unsigned        BlockBeats    = 2,
  parameter int unsigned        RowBeats      = 4,
  parameter int unsigned        InWidth       = 8,
  parameter bit                 InSigned      = 1'b1,
  parameter int unsigned        OutWidth      = 4,
  parameter int unsigned        ExponentWidth = 2,
  parameter logic signed [31:0] Base          = 32'sd5,
  parameter int unsigned        Rounding      = 0,
  localparam int unsigned       CodeWidth     = ExponentWidth + OutWidth
) (
  input  logic                       clk_i,
  input  logic                       rst_ni,
  input  logic [Lanes*InWidth-1:0]   x_data_i,
  input  logic                       x_valid_i,
  output logic                       x_ready_o,
  output logic [Lanes*CodeWidth-1:0] y_data_o,
  output logic                       y_valid_o,
  input  logic                       y_ready_i
);
  if (Lanes < 1 || BlockBeats < 1 || RowBeats < 1) begin : gen_check_size
    $error("chop_mxint_cast: Lanes, BlockBeats and RowBeats must be >= 1");
  end
  if (OutWidth < 2 || ExponentWidth < 1 || Rounding > 2) begin : gen_check_format
    $error("chop_mxint_cast: OutWidth must be >= 2, ExponentWidth >= 1, Rounding 0, 1 or 2");
  end

  localparam int unsigned DataWidth  = Lanes * InWidth;
  localparam int unsigned BlockWidth = chop_pkg::index_width(BlockBeats);
  localparam int unsigned RowWidth   = chop_pkg::index_width(RowBeats);
  // Beyond these shifts nothing, or nothing but the saturated, is left.
  localparam int unsigned MostLeft   = OutWidth;
  localparam int unsigned MostRight  = InWidth + 1;
  localparam int unsigned LeftWidth  = chop_pkg::count_width(MostLeft);
  localparam int unsigned RightWidth = chop_pkg::count_width(MostRight);
  localparam int unsigned ValueWidth = InWidth + 2 + MostLeft;

  // ---- Operands, and the or of a block's magnitudes: it has the bits of the largest ----

  logic                 x_valid, stored_ready, magnitudes_ready, push;
  logic [DataWidth-1:0] x;
  assign push = x_valid && stored_ready && magnitudes_ready;

  chop_stream_register #(
    .Width(DataWidth)
  ) u_operands (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .valid_i(x_valid_i),
    .ready_o(x_ready_o),
    .data_i (x_data_i),
    .valid_o(x_valid),
    .ready_i(stored_ready && magnitudes_ready),
    .data_o (x)
  );

  logic [Lanes*InWidth-1:0] absolutes;
  for (genvar i = 0; i < Lanes; i = i + 1) begin : gen_absolute
    logic [InWidth-1:0] value;
    assign value = x[i*InWidth +: InWidth];
    assign absolutes[i*InWidth +: InWidth] = (InSigned && value[InWidth-1]) ? -value : value;
  end

  logic [BlockWidth-1:0] block_beat_q;
  logic [RowWidth-1:0]   row_beat_q;
  logic [InWidth-1:0]    magnitude, magnitude_q;
  logic                  row_last, last;
  assign row_last = row_beat_q == RowWidth'(RowBeats - 1);
  assign last     = row_last || (block_beat_q == BlockWidth'(BlockBeats - 1));

  always_comb begin
    magnitude = magnitude_q;
    for (int i = 0; i < Lanes; i = i + 1) begin
      magnitude = magnitude | absolutes[i*InWidth +: InWidth];
    end
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      block_beat_q <= '0;
      row_beat_q   <= '0;
      magnitude_q  <= '0;
    end else if (push) begin
      block_beat_q <= last ? '0 : block_beat_q + 1'b1;
      row_beat_q   <= row_last ? '0 : row_beat_q + 1'b1;
      magnitude_q  <= last ? '0 : magnitude;
    end
  end

  // ---- The block waits for its largest ----

  logic                 stored_valid, stored_last, magnitudes_valid, pop, shift_ready;
  logic [DataWidth-1:0] stored;
  logic [InWidth-1:0]   largest;
  assign pop = stored_valid && magnitudes_valid && shift_ready;

  chop_fifo #(
    .Width(DataWidth + 1),
    .Depth(BlockBeats + 1)
  ) u_stored (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .valid_i(x_valid && magnitudes_ready),
    .ready_o(stored_ready),
    .data_i ({last, x}),
    .valid_o(stored_valid),
    .ready_i(magnitudes_valid && shift_ready),
    .data_o ({stored_last, stored})
  );

  chop_fifo #(
    .Width(InWidth),
    .Depth(4)
  ) u_magnitudes (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .valid_i(x_valid && stored_ready && last),
    .ready_o(magnitudes_ready),
    .data_i (magnitude),
    .valid_o(magnitudes_valid),
    .ready_i(stored_valid && stored_last && shift_ready),
    .data_o (largest)
  );

  // ---- The exponent, and how far it moves every element ----

  logic signed [31:0]       bits, above, move;
  logic [ExponentWidth-1:0] exponent, exponent_q;
  logic [LeftWidth-1:0]     left, left_q;
  logic [RightWidth-1:0]    right, right_q;
  always_comb begin
    bits = 32'sd0;
    for (int i = 0; i < InWidth; i = i + 1) begin
      if (largest[i]) bits = i + 1;
    end
    above = bits - Base;
    exponent = ExponentWidth'(above);
    if (above < 32'sd0 || bits == 32'sd0) exponent = '0;
    else if (above >= 32'sd1 <<< ExponentWidth) exponent = '1;
    move  = $signed(32'(exponent)) + Base + 32'sd1 - $signed(32'(OutWidth));
    left  = '0;
    right = '0;
    if (move < -$signed(32'(MostLeft))) left = LeftWidth'(MostLeft);
    else if (move < 32'sd0) left = LeftWidth'(-move);
    else if (move > $signed(32'(MostRight))) right = RightWidth'(MostRight);
    else right = RightWidth'(move);
  end

  logic                 shift_valid_q, result_ready;
  logic [DataWidth-1:0] shift_q;
  assign shift_ready = result_ready || !shift_valid_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) shift_valid_q <= 1'b0;
    else if (shift_ready) shift_valid_q <= stored_valid && magnitudes_valid;
  end

  always_ff @(posedge clk_i) begin
    if (pop) begin
      shift_q    <= stored;
      exponent_q <= exponent;
      left_q     <= left;
      right_q    <= right;
    end
  end

  // ---- The mantissas ----

  localparam logic signed [ValueWidth-1:0] Top = (ValueWidth'(1) << (OutWidth - 1)) - 1;

  logic [Lanes*CodeWidth-1:0] results;
  for (genvar i = 0; i < Lanes; i = i + 1) begin : gen_lane
    // Twice the value, so that the last bit after the shift says whether half is left over.
    logic signed [ValueWidth-1:0] twice, moved, rounded;
    logic signed [InWidth:0]      value;
    logic                         half, more, up;
    logic [OutWidth-1:0]          mantissa;
    assign value = {InSigned && shift_q[(i+1)*InWidth-1], shift_q[i*InWidth +: InWidth]};
    assign twice = (ValueWidth'(value) <<< 1) <<< left_q;
    assign moved = twice >>> right_q;
    assign half  = moved[0];
    assign more  = (moved <<< right_q) != twice;

    if (Rounding == 1) begin : gen_floor
      assign up = 1'b0;
    end else if (Rounding == 0) begin : gen_half_up
      assign up = half;
    end else begin : gen_half_even
      assign up = half && (more || moved[1]);
    end
    assign rounded = (moved >>> 1) + $signed(ValueWidth'(up));

    always_comb begin
      mantissa = rounded[OutWidth-1:0];
      if (rounded > Top) mantissa = Top[OutWidth-1:0];
      else if (rounded < -Top) mantissa = -Top[OutWidth-1:0];
    end
    assign results[i*CodeWidth +: CodeWidth] = {exponent_q, mantissa};

    logic unused;
    assign unused = ^{half, more};
  end

  chop_stream_register #(
    .Width(Lanes * CodeWidth)
  ) u_result (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .valid_i(shift_valid_q),
    .ready_o(result_ready),
    .data_i (results),
    .valid_o(y_valid_o),
    .ready_i(y_ready_i),
    .data_o (y_data_o)
  );
endmodule
