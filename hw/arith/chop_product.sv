// A number times a weight that is stored as a code. OutWidth bits two's complement (wraps).
// Latency 0 (combinational), of minifloat 1: a free register between multiplier and shifter.
// Kind, what the code holds, and what the product costs:
//   integer    two's complement                        a multiplier, or an addition (chop_times)
//   binary     1: +1, 0: -1                            OutWidth XORs
//   ternary    two's complement -2 to 1                OutWidth choices and XORs
//   log        {sign, e}: 0 at e = 0, else 2^(e-1)     a shifter
//   minifloat  {sign, e, m}: {h, m} * 2^max(e-1, 0)    a multiplier by MantissaWidth + 1 bits (by
//              with h = 1 unless e = 0                 2 bits an addition), a shifter
//   xnor       1: +1, 0: -1; the number is +1 or -1    one XNOR: 1 for +1, 0 for -1, no sign
// Negate 0: the product of a weight whose sign is set (binary: 0) is one too small, -p - 1 in place
// of -p, which takes no adder: the reader of the sum knows how many such weights are in it.
module chop_product #(
  parameter              Kind          = "integer",
  parameter int unsigned InWidth       = 8,
  parameter bit          InSigned      = 1'b1,
  parameter int unsigned WeightWidth   = 8,
  parameter int unsigned MantissaWidth = 0,
  parameter int unsigned OutWidth      = 16,
  parameter bit          Negate        = 1'b0
) (
  input  logic                   clk_i,
  input  logic [InWidth-1:0]     x_i,
  input  logic [WeightWidth-1:0] weight_i,
  output logic [OutWidth-1:0]    product_o
);
  // Text of equal widths, as the comparison wants it.
  localparam logic [127:0] Text        = 128'(Kind);
  localparam bit           IsInteger   = (Text == 128'("integer"));
  localparam bit           IsBinary    = (Text == 128'("binary"));
  localparam bit           IsTernary   = (Text == 128'("ternary"));
  localparam bit           IsLog       = (Text == 128'("log"));
  localparam bit           IsMinifloat = (Text == 128'("minifloat"));
  localparam bit           IsXnor      = (Text == 128'("xnor"));
  if (!IsInteger && !IsBinary && !IsTernary && !IsLog && !IsMinifloat && !IsXnor)
  begin : gen_check_kind
    $error("chop_product: Kind must be integer, binary, ternary, log, minifloat or xnor");
  end
  if (IsXnor && (InWidth != 1 || WeightWidth != 1 || OutWidth != 1)) begin : gen_check_xnor
    $error("chop_product: InWidth, WeightWidth and OutWidth must be 1 for xnor");
  end

  if (IsMinifloat && MantissaWidth == 0) begin : gen_check_mantissa
    $error("chop_product: MantissaWidth must be >= 1 for minifloat");
  end
  if (!IsMinifloat) begin : gen_no_register
    logic unused;
    assign unused = clk_i;
  end

  localparam int unsigned XWidth = InSigned ? InWidth : InWidth + 1;
  logic signed [XWidth-1:0] x;
  if (InSigned) begin : gen_signed
    assign x = x_i;
  end else begin : gen_unsigned
    assign x = {1'b0, x_i};
  end

  if (IsXnor) begin : gen_xnor
    // The number comes as its sign: 1 is -1.
    assign product_o = x_i ^ weight_i;
    logic unused;
    assign unused = ^x;
  end else if (IsInteger) begin : gen_integer
    localparam int unsigned FullWidth = XWidth + WeightWidth;
    logic signed [FullWidth-1:0] full;
    chop_times #(
      .AWidth(XWidth),
      .BWidth(WeightWidth)
    ) u_times (
      .a_i      (x),
      .b_i      (weight_i),
      .product_o(full)
    );
    assign product_o = OutWidth'(full);
    if (OutWidth < FullWidth) begin : gen_wrap
      logic unused;
      assign unused = ^full;
    end
  end else begin : gen_sign_magnitude
    logic                       negative;
    logic signed [OutWidth-1:0] magnitude;

    if (IsBinary) begin : gen_binary
      assign negative  = !weight_i[0];
      assign magnitude = OutWidth'(x);
    end else if (IsTernary) begin : gen_ternary
      assign negative  = weight_i[1];
      assign magnitude =
          weight_i[0] ? OutWidth'(x) : weight_i[1] ? OutWidth'(x) << 1 : OutWidth'(0);
    end else begin : gen_float
      localparam int unsigned ExponentWidth = WeightWidth - MantissaWidth - 1;
      logic [ExponentWidth-1:0] exponent, shift;
      logic                     normal;
      assign exponent = weight_i[MantissaWidth +: ExponentWidth];
      assign normal   = (exponent != '0);
      assign shift    = normal ? exponent - 1'b1 : '0;
      if (!IsMinifloat) begin : gen_power
        assign negative  = weight_i[WeightWidth-1];
        assign magnitude = (OutWidth'(x) & {OutWidth{normal}}) << shift;
      end else begin : gen_mantissa
        localparam int unsigned SignificandWidth = MantissaWidth + 2;
        localparam int unsigned FullWidth        = XWidth + SignificandWidth;
        logic signed [SignificandWidth-1:0] significand;
        logic signed [FullWidth-1:0]        full, full_q;
        logic [ExponentWidth-1:0]           shift_q;
        logic                               negative_q;
        assign significand = {1'b0, normal, weight_i[0 +: MantissaWidth]};
        chop_times #(
          .AWidth(XWidth),
          .BWidth(SignificandWidth)
        ) u_times (
          .a_i      (x),
          .b_i      (significand),
          .product_o(full)
        );
        always_ff @(posedge clk_i) begin
          full_q     <= full;
          shift_q    <= shift;
          negative_q <= weight_i[WeightWidth-1];
        end
        assign negative  = negative_q;
        assign magnitude = OutWidth'(full_q) << shift_q;
        if (OutWidth < FullWidth) begin : gen_narrow
          logic unused;
          assign unused = ^full_q;
        end
      end
    end

    if (OutWidth < XWidth) begin : gen_wrap
      logic unused;
      assign unused = ^x;
    end

    if (Negate) begin : gen_exact
      assign product_o = (magnitude ^ {OutWidth{negative}}) + OutWidth'(negative);
    end else begin : gen_one_less
      assign product_o = magnitude ^ {OutWidth{negative}};
    end
  end
endmodule
