// y = saturate(round(max(x, 0) * 2^(ShiftLeft - ShiftRight))), lane by lane. Latency 1, one beat
// per cycle; x_ready_o is combinational in y_ready_i, valid and data are registers.
module chop_relu #(
  parameter int unsigned Lanes      = 4,
  parameter int unsigned InWidth    = 16,
  parameter bit          InSigned   = 1'b1,
  parameter int unsigned OutWidth   = 8,
  parameter bit          OutSigned  = 1'b1,
  parameter int unsigned ShiftRight = 0,
  parameter int unsigned ShiftLeft  = 0,
  parameter int unsigned Rounding   = 0
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
    $error("chop_relu: Lanes must be >= 1");
  end

  logic [Lanes*InWidth-1:0] values;
  for (genvar i = 0; i < Lanes; i = i + 1) begin : gen_lane
    logic [InWidth-1:0] x, value;
    assign x     = x_data_i[i*InWidth +: InWidth];
    assign value = (InSigned && x[InWidth-1]) ? '0 : x;
    assign values[i*InWidth +: InWidth] = value;
  end

  // The sign bit of a value is zero, so its range is that of an unsigned number.
  chop_cast #(
    .Lanes     (Lanes),
    .InWidth   (InWidth),
    .InSigned  (1'b0),
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
