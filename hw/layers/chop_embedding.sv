// y = row x of a table, in OutLanes elements a beat: Beats beats for every index. TableFile: Rows *
// Beats words of OutLanes values, lane 0 low, row by row; indices are below Rows. Indices wait in a
// buffer of InDepth. Latency 3 (buffer, index, word) to a row's first beat, one beat per cycle,
// also between rows. ready of x is combinational in y_ready_i; valid and data are registers.
module chop_embedding #(
  parameter int unsigned IndexWidth = 4,
  parameter int unsigned Rows       = 16,
  parameter int unsigned Beats      = 2,
  parameter int unsigned OutLanes   = 2,
  parameter int unsigned OutWidth   = 8,
  parameter int unsigned InDepth    = 1,
  parameter              TableFile  = "",
  parameter              RomStyle   = "auto"
) (
  input  logic                         clk_i,
  input  logic                         rst_ni,
  input  logic [IndexWidth-1:0]        x_data_i,
  input  logic                         x_valid_i,
  output logic                         x_ready_o,
  output logic [OutLanes*OutWidth-1:0] y_data_o,
  output logic                         y_valid_o,
  input  logic                         y_ready_i
);
  if (Rows < 1 || Beats < 1 || OutLanes < 1) begin : gen_check
    $error("chop_embedding: Rows, Beats and OutLanes must be >= 1");
  end

  localparam int unsigned AddressWidth = chop_pkg::index_width(Rows * Beats);
  localparam int unsigned BeatWidth    = chop_pkg::index_width(Beats);

  logic                  step_valid, step, index_valid_q, index_ready, word_valid_q, word_ready;
  logic [IndexWidth-1:0] index;
  logic                  beat_first, beat_last, repeat_last;
  assign word_ready  = y_ready_i || !word_valid_q;
  assign index_ready = word_ready || !index_valid_q;
  assign step        = step_valid && index_ready;
  assign y_valid_o   = word_valid_q;

  chop_replay_buffer #(
    .Width  (IndexWidth),
    .Beats  (1),
    .Repeats(Beats),
    .Depth  (InDepth)
  ) u_buffer (
    .clk_i        (clk_i),
    .rst_ni       (rst_ni),
    .valid_i      (x_valid_i),
    .ready_o      (x_ready_o),
    .data_i       (x_data_i),
    .step_valid_o (step_valid),
    .step_i       (step),
    .beat_first_o (beat_first),
    .beat_last_o  (beat_last),
    .repeat_last_o(repeat_last),
    .data_o       (index)
  );
  logic unused;
  assign unused = ^{beat_first, beat_last, repeat_last, index};

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      index_valid_q <= 1'b0;
      word_valid_q  <= 1'b0;
    end else begin
      if (index_ready) index_valid_q <= step_valid;
      if (word_ready) word_valid_q <= index_valid_q;
    end
  end

  logic                    read;
  logic [BeatWidth-1:0]    beat_q;
  logic [AddressWidth-1:0] address;
  assign read    = index_valid_q && word_ready;
  assign address = AddressWidth'(AddressWidth'(index) * AddressWidth'(Beats))
      + AddressWidth'(beat_q);
  always_ff @(posedge clk_i) begin
    if (!rst_ni) beat_q <= '0;
    else if (read) beat_q <= (beat_q == BeatWidth'(Beats - 1)) ? '0 : beat_q + 1'b1;
  end

  chop_rom #(
    .Width(OutLanes * OutWidth),
    .Depth(Rows * Beats),
    .File (TableFile),
    .Style(RomStyle)
  ) u_table (
    .clk_i    (clk_i),
    .en_i     (read),
    .address_i(address),
    .data_o   (y_data_o)
  );
endmodule
