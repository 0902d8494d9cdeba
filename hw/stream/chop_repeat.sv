// Gives groups of beats again and again: every block of Beats beats Repeats times, in order. With
// Spread a beat is a block (Beats = 1), and in each of its repeats all lanes show one element: the
// first lane's in the first Repeats/Lanes of them, and so on. Depth: beats stored, at least Beats.
// Latency 2, one beat per cycle, also between blocks. A beat's last use frees its slot in the same
// cycle, so ready_o is combinational in ready_i; valid and data are registers (behind a selection
// where Spread). Depth 0: wires.
module chop_repeat #(
  parameter int unsigned ElementWidth = 8,
  parameter int unsigned Lanes        = 2,
  parameter int unsigned Beats        = 1,
  parameter int unsigned Repeats      = 1,
  parameter bit          Spread       = 1'b0,
  parameter int unsigned Depth        = 0
) (
  input  logic                          clk_i,
  input  logic                          rst_ni,
  input  logic                          valid_i,
  output logic                          ready_o,
  input  logic [Lanes*ElementWidth-1:0] data_i,
  output logic                          valid_o,
  input  logic                          ready_i,
  output logic [Lanes*ElementWidth-1:0] data_o
);
  if (Spread && (Beats != 1 || Repeats % Lanes != 0)) begin : gen_check
    $error("chop_repeat: Spread needs Beats = 1 and Lanes that divide Repeats");
  end

  if (Depth == 0) begin : gen_wires
    assign valid_o = valid_i;
    assign ready_o = ready_i;
    assign data_o  = data_i;
    logic unused;
    assign unused = ^{clk_i, rst_ni};
  end else begin : gen_buffer
    logic                          valid_q, free, step_valid, step;
    logic                          beat_first, beat_last, repeat_last;
    logic [Lanes*ElementWidth-1:0] word;
    assign free    = ready_i || !valid_q;
    assign step    = step_valid && free;
    assign valid_o = valid_q;

    always_ff @(posedge clk_i) begin
      if (!rst_ni) valid_q <= 1'b0;
      else if (free) valid_q <= step_valid;
    end

    chop_replay_buffer #(
      .Width  (Lanes * ElementWidth),
      .Beats  (Beats),
      .Repeats(Repeats),
      .Depth  (Depth)
    ) u_buffer (
      .clk_i        (clk_i),
      .rst_ni       (rst_ni),
      .valid_i      (valid_i),
      .ready_o      (ready_o),
      .data_i       (data_i),
      .step_valid_o (step_valid),
      .step_i       (step),
      .beat_first_o (beat_first),
      .beat_last_o  (beat_last),
      .repeat_last_o(repeat_last),
      .data_o       (word)
    );
    logic unused;
    assign unused = ^{beat_first, beat_last, repeat_last};

    if (Spread && Lanes > 1) begin : gen_spread
      localparam int unsigned IndexWidth = chop_pkg::index_width(Lanes);
      logic                  first, last;
      logic [IndexWidth-1:0] next_q, lane_q;
      chop_loop #(
        .Count(Repeats / Lanes)
      ) u_hold (
        .clk_i  (clk_i),
        .rst_ni (rst_ni),
        .step_i (step),
        .first_o(first),
        .last_o (last)
      );
      logic unused_first;
      assign unused_first = first;

      // The lane of the next step, and that of the word shown.
      always_ff @(posedge clk_i) begin
        if (!rst_ni) next_q <= '0;
        else if (step && last) next_q <= (next_q == IndexWidth'(Lanes - 1)) ? '0 : next_q + 1'b1;
      end
      always_ff @(posedge clk_i) begin
        if (step) lane_q <= next_q;
      end

      logic [ElementWidth-1:0] element;
      always_comb begin
        element = word[(Lanes-1)*ElementWidth +: ElementWidth];
        for (int unsigned k = 0; k < Lanes - 1; k = k + 1) begin
          if (lane_q == IndexWidth'(k)) element = word[k*ElementWidth +: ElementWidth];
        end
      end
      assign data_o = {Lanes{element}};
    end else begin : gen_word
      assign data_o = word;
    end
  end
endmodule
