// The streams around an adder graph that stands outside: every beat of x is a vector, and y is
// Start + 2^k-weighted terms that the graph gives for the vector's digits. OutWidth bits two's
// complement; the result is known to fit.
//
// Digits of DigitWidth bits go to digits_o, the lowest of every lane first, one a cycle; all are
// numbers >= 0. With InSigned and Digits > 1 the lanes' signs are inverted, which adds
// 2^(InWidth-1) to each: Start makes up for it. Whole numbers (Digits 1) go out as they are.
// Stages cycles later the graph's terms are back at terms_i. Lane o adds them, or with Negative[o]
// subtracts them: the sum so far goes down by DigitWidth bits each time, which are done. SumWidth
// holds every such sum.
//
// Digits cycles per vector. A beat accepted in cycle a may be used from a+1 on. The step of a
// vector's last digit, issued in cycle s, has its beat valid in s + Stages + 2; it issues only with
// one of OutDepth credits, which the output handshake returns for the next cycle, so the graph
// never stalls. No combinational path between the streams, nor from valid to ready or back.
module chop_adder_shell #(
  parameter int unsigned InLanes    = 4,
  parameter int unsigned OutLanes   = 4,
  parameter int unsigned InWidth    = 8,
  parameter bit          InSigned   = 1'b1,
  parameter int unsigned Digits     = 1,
  parameter int unsigned DigitWidth = InWidth,
  parameter int unsigned TermWidth  = 16,
  parameter int unsigned SumWidth   = 20,
  parameter int unsigned OutWidth   = 20,
  parameter int unsigned Stages     = 1,
  parameter int unsigned InDepth    = 1,
  parameter int unsigned OutDepth   = 2,
  parameter logic [OutLanes-1:0]          Negative = '0,
  parameter logic [OutLanes*SumWidth-1:0] Start    = '0
) (
  input  logic                           clk_i,
  input  logic                           rst_ni,
  input  logic [InLanes*InWidth-1:0]     x_data_i,
  input  logic                           x_valid_i,
  output logic                           x_ready_o,
  output logic [OutLanes*OutWidth-1:0]   y_data_o,
  output logic                           y_valid_o,
  input  logic                           y_ready_i,
  output logic [InLanes*DigitWidth-1:0]  digits_o,
  input  logic [OutLanes*TermWidth-1:0]  terms_i
);
  if (Digits < 1 || Digits * DigitWidth < InWidth || (Digits - 1) * DigitWidth >= InWidth)
  begin : gen_check_digits
    $error("chop_adder_shell: Digits must be InWidth / DigitWidth, rounded up");
  end
  if (SumWidth < TermWidth) begin : gen_check_sum
    $error("chop_adder_shell: SumWidth must be >= TermWidth");
  end

  // ---- Issue: one digit of a vector per cycle ----

  logic step, step_valid, step_last;
  logic [InLanes*InWidth-1:0] x;
  logic beat_first, beat_last;

  chop_replay_buffer #(
    .Width  (InLanes * InWidth),
    .Beats  (1),
    .Repeats(Digits),
    .Depth  (InDepth)
  ) u_replay (
    .clk_i        (clk_i),
    .rst_ni       (rst_ni),
    .valid_i      (x_valid_i),
    .ready_o      (x_ready_o),
    .data_i       (x_data_i),
    .step_valid_o (step_valid),
    .step_i       (step),
    .beat_first_o (beat_first),
    .beat_last_o  (beat_last),
    .repeat_last_o(step_last),
    .data_o       (x)
  );
  logic unused_beats;
  assign unused_beats = ^{beat_first, beat_last};

  // A free credit is a free place in the output queue that no step in flight has claimed.
  localparam int unsigned CreditWidth = chop_pkg::count_width(OutDepth);
  logic [CreditWidth-1:0] credits_q;
  logic claim, refund;
  assign step   = step_valid && (!step_last || credits_q != '0);
  assign claim  = step && step_last;
  assign refund = y_valid_o && y_ready_i;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) credits_q <= CreditWidth'(OutDepth);
    // Adding all ones counts down, in the same adder.
    else if (claim != refund) credits_q <= credits_q + (refund ? CreditWidth'(1) : '1);
  end

  // Bit k describes the step issued k+1 cycles ago.
  logic [Stages:0] valid_q, last_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) valid_q <= '0;
    else valid_q <= (Stages + 1)'({valid_q, step});
  end
  always_ff @(posedge clk_i) last_q <= (Stages + 1)'({last_q, step_last});

  logic sum_valid, sum_last;
  assign sum_valid = valid_q[Stages];
  assign sum_last  = last_q[Stages];

  // ---- Digits of the vector, and the sums of their terms ----

  logic [OutLanes*OutWidth-1:0] y;

  if (Digits == 1) begin : gen_whole
    assign digits_o = x;

    for (genvar o = 0; o < OutLanes; o = o + 1) begin : gen_out
      logic signed [TermWidth-1:0] term;
      logic signed [SumWidth-1:0]  start, sum;
      assign term  = terms_i[o*TermWidth +: TermWidth];
      assign start = Start[o*SumWidth +: SumWidth];
      assign sum   = Negative[o] ? start - SumWidth'(term) : start + SumWidth'(term);
      assign y[o*OutWidth +: OutWidth] = OutWidth'(sum);
    end
  end else begin : gen_digits
    localparam int unsigned IndexWidth = chop_pkg::index_width(Digits);
    localparam int unsigned FullWidth  = Digits * DigitWidth;
    localparam int unsigned DoneWidth  = (Digits - 1) * DigitWidth;

    logic [IndexWidth-1:0] next_q, index_q;
    always_ff @(posedge clk_i) begin
      if (!rst_ni) next_q <= '0;
      else if (step) next_q <= step_last ? '0 : next_q + 1'b1;
    end
    always_ff @(posedge clk_i) index_q <= next_q;

    for (genvar i = 0; i < InLanes; i = i + 1) begin : gen_in
      logic [InWidth-1:0]   number;
      logic [FullWidth-1:0] digits;
      assign number = x[i*InWidth +: InWidth] ^ {InSigned, {(InWidth-1){1'b0}}};
      assign digits = FullWidth'(number);
      assign digits_o[i*DigitWidth +: DigitWidth] = digits[index_q*DigitWidth +: DigitWidth];
    end

    logic first_q;
    always_ff @(posedge clk_i) begin
      if (!rst_ni) first_q <= 1'b1;
      else if (sum_valid) first_q <= sum_last;
    end

    for (genvar o = 0; o < OutLanes; o = o + 1) begin : gen_out
      logic signed [TermWidth-1:0] term;
      logic signed [SumWidth-1:0]  start, so_far, sum, sum_q;
      logic [DoneWidth-1:0]        done_q;
      logic signed [SumWidth+DoneWidth-1:0] whole;
      assign term   = terms_i[o*TermWidth +: TermWidth];
      assign start  = Start[o*SumWidth +: SumWidth];
      assign so_far = first_q ? start : sum_q >>> DigitWidth;
      assign sum    = Negative[o] ? so_far - SumWidth'(term) : so_far + SumWidth'(term);
      assign whole  = {sum, done_q};
      assign y[o*OutWidth +: OutWidth] = OutWidth'(whole);
      always_ff @(posedge clk_i) begin
        if (sum_valid) begin
          sum_q  <= sum;
          done_q <= DoneWidth'({DigitWidth'(sum), done_q} >> DigitWidth);
        end
      end
      if (SumWidth + DoneWidth > OutWidth) begin : gen_wrap
        logic unused;
        assign unused = ^whole;
      end
    end
  end

  logic unused_ready;
  chop_fifo #(
    .Width(OutLanes * OutWidth),
    .Depth(OutDepth)
  ) u_queue (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .valid_i(sum_valid && sum_last),
    .ready_o(unused_ready),
    .data_i (y),
    .valid_o(y_valid_o),
    .ready_i(y_ready_i),
    .data_o (y_data_o)
  );
endmodule
