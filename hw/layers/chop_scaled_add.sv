// y = saturate(round((a * AFactor + b * BFactor + Offset) * 2^-ShiftRight)), lane by lane: a sum of
// two scales, rounded once. Symmetric: without the lowest output, as chop_round_saturate. A smaller
// operand is repeated (chop_operands). Latency 2 from the join (products, result), one beat per
// cycle. A beat of a and a beat of b are joined: their ready is combinational in the valids and in
// y_ready_i; y_valid_o and y_data_o are registers.
module chop_scaled_add #(
  parameter int unsigned        Lanes      = 4,
  parameter int unsigned        AWidth     = 8,
  parameter bit                 ASigned    = 1'b1,
  parameter int unsigned        BWidth     = 8,
  parameter bit                 BSigned    = 1'b1,
  parameter logic signed [63:0] AFactor    = 64'sd1,
  parameter logic signed [63:0] BFactor    = 64'sd1,
  parameter logic signed [63:0] Offset     = 64'sd0,
  parameter int unsigned        ABeats     = 1,
  parameter int unsigned        ARepeats   = 1,
  parameter bit                 ASpread    = 1'b0,
  parameter int unsigned        ADepth     = 0,
  parameter int unsigned        BBeats     = 1,
  parameter int unsigned        BRepeats   = 1,
  parameter bit                 BSpread    = 1'b0,
  parameter int unsigned        BDepth     = 0,
  parameter int unsigned        OutWidth   = 9,
  parameter bit                 OutSigned  = 1'b1,
  parameter int unsigned        ShiftRight = 0,
  parameter int unsigned        Rounding   = 0,
  parameter bit                 Symmetric  = 1'b0
) (
  input  logic                      clk_i,
  input  logic                      rst_ni,
  input  logic [Lanes*AWidth-1:0]   a_data_i,
  input  logic                      a_valid_i,
  output logic                      a_ready_o,
  input  logic [Lanes*BWidth-1:0]   b_data_i,
  input  logic                      b_valid_i,
  output logic                      b_ready_o,
  output logic [Lanes*OutWidth-1:0] y_data_o,
  output logic                      y_valid_o,
  input  logic                      y_ready_i
);
  if (Lanes < 1) begin : gen_check
    $error("chop_scaled_add: Lanes must be >= 1");
  end

  localparam int unsigned AFull    = ASigned ? AWidth : AWidth + 1;
  localparam int unsigned BFull    = BSigned ? BWidth : BWidth + 1;
  localparam int unsigned AProduct = AFull + chop_pkg::signed_width(AFactor);
  localparam int unsigned BProduct = BFull + chop_pkg::signed_width(BFactor);
  localparam int unsigned SumWidth =
      chop_pkg::max(chop_pkg::max(AProduct, BProduct), chop_pkg::signed_width(Offset)) + 2;

  logic [Lanes*AWidth-1:0] a_data;
  logic [Lanes*BWidth-1:0] b_data;
  logic                    valid, ready;
  chop_operands #(
    .Lanes   (Lanes),
    .AWidth  (AWidth),
    .ABeats  (ABeats),
    .ARepeats(ARepeats),
    .ASpread (ASpread),
    .ADepth  (ADepth),
    .BWidth  (BWidth),
    .BBeats  (BBeats),
    .BRepeats(BRepeats),
    .BSpread (BSpread),
    .BDepth  (BDepth)
  ) u_operands (
    .clk_i    (clk_i),
    .rst_ni   (rst_ni),
    .a_data_i (a_data_i),
    .a_valid_i(a_valid_i),
    .a_ready_o(a_ready_o),
    .b_data_i (b_data_i),
    .b_valid_i(b_valid_i),
    .b_ready_o(b_ready_o),
    .a_data_o (a_data),
    .b_data_o (b_data),
    .valid_o  (valid),
    .ready_i  (ready)
  );

  logic products_valid_q, products_ready;
  assign ready = products_ready || !products_valid_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) products_valid_q <= 1'b0;
    else if (ready) products_valid_q <= valid;
  end

  logic [Lanes*AProduct-1:0] a_products_q;
  logic [Lanes*BProduct-1:0] b_products_q;
  logic [Lanes*SumWidth-1:0] values;
  for (genvar i = 0; i < Lanes; i = i + 1) begin : gen_lane
    logic signed [AFull-1:0]    a;
    logic signed [BFull-1:0]    b;
    logic signed [AProduct-1:0] a_product;
    logic signed [BProduct-1:0] b_product;
    logic signed [SumWidth-1:0] sum;
    if (ASigned) begin : gen_a_signed
      assign a = AFull'($signed(a_data[i*AWidth +: AWidth]));
    end else begin : gen_a_unsigned
      assign a = AFull'(a_data[i*AWidth +: AWidth]);
    end
    if (BSigned) begin : gen_b_signed
      assign b = BFull'($signed(b_data[i*BWidth +: BWidth]));
    end else begin : gen_b_unsigned
      assign b = BFull'(b_data[i*BWidth +: BWidth]);
    end
    always_ff @(posedge clk_i) begin
      if (valid && ready) begin
        a_products_q[i*AProduct +: AProduct] <= AProduct'(a) * AProduct'(AFactor);
        b_products_q[i*BProduct +: BProduct] <= BProduct'(b) * BProduct'(BFactor);
      end
    end
    assign a_product = a_products_q[i*AProduct +: AProduct];
    assign b_product = b_products_q[i*BProduct +: BProduct];
    assign sum       = SumWidth'(a_product) + SumWidth'(b_product) + SumWidth'(Offset);
    assign values[i*SumWidth +: SumWidth] = sum;
  end

  chop_cast #(
    .Lanes     (Lanes),
    .InWidth   (SumWidth),
    .InSigned  (1'b1),
    .OutWidth  (OutWidth),
    .OutSigned (OutSigned),
    .ShiftRight(ShiftRight),
    .Rounding  (Rounding),
    .Symmetric (Symmetric)
  ) u_cast (
    .clk_i    (clk_i),
    .rst_ni   (rst_ni),
    .x_data_i (values),
    .x_valid_i(products_valid_q),
    .x_ready_o(products_ready),
    .y_data_o (y_data_o),
    .y_valid_o(y_valid_o),
    .y_ready_i(y_ready_i)
  );
endmodule
