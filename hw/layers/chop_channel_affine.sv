// y[c] = saturate(round((((x[c] * w[c]) << ProductShift) + b[c]) * 2^(ShiftLeft - ShiftRight)));
// without a weight w = 1, without a bias b = 0. Symmetric: without the lowest output, as
// chop_round_saturate. Channels are innermost: lane l of beat k of a pixel is channel k*Lanes + l.
// WeightFile, BiasFile: a word of Lanes values per beat, lane 0 low, signed. Latency 3 (operands,
// product, result), capacity 3, one beat per cycle. Each stage accepts when it is empty or its beat
// moves on, so x_ready_o is combinational in y_ready_i; valid and data are registers.
module chop_channel_affine #(
  parameter int unsigned Lanes        = 4,
  parameter int unsigned Channels     = 8,
  parameter int unsigned InWidth      = 8,
  parameter bit          InSigned     = 1'b1,
  parameter int unsigned WeightWidth  = 8,
  parameter int unsigned BiasWidth    = 16,
  parameter int unsigned OutWidth     = 8,
  parameter bit          OutSigned    = 1'b1,
  parameter int unsigned ProductShift = 0,
  parameter int unsigned ShiftRight   = 0,
  parameter int unsigned ShiftLeft    = 0,
  parameter int unsigned Rounding     = 0,
  parameter bit          HasWeight    = 1'b1,
  parameter bit          HasBias      = 1'b1,
  parameter bit          Symmetric    = 1'b0,
  parameter              WeightFile   = "",
  parameter              BiasFile     = "",
  parameter              RomStyle     = "auto"
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
    $error("chop_channel_affine: Lanes must divide Channels");
  end

  localparam int unsigned Beats        = Channels / Lanes;
  localparam int unsigned BeatWidth    = chop_pkg::index_width(Beats);
  localparam int unsigned XWidth       = InSigned ? InWidth : InWidth + 1;
  localparam int unsigned ProductWidth = HasWeight ? InWidth + WeightWidth : XWidth;
  localparam int unsigned ShiftedWidth = ProductWidth + ProductShift;
  localparam int unsigned SumWidth =
      HasBias ? chop_pkg::max(ShiftedWidth, BiasWidth) + 1 : ShiftedWidth;

  // Stage k loads where load_k is high; a stage is ready when it is empty or its beat moves on.
  logic operands_valid_q, product_valid_q, load_operands, load_product;
  logic operands_ready, product_ready, result_ready;
  assign product_ready  = result_ready || !product_valid_q;
  assign operands_ready = product_ready || !operands_valid_q;
  assign x_ready_o      = operands_ready;
  assign load_operands  = x_valid_i && operands_ready;
  assign load_product   = operands_valid_q && product_ready;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      operands_valid_q <= 1'b0;
      product_valid_q  <= 1'b0;
    end else begin
      if (operands_ready) operands_valid_q <= x_valid_i;
      if (product_ready) product_valid_q <= operands_valid_q;
    end
  end

  logic [Lanes*InWidth-1:0] x_q;
  always_ff @(posedge clk_i) begin
    if (load_operands) x_q <= x_data_i;
  end

  logic [Lanes*ProductWidth-1:0] products_q;

  if (HasWeight) begin : gen_weight
    logic [BeatWidth-1:0]         beat_q;
    logic [Lanes*WeightWidth-1:0] weights;
    always_ff @(posedge clk_i) begin
      if (!rst_ni) beat_q <= '0;
      else if (load_operands) beat_q <= (beat_q == BeatWidth'(Beats - 1)) ? '0 : beat_q + 1'b1;
    end

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

    for (genvar i = 0; i < Lanes; i = i + 1) begin : gen_lane
      logic signed [XWidth-1:0]      x;
      logic signed [WeightWidth-1:0] weight;
      if (InSigned) begin : gen_signed
        assign x = x_q[i*InWidth +: InWidth];
      end else begin : gen_unsigned
        assign x = {1'b0, x_q[i*InWidth +: InWidth]};
      end
      assign weight = weights[i*WeightWidth +: WeightWidth];
      always_ff @(posedge clk_i) begin
        if (load_product) begin
          products_q[i*ProductWidth +: ProductWidth] <= ProductWidth'(x) * ProductWidth'(weight);
        end
      end
    end
  end else begin : gen_no_weight
    for (genvar i = 0; i < Lanes; i = i + 1) begin : gen_lane
      logic [XWidth-1:0] x;
      if (InSigned) begin : gen_signed
        assign x = x_q[i*InWidth +: InWidth];
      end else begin : gen_unsigned
        assign x = {1'b0, x_q[i*InWidth +: InWidth]};
      end
      always_ff @(posedge clk_i) begin
        if (load_product) products_q[i*ProductWidth +: ProductWidth] <= x;
      end
    end
  end

  logic [Lanes*SumWidth-1:0] biases;

  if (HasBias) begin : gen_bias
    // Counts at the product stage, so that the bias needs no register of its own to wait for the
    // product.
    logic [BeatWidth-1:0]       beat_q;
    logic [Lanes*BiasWidth-1:0] word;
    always_ff @(posedge clk_i) begin
      if (!rst_ni) beat_q <= '0;
      else if (load_product) beat_q <= (beat_q == BeatWidth'(Beats - 1)) ? '0 : beat_q + 1'b1;
    end

    chop_rom #(
      .Width(Lanes * BiasWidth),
      .Depth(Beats),
      .File (BiasFile),
      .Style(RomStyle)
    ) u_biases (
      .clk_i    (clk_i),
      .en_i     (load_product),
      .address_i(beat_q),
      .data_o   (word)
    );

    for (genvar i = 0; i < Lanes; i = i + 1) begin : gen_lane
      logic signed [BiasWidth-1:0] bias;
      assign bias = word[i*BiasWidth +: BiasWidth];
      assign biases[i*SumWidth +: SumWidth] = SumWidth'(bias);
    end
  end else begin : gen_no_bias
    assign biases = '0;
  end

  logic [Lanes*SumWidth-1:0] values;
  for (genvar i = 0; i < Lanes; i = i + 1) begin : gen_result
    logic signed [ProductWidth-1:0] product;
    logic [SumWidth-1:0]            sum;
    assign product = products_q[i*ProductWidth +: ProductWidth];
    assign sum     = (SumWidth'(product) << ProductShift) + biases[i*SumWidth +: SumWidth];
    assign values[i*SumWidth +: SumWidth] = sum;
  end

  chop_cast #(
    .Lanes     (Lanes),
    .InWidth   (SumWidth),
    .InSigned  (1'b1),
    .OutWidth  (OutWidth),
    .OutSigned (OutSigned),
    .ShiftRight(ShiftRight),
    .ShiftLeft (ShiftLeft),
    .Rounding  (Rounding),
    .Symmetric (Symmetric)
  ) u_cast (
    .clk_i    (clk_i),
    .rst_ni   (rst_ni),
    .x_data_i (values),
    .x_valid_i(product_valid_q),
    .x_ready_o(result_ready),
    .y_data_o (y_data_o),
    .y_valid_o(y_valid_o),
    .y_ready_i(y_ready_i)
  );
endmodule
