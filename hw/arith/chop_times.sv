// product = a * b, two's complement, exact. Combinational. An operand of 3 bits or fewer takes no
// multiplier: of its Booth digits n0 - 2 n1 and n1 - n2 each chooses a multiple of the other
// operand (0, once, twice, inverted where it is negative), and one addition joins them.
module chop_times #(
  parameter int unsigned AWidth = 8,
  parameter int unsigned BWidth = 8,
  localparam int unsigned OutWidth = AWidth + BWidth
) (
  input  logic [AWidth-1:0]   a_i,
  input  logic [BWidth-1:0]   b_i,
  output logic [OutWidth-1:0] product_o
);
  if (AWidth < 1 || BWidth < 1) begin : gen_check
    $error("chop_times: AWidth and BWidth must be >= 1");
  end

  if (AWidth > 3 && BWidth > 3) begin : gen_multiplier
    logic signed [AWidth-1:0] a;
    logic signed [BWidth-1:0] b;
    assign a = a_i;
    assign b = b_i;
    assign product_o = OutWidth'(a) * OutWidth'(b);
  end else begin : gen_choices
    localparam bit          BIsFew    = (BWidth <= AWidth);
    localparam int unsigned FewWidth  = BIsFew ? BWidth : AWidth;
    localparam int unsigned ManyWidth = BIsFew ? AWidth : BWidth;
    logic signed [FewWidth-1:0]  few;
    logic signed [ManyWidth-1:0] many;
    if (BIsFew) begin : gen_b
      assign few  = b_i;
      assign many = a_i;
    end else begin : gen_a
      assign few  = a_i;
      assign many = b_i;
    end

    logic [2:0]                 n;
    logic signed [OutWidth-1:0] wide;
    assign n    = 3'(few);
    assign wide = OutWidth'(many);

    logic [OutWidth-1:0] once_or_twice, low;
    assign once_or_twice = n[0] ? wide : n[1] ? wide << 1 : '0;
    assign low = once_or_twice ^ {OutWidth{n[1]}};

    if (FewWidth < 3) begin : gen_one_digit
      assign product_o = low + OutWidth'(n[1]);
      logic unused;
      assign unused = n[2];
    end else begin : gen_two_digits
      // Inverted numbers want 1 more, the high digit's 4 more; never both at once. 4 is 3 in the
      // free places below the high digit, and the carry.
      logic                high_negative;
      logic [OutWidth-3:0] high;
      logic [OutWidth:0]   sum;
      assign high_negative = n[2] && !n[1];
      assign high = ((n[1] ^ n[2]) ? (OutWidth-2)'(wide) : '0) ^ {(OutWidth-2){high_negative}};
      assign sum = {low, 1'b1} + {high, {2{high_negative}}, n[1] || high_negative};
      assign product_o = sum[OutWidth:1];
      logic unused;
      assign unused = sum[0];
    end
  end
endmodule
