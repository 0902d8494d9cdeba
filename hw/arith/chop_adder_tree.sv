// Sum of Inputs numbers, OutWidth bits two's complement (wraps). They are two's complement or, with
// Signed 0, unsigned: of single bits the sum is their number (popcount). A register after every
// LevelsPerStage levels and after the last: latency ceil(clog2(Inputs) / LevelsPerStage), 0 for one
// input. Free-running: one sum per cycle, never stalls.
module chop_adder_tree #(
  parameter int unsigned Inputs         = 4,
  parameter int unsigned InWidth        = 16,
  parameter int unsigned OutWidth       = 18,
  parameter bit          Signed         = 1'b1,
  parameter int unsigned LevelsPerStage = 1
) (
  input  logic                      clk_i,
  input  logic [Inputs*InWidth-1:0] data_i,
  output logic [OutWidth-1:0]       sum_o
);
  if (Inputs < 1 || InWidth < 1 || OutWidth < 1 || LevelsPerStage < 1) begin : gen_check
    $error("chop_adder_tree: every parameter must be >= 1");
  end

  localparam int unsigned Levels = $clog2(Inputs);

  // Level k holds ceil(Inputs / 2^k) sums, one bit wider at every level until OutWidth.
  for (genvar k = 0; k <= Levels; k = k + 1) begin : gen_level
    localparam int unsigned Nodes = chop_pkg::ceil_div(Inputs, 1 << k);
    localparam int unsigned Width = chop_pkg::min(InWidth + k, OutWidth);
    logic [Nodes*Width-1:0] sums;

    if (k == 0) begin : gen_inputs
      for (genvar i = 0; i < Nodes; i = i + 1) begin : gen_node
        // Bits above OutWidth cannot reach the wrapped sum.
        assign sums[i*Width +: Width] = data_i[i*InWidth +: Width];
      end
      if (Width < InWidth) begin : gen_wrap
        logic unused;
        assign unused = ^data_i;
      end
    end else begin : gen_sums
      localparam int unsigned Below      = chop_pkg::ceil_div(Inputs, 1 << (k - 1));
      localparam int unsigned BelowWidth = chop_pkg::min(InWidth + k - 1, OutWidth);
      logic [Nodes*Width-1:0] sums_d;

      for (genvar i = 0; i < Nodes; i = i + 1) begin : gen_node
        logic [BelowWidth-1:0]   a_below, b_below;
        logic signed [Width-1:0] a, b;
        // Kept as it is: Yosys would merge adders into carry-save trees, a third larger in 4-input
        // LUTs.
        (* keep *) logic signed [Width-1:0] sum;
        assign a_below = gen_level[k-1].sums[2*i*BelowWidth +: BelowWidth];
        if (2 * i + 1 < Below) begin : gen_pair
          assign b_below = gen_level[k-1].sums[(2*i+1)*BelowWidth +: BelowWidth];
        end else begin : gen_odd
          assign b_below = '0;
        end
        if (Width > BelowWidth) begin : gen_wider
          assign a = {Signed && a_below[BelowWidth-1], a_below};
          assign b = {Signed && b_below[BelowWidth-1], b_below};
        end else begin : gen_wrapped
          assign a = a_below;
          assign b = b_below;
        end
        assign sum = a + b;
        assign sums_d[i*Width +: Width] = sum;
      end

      if (k % LevelsPerStage == 0 || k == Levels) begin : gen_register
        always_ff @(posedge clk_i) sums <= sums_d;
      end else begin : gen_wires
        assign sums = sums_d;
      end
    end
  end

  // The last level may be narrower than OutWidth: extend it by its sign, or by zeros.
  localparam int unsigned LastWidth = chop_pkg::min(InWidth + Levels, OutWidth);
  logic [LastWidth-1:0] last;
  assign last = gen_level[Levels].sums;
  if (OutWidth > LastWidth) begin : gen_extend
    assign sum_o = {{(OutWidth - LastWidth){Signed && last[LastWidth-1]}}, last};
  end else begin : gen_whole
    assign sum_o = last;
  end

  if (Levels == 0) begin : gen_no_register
    logic unused;
    assign unused = clk_i;
  end
endmodule
