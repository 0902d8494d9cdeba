// y[c] = saturate(round(f(x[c]) * 2^(ShiftLeft - ShiftRight))), f(x) = x << SlopeShift where x >=
// 0, else x * w[c]. Channels are innermost: lane l of beat k of a pixel is channel k*Lanes + l.
// WeightFile: a word of Lanes slopes per beat, lane 0 low, signed. Latency 3 (operands, product,
// result), capacity 3, one beat per cycle. Each stage accepts when it is empty or its beat moves
// on, so x_ready_o is combinational in y_ready_i; valid and data are registers.
module chop_prelu #(
  parameter int unsigned Lanes       = 4,
  parameter int unsigned Channels    = 8,
  parameter int unsigned InWidth     = 8,
  parameter bit          InSigned    = 1'b1,
  parameter int unsigned WeightWidth = 8,
  parameter int unsigned SlopeShift  = 4,
  parameter int unsigned OutWidth    = 8,
  parameter bit          OutSigned   = 1'b1,
  parameter int unsigned ShiftRight  = 0,
  parameter int unsigned ShiftLeft   = 0,
  parameter int unsigned Rounding    = 0,
  parameter              WeightFile  = "",
  parameter              RomStyle    = "auto"
) (
  input  logic                      clk_i,
  input  logic                      rst_ni,
  input  logic [Lanes*InWidth-1:0]  x_data_i,
  input  logic                      x_valid_i,
  output logic                      x_ready_o,
  output logic [Lanes*OutWidth-1:0] y_data_o,
  output logic                      y_valid_o,
  input  logic                      y_ready_i
);
  if (Lanes < 1 || Channels % Lanes != 0) begin : gen_check
    $error("chop_prelu: Lanes must divide Channels");
  end

  localparam int unsigned Beats      = Channels / Lanes;
  localparam int unsigned BeatWidth  = chop_pkg::index_width(Beats);
  localparam int unsigned XWidth     = InSigned ? InWidth : InWidth + 1;
  localparam int unsigned ValueWidth = XWidth + chop_pkg::max(WeightWidth, SlopeShift);

  // Stage k loads where load_k is high; a stage is ready when it is empty or its beat moves on.
  logic operands_valid_q, value_valid_q, load_operands, load_value;
  logic operands_ready, value_ready, result_ready;
  assign value_ready    = result_ready || !value_valid_q;
  assign operands_ready = value_ready || !operands_valid_q;
  assign x_ready_o      = operands_ready;
  assign load_operands  = x_valid_i && operands_ready;
  assign load_value     = operands_valid_q && value_ready;

  logic [BeatWidth-1:0] beat_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      operands_valid_q <= 1'b0;
      value_valid_q    <= 1'b0;
      beat_q           <= '0;
    end else begin
      if (operands_ready) operands_valid_q <= x_valid_i;
      if (value_ready) value_valid_q <= operands_valid_q;
      if (load_operands) beat_q <= (beat_q == BeatWidth'(Beats - 1)) ? '0 : beat_q + 1'b1;
    end
  end

  logic [Lanes*InWidth-1:0] x_q;
  always_ff @(posedge clk_i) begin
    if (load_operands) x_q <= x_data_i;
  end

  logic [Lanes*WeightWidth-1:0] weights;
  chop_rom #(
    .Width(Lanes * WeightWidth),
    .Depth(Beats),
    .File (WeightFile),
    .Style(RomStyle)
  ) u_weights (
    .clk_i    (clk_i),
    .en_i     (load_operands),
    .address_i(beat_q),
    .data_o   (weights)
  );

  logic [Lanes*ValueWidth-1:0] values_q;
  for (genvar i = 0; i < Lanes; i = i + 1) begin : gen_lane
    logic signed [XWidth-1:0]      x;
    logic signed [WeightWidth-1:0] weight;
    logic signed [ValueWidth-1:0]  above, below;
    if (InSigned) begin : gen_signed
      assign x = x_q[i*InWidth +: InWidth];
    end else begin : gen_unsigned
      assign x = {1'b0, x_q[i*InWidth +: InWidth]};
    end
    assign weight = weights[i*WeightWidth +: WeightWidth];
    assign above  = ValueWidth'(x) <<< SlopeShift;
    assign below  = ValueWidth'(x) * ValueWidth'(weight);
    always_ff @(posedge clk_i) begin
      if (load_value) values_q[i*ValueWidth +: ValueWidth] <= x[XWidth-1] ? below : above;
    end
  end

  chop_cast #(
    .Lanes     (Lanes),
    .InWidth   (ValueWidth),
    .InSigned  (1'b1),
    .OutWidth  (OutWidth),
    .OutSigned (OutSigned),
    .ShiftRight(ShiftRight),
    .ShiftLeft (ShiftLeft),
    .Rounding  (Rounding)
  ) u_cast (
    .clk_i    (clk_i),
    .rst_ni   (rst_ni),
    .x_data_i (values_q),
    .x_valid_i(value_valid_q),
    .x_ready_o(result_ready),
    .y_data_o (y_data_o),
    .y_valid_o(y_valid_o),
    .y_ready_i(y_ready_i)
  );
endmodule
