// Counts steps from 0 to Count-1, again and again: first_o and last_o say whether the present step
// is the first or the last of a round. Both are combinational in the count alone; Count 1 has none.
module chop_loop #(
  parameter int unsigned Count = 4
) (
  input  logic clk_i,
  input  logic rst_ni,
  input  logic step_i,
  output logic first_o,
  output logic last_o
);
  if (Count < 1) begin : gen_check
    $error("chop_loop: Count must be >= 1");
  end

  if (Count == 1) begin : gen_once
    assign first_o = 1'b1;
    assign last_o  = 1'b1;
    logic unused;
    assign unused = ^{clk_i, rst_ni, step_i};
  end else begin : gen_count
    localparam int unsigned IndexWidth = chop_pkg::index_width(Count);
    logic [IndexWidth-1:0] index_q;
    assign first_o = (index_q == '0);
    assign last_o  = (index_q == IndexWidth'(Count - 1));
    always_ff @(posedge clk_i) begin
      if (!rst_ni) index_q <= '0;
      else if (step_i) index_q <= last_o ? '0 : index_q + 1'b1;
    end
  end
endmodule
