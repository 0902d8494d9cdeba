// The address in a memory of Sets sets of Words words, a step at a time: a vector steps through the
// words of its set. RunVectors vectors one after the other, a run, have the same set; the next run
// has the next one, the last set is followed by the first, and after Runs runs set 0 is next.
//
// address_o is a register: it belongs to the present step, and moves on with it.
module chop_set_address #(
  parameter int unsigned Words      = 4,
  parameter int unsigned Sets       = 2,
  parameter int unsigned RunVectors = 1,
  parameter int unsigned Runs       = Sets,
  localparam int unsigned AddressWidth = chop_pkg::index_width(Words * Sets)
) (
  input  logic                    clk_i,
  input  logic                    rst_ni,
  input  logic                    step_i,
  output logic [AddressWidth-1:0] address_o
);
  if (Words < 1 || Sets < 1 || RunVectors < 1 || Runs < Sets) begin : gen_check
    $error("chop_set_address: Words, Sets and RunVectors must be >= 1, Runs >= Sets");
  end

  logic [AddressWidth-1:0] address_q, next;
  assign address_o = address_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) address_q <= '0;
    else if (step_i) address_q <= next;
  end

  if (Sets == 1 || (RunVectors == 1 && Runs == Sets)) begin : gen_straight
    assign next = (address_q == AddressWidth'(Words * Sets - 1)) ? '0 : address_q + 1'b1;
  end else begin : gen_runs
    logic word_last, vector_last, run_last;
    logic [2:0] unused_first;

    chop_loop #(
      .Count(Words)
    ) u_words (
      .clk_i  (clk_i),
      .rst_ni (rst_ni),
      .step_i (step_i),
      .first_o(unused_first[0]),
      .last_o (word_last)
    );
    chop_loop #(
      .Count(RunVectors)
    ) u_vectors (
      .clk_i  (clk_i),
      .rst_ni (rst_ni),
      .step_i (step_i && word_last),
      .first_o(unused_first[1]),
      .last_o (vector_last)
    );
    chop_loop #(
      .Count(Runs)
    ) u_runs (
      .clk_i  (clk_i),
      .rst_ni (rst_ni),
      .step_i (step_i && word_last && vector_last),
      .first_o(unused_first[2]),
      .last_o (run_last)
    );

    always_comb begin
      next = (address_q == AddressWidth'(Words * Sets - 1)) ? '0 : address_q + 1'b1;
      if (word_last && !vector_last) next = address_q - AddressWidth'(Words - 1);
      if (word_last && vector_last && run_last) next = '0;
    end
    logic unused;
    assign unused = ^unused_first;
  end
endmodule
