// y = table[x], lane by lane: any function of few bits. TableFile: 2^InWidth words of OutWidth
// bits, the word of x at the address of x's bits. Latency 2 (table, result), capacity 2, one beat
// per cycle. Each stage accepts when it is empty or its beat moves on, so x_ready_o is
// combinational in y_ready_i; valid and data are registers.
module chop_table_cast #(
  parameter int unsigned Lanes     = 4,
  parameter int unsigned InWidth   = 6,
  parameter int unsigned OutWidth  = 8,
  parameter              TableFile = "",
  parameter              RomStyle  = "auto"
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
  if (Lanes < 1 || InWidth > 16) begin : gen_check
    $error("chop_table_cast: Lanes must be >= 1 and InWidth at most 16");
  end

  logic valid_q, word_ready, result_ready;
  assign word_ready = result_ready || !valid_q;
  assign x_ready_o  = word_ready;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) valid_q <= 1'b0;
    else if (word_ready) valid_q <= x_valid_i;
  end

  logic [Lanes*OutWidth-1:0] words;
  for (genvar i = 0; i < Lanes; i = i + 1) begin : gen_lane
    chop_rom #(
      .Width(OutWidth),
      .Depth(1 << InWidth),
      .File (TableFile),
      .Style(RomStyle)
    ) u_table (
      .clk_i    (clk_i),
      .en_i     (x_valid_i && word_ready),
      .address_i(x_data_i[i*InWidth +: InWidth]),
      .data_o   (words[i*OutWidth +: OutWidth])
    );
  end

  chop_stream_register #(
    .Width(Lanes * OutWidth)
  ) u_register (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .valid_i(valid_q),
    .ready_o(result_ready),
    .data_i (words),
    .valid_o(y_valid_o),
    .ready_i(y_ready_i),
    .data_o (y_data_o)
  );
endmodule
