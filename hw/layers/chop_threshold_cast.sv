// y[c] = level number #{k : x[c] >= threshold k of channel c}: a change of number format by
// comparison, for any levels. ThresholdFile: a word per beat, of Lanes times Thresholds numbers of
// InWidth + 1 bits, signed as x is, rising; lane 0 and threshold 0 low; channels are innermost.
// LevelFile: one word of Thresholds + 1 levels. Every threshold passed exchanges a level for the
// next, so y is the exclusive or of the lowest level and of what the thresholds passed change: no
// counting. Latency 3 (operands, comparisons, result), capacity 3, one beat per cycle. Each stage
// accepts when it is empty or its beat moves on, so x_ready_o is combinational in y_ready_i; valid
// and data are registers.
module chop_threshold_cast #(
  parameter int unsigned Lanes         = 4,
  parameter int unsigned Channels      = 4,
  parameter int unsigned InWidth       = 8,
  parameter bit          InSigned      = 1'b1,
  parameter int unsigned OutWidth      = 2,
  parameter int unsigned Thresholds    = 2,
  parameter              ThresholdFile = "",
  parameter              LevelFile     = "",
  parameter              RomStyle      = "auto"
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
  if (Lanes < 1 || Channels % Lanes != 0) begin : gen_check_lanes
    $error("chop_threshold_cast: Lanes must divide Channels");
  end
  if (Thresholds < 1) begin : gen_check_thresholds
    $error("chop_threshold_cast: Thresholds must be >= 1");
  end

  localparam int unsigned Beats     = Channels / Lanes;
  localparam int unsigned BeatWidth = chop_pkg::index_width(Beats);
  localparam int unsigned Width     = InWidth + 1;

  // Stage k loads where load_k is high; a stage is ready when it is empty or its beat moves on.
  logic operands_valid_q, passed_valid_q, load_operands, load_passed;
  logic operands_ready, passed_ready, result_ready;
  assign passed_ready   = result_ready || !passed_valid_q;
  assign operands_ready = passed_ready || !operands_valid_q;
  assign x_ready_o      = operands_ready;
  assign load_operands  = x_valid_i && operands_ready;
  assign load_passed    = operands_valid_q && passed_ready;

  logic [BeatWidth-1:0] beat_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      operands_valid_q <= 1'b0;
      passed_valid_q   <= 1'b0;
      beat_q           <= '0;
    end else begin
      if (operands_ready) operands_valid_q <= x_valid_i;
      if (passed_ready) passed_valid_q <= operands_valid_q;
      if (load_operands) beat_q <= (beat_q == BeatWidth'(Beats - 1)) ? '0 : beat_q + 1'b1;
    end
  end

  logic [Lanes*InWidth-1:0] x_q;
  always_ff @(posedge clk_i) begin
    if (load_operands) x_q <= x_data_i;
  end

  logic [Lanes*Thresholds*Width-1:0] thresholds;
  chop_rom #(
    .Width(Lanes * Thresholds * Width),
    .Depth(Beats),
    .File (ThresholdFile),
    .Style(RomStyle)
  ) u_thresholds (
    .clk_i    (clk_i),
    .en_i     (load_operands),
    .address_i(beat_q),
    .data_o   (thresholds)
  );

  logic [(Thresholds+1)*OutWidth-1:0] levels;
  chop_rom #(
    .Width((Thresholds + 1) * OutWidth),
    .Depth(1),
    .File (LevelFile)
  ) u_levels (
    .clk_i    (clk_i),
    .en_i     (1'b0),
    .address_i(1'b0),
    .data_o   (levels)
  );

  logic [Lanes*Thresholds-1:0] passed_q;
  logic [Lanes*OutWidth-1:0]   results;

  for (genvar i = 0; i < Lanes; i = i + 1) begin : gen_lane
    for (genvar k = 0; k < Thresholds; k = k + 1) begin : gen_threshold
      logic passed;
      if (InSigned) begin : gen_signed
        logic signed [InWidth-1:0] x;
        logic signed [Width-1:0]   threshold;
        assign x         = x_q[i*InWidth +: InWidth];
        assign threshold = thresholds[(i*Thresholds+k)*Width +: Width];
        assign passed    = (Width'(x) >= threshold);
      end else begin : gen_unsigned
        assign passed = ({1'b0, x_q[i*InWidth +: InWidth]}
            >= thresholds[(i*Thresholds+k)*Width +: Width]);
      end
      always_ff @(posedge clk_i) begin
        if (load_passed) passed_q[i*Thresholds+k] <= passed;
      end
    end

    always_comb begin
      results[i*OutWidth +: OutWidth] = levels[OutWidth-1:0];
      for (int k = 0; k < Thresholds; k = k + 1) begin
        if (passed_q[i*Thresholds+k]) begin
          results[i*OutWidth +: OutWidth] = results[i*OutWidth +: OutWidth]
              ^ levels[k*OutWidth +: OutWidth] ^ levels[(k+1)*OutWidth +: OutWidth];
        end
      end
    end
  end

  chop_stream_register #(
    .Width(Lanes * OutWidth)
  ) u_register (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .valid_i(passed_valid_q),
    .ready_o(result_ready),
    .data_i (results),
    .valid_o(y_valid_o),
    .ready_i(y_ready_i),
    .data_o (y_data_o)
  );
endmodule
