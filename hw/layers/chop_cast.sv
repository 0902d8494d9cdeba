// y = saturate(round(x * 2^(ShiftLeft - ShiftRight))), lane by lane: a change of number format.
// Symmetric: without the lowest output, as chop_round_saturate.
// Latency 1, one beat per cycle; x_ready_o is combinational in y_ready_i, valid and data are
// registers.
module chop_cast #(
  parameter int unsigned Lanes      = 4,
  parameter int unsigned InWidth    = 16,
  parameter bit          InSigned   = 1'b1,
  parameter int unsigned OutWidth   = 8,
  parameter bit          OutSigned  = 1'b1,
  parameter int unsigned ShiftRight = 0,
  parameter int unsigned ShiftLeft  = 0,
  parameter int unsigned Rounding   = 0,
  parameter bit          Symmetric  = 1'b0
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
    $error("chop_cast: Lanes must be >= 1");
  end

  logic [Lanes*OutWidth-1:0] results;
  for (genvar i = 0; i < Lanes; i = i + 1) begin : gen_lane
    chop_round_saturate #(
      .InWidth   (InWidth),
      .InSigned  (InSigned),
      .OutWidth  (OutWidth),
      .OutSigned (OutSigned),
      .ShiftRight(ShiftRight),
      .ShiftLeft (ShiftLeft),
      .Rounding  (Rounding),
      .Symmetric (Symmetric)
    ) u_round_saturate (
      .data_i(x_data_i[i*InWidth +: InWidth]),
      .data_o(results[i*OutWidth +: OutWidth])
    );
  end

  chop_stream_register #(
    .Width(Lanes * OutWidth)
  ) u_register (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .valid_i(x_valid_i),
    .ready_o(x_ready_o),
    .data_i (results),
    .valid_o(y_valid_o),
    .ready_i(y_ready_i),
    .data_o (y_data_o)
  );
endmodule
