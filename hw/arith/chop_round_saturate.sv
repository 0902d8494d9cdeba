// y = saturate(round(x * 2^(ShiftLeft - ShiftRight))), at most one of the shifts nonzero.
// Combinational. Rounding: 0 half up, 1 floor, 2 half to even. It adds once, in a width that cannot
// overflow; the limits of the output are only compared with what the rounded value can exceed.
// Symmetric: the lowest output is -(2^(OutWidth-1) - 1), so that the levels are those of -x.
module chop_round_saturate #(
  parameter int unsigned InWidth    = 16,
  parameter bit          InSigned   = 1'b1,
  parameter int unsigned OutWidth   = 8,
  parameter bit          OutSigned  = 1'b1,
  parameter int unsigned ShiftRight = 0,
  parameter int unsigned ShiftLeft  = 0,
  parameter int unsigned Rounding   = 0,
  parameter bit          Symmetric  = 1'b0
) (
  input  logic [InWidth-1:0]  data_i,
  output logic [OutWidth-1:0] data_o
);
  if (InWidth < 1 || OutWidth < 1) begin : gen_check_width
    $error("chop_round_saturate: InWidth and OutWidth must be >= 1");
  end
  if (ShiftRight != 0 && ShiftLeft != 0) begin : gen_check_shift
    $error("chop_round_saturate: ShiftRight or ShiftLeft must be 0");
  end
  if (Symmetric && (!OutSigned || OutWidth < 2)) begin : gen_check_symmetric
    $error("chop_round_saturate: Symmetric needs a signed output of 2 bits or more");
  end
  if (Rounding > 2) begin : gen_check_rounding
    $error("chop_round_saturate: Rounding must be 0 (half up), 1 (floor) or 2 (half to even)");
  end

  localparam int unsigned ValueWidth = InSigned ? InWidth : InWidth + 1;
  // Two's complement bits of the rounded value: a shift drops bits, rounding up may need one more.
  localparam int unsigned Whole =
      (ValueWidth > ShiftRight) ? ValueWidth - ShiftRight + ShiftLeft : 1;
  localparam int unsigned RoundedWidth = (ShiftRight != 0 && Rounding != 1) ? Whole + 1 : Whole;

  logic signed [ValueWidth-1:0]   value;
  logic signed [RoundedWidth-1:0] rounded;

  if (InSigned) begin : gen_signed
    assign value = data_i;
  end else begin : gen_unsigned
    assign value = {1'b0, data_i};
  end

  if (ShiftRight == 0) begin : gen_exact
    assign rounded = RoundedWidth'(value) <<< ShiftLeft;
  end else if (Rounding == 1) begin : gen_floor
    assign rounded = RoundedWidth'(value >>> ShiftRight);
  end else if (Rounding == 0) begin : gen_half_up
    // floor(x + 1/2): the first bit dropped is added to the floor.
    logic signed [ValueWidth-1:0] doubled;
    assign doubled = value >>> (ShiftRight - 1);
    assign rounded = RoundedWidth'(doubled >>> 1) + RoundedWidth'(doubled[0]);
  end else begin : gen_half_even
    logic signed [ValueWidth-1:0]   doubled;
    logic signed [RoundedWidth-1:0] floor;
    logic                           half, more, up;
    assign floor   = RoundedWidth'(value >>> ShiftRight);
    assign doubled = value >>> (ShiftRight - 1);
    assign half    = doubled[0];
    assign more    = ((doubled <<< (ShiftRight - 1)) != value);
    assign up      = half && (more || floor[0]);
    assign rounded = floor + RoundedWidth'(up);
  end

  logic [OutWidth-1:0] limited;
  // Out of range where the bits above the output are not copies of its sign (unsigned: not zero).
  if (RoundedWidth <= OutWidth) begin : gen_fits
    if (OutSigned) begin : gen_signed
      assign limited = OutWidth'(rounded);
    end else begin : gen_unsigned
      assign limited = rounded[RoundedWidth-1] ? '0 : OutWidth'(rounded);
    end
  end else begin : gen_saturate
    logic negative;
    assign negative = rounded[RoundedWidth-1];
    if (OutSigned) begin : gen_signed
      logic [RoundedWidth-OutWidth:0] high;
      logic                           in_range;
      assign high     = rounded[RoundedWidth-1:OutWidth-1];
      assign in_range = (&high) || !(|high);
      always_comb begin
        limited = rounded[OutWidth-1:0];
        if (!in_range) begin
          limited = {OutWidth{!negative}};
          limited[OutWidth-1] = negative;
        end
      end
    end else begin : gen_unsigned
      logic in_range;
      assign in_range = !(|rounded[RoundedWidth-1:OutWidth]);
      assign limited  = in_range ? rounded[OutWidth-1:0] : {OutWidth{!negative}};
    end
  end

  if (Symmetric) begin : gen_symmetric
    logic is_lowest;
    assign is_lowest = limited == {1'b1, {(OutWidth-1){1'b0}}};
    assign data_o    = is_lowest ? {1'b1, {(OutWidth-1){1'b0}}} | OutWidth'(1) : limited;
  end else begin : gen_all_levels
    assign data_o = limited;
  end
endmodule
