// y = saturate(round(max(a << AShiftLeft, b << BShiftLeft) * 2^(ShiftLeft - ShiftRight))), lane by
// lane; with Minimum the smaller of the two. The shifts bring a and b to a common scale. A smaller
// operand is repeated (chop_operands). Latency 1 from the join, one beat per cycle. A beat of a and
// a beat of b are joined: their ready is combinational in the valids and in y_ready_i; y_valid_o
// and y_data_o are registers.
module chop_extreme #(
  parameter int unsigned Lanes      = 4,
  parameter int unsigned AWidth     = 8,
  parameter bit          ASigned    = 1'b1,
  parameter int unsigned BWidth     = 8,
  parameter bit          BSigned    = 1'b1,
  parameter int unsigned AShiftLeft = 0,
  parameter int unsigned BShiftLeft = 0,
  parameter bit          Minimum    = 1'b0,
  parameter int unsigned ABeats     = 1,
  parameter int unsigned ARepeats   = 1,
  parameter bit          ASpread    = 1'b0,
  parameter int unsigned ADepth     = 0,
  parameter int unsigned BBeats     = 1,
  parameter int unsigned BRepeats   = 1,
  parameter bit          BSpread    = 1'b0,
  parameter int unsigned BDepth     = 0,
  parameter int unsigned OutWidth   = 8,
  parameter bit          OutSigned  = 1'b1,
  parameter int unsigned ShiftRight = 0,
  parameter int unsigned ShiftLeft  = 0,
  parameter int unsigned Rounding   = 0
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
    $error("chop_extreme: Lanes must be >= 1");
  end

  localparam int unsigned AFull     = (ASigned ? AWidth : AWidth + 1) + AShiftLeft;
  localparam int unsigned BFull     = (BSigned ? BWidth : BWidth + 1) + BShiftLeft;
  localparam int unsigned FullWidth = chop_pkg::max(AFull, BFull);

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

  logic [Lanes*FullWidth-1:0] values;
  for (genvar i = 0; i < Lanes; i = i + 1) begin : gen_lane
    logic signed [FullWidth-1:0] a, b, a_aligned, b_aligned;
    logic                        takes_a;
    if (ASigned) begin : gen_a_signed
      assign a = FullWidth'($signed(a_data[i*AWidth +: AWidth]));
    end else begin : gen_a_unsigned
      assign a = FullWidth'(a_data[i*AWidth +: AWidth]);
    end
    if (BSigned) begin : gen_b_signed
      assign b = FullWidth'($signed(b_data[i*BWidth +: BWidth]));
    end else begin : gen_b_unsigned
      assign b = FullWidth'(b_data[i*BWidth +: BWidth]);
    end
    assign a_aligned = a <<< AShiftLeft;
    assign b_aligned = b <<< BShiftLeft;
    assign takes_a   = (a_aligned < b_aligned) == Minimum;
    assign values[i*FullWidth +: FullWidth] = takes_a ? a_aligned : b_aligned;
  end

  chop_cast #(
    .Lanes     (Lanes),
    .InWidth   (FullWidth),
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
    .x_valid_i(valid),
    .x_ready_o(ready),
    .y_data_o (y_data_o),
    .y_valid_o(y_valid_o),
    .y_ready_i(y_ready_i)
  );
endmodule
