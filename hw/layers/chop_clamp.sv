// y = saturate(round(min(max(x, Low), High) * 2^(ShiftLeft - ShiftRight))), lane by lane; HasLow
// and HasHigh switch the limits on. The limits are integers at the scale of x and may lie outside
// its range. Latency 1, one beat per cycle; x_ready_o is combinational in y_ready_i, valid and data
// are registers.
module chop_clamp #(
  parameter int unsigned        Lanes      = 4,
  parameter int unsigned        InWidth    = 16,
  parameter bit                 InSigned   = 1'b1,
  parameter int unsigned        OutWidth   = 8,
  parameter bit                 OutSigned  = 1'b1,
  parameter bit                 HasLow     = 1'b1,
  parameter logic signed [63:0] Low        = 64'sd0,
  parameter bit                 HasHigh    = 1'b1,
  parameter logic signed [63:0] High       = 64'sd127,
  parameter int unsigned        ShiftRight = 0,
  parameter int unsigned        ShiftLeft  = 0,
  parameter int unsigned        Rounding   = 0
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
  if (Lanes < 1) begin : gen_check
    $error("chop_clamp: Lanes must be >= 1");
  end

  // Wide enough for x and for both limits.
  localparam int unsigned XWidth     = InSigned ? InWidth : InWidth + 1;
  localparam int unsigned LowWidth   = HasLow ? chop_pkg::signed_width(Low) : 1;
  localparam int unsigned HighWidth  = HasHigh ? chop_pkg::signed_width(High) : 1;
  localparam int unsigned ValueWidth = chop_pkg::max(XWidth, chop_pkg::max(LowWidth, HighWidth));
  localparam logic signed [ValueWidth-1:0] LowLimit  = ValueWidth'(Low);
  localparam logic signed [ValueWidth-1:0] HighLimit = ValueWidth'(High);

  logic [Lanes*ValueWidth-1:0] values;
  for (genvar i = 0; i < Lanes; i = i + 1) begin : gen_lane
    logic signed [XWidth-1:0]     x;
    logic signed [ValueWidth-1:0] exact, raised, value;
    if (InSigned) begin : gen_signed
      assign x = x_data_i[i*InWidth +: InWidth];
    end else begin : gen_unsigned
      assign x = {1'b0, x_data_i[i*InWidth +: InWidth]};
    end
    assign exact = ValueWidth'(x);
    if (HasLow) begin : gen_low
      assign raised = (exact < LowLimit) ? LowLimit : exact;
    end else begin : gen_no_low
      assign raised = exact;
    end
    if (HasHigh) begin : gen_high
      assign value = (raised > HighLimit) ? HighLimit : raised;
    end else begin : gen_no_high
      assign value = raised;
    end
    assign values[i*ValueWidth +: ValueWidth] = value;
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
    .x_data_i (values),
    .x_valid_i(x_valid_i),
    .x_ready_o(x_ready_o),
    .y_data_o (y_data_o),
    .y_valid_o(y_valid_o),
    .y_ready_i(y_ready_i)
  );
endmodule
