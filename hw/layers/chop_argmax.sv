// y = the index of the largest of Size elements, the first of equal ones: one beat of one index for
// every Size/Lanes beats. Latency 2 behind the last of them (largest of the beat, result), one beat
// per cycle. Each stage accepts when it is empty or its beat moves on, so x_ready_o is
// combinational in y_ready_i; valid and data are registers.
module chop_argmax #(
  parameter int unsigned Lanes    = 4,
  parameter int unsigned Size     = 8,
  parameter int unsigned InWidth  = 8,
  parameter bit          InSigned = 1'b1,
  parameter int unsigned OutWidth = 3
) (
  input  logic                     clk_i,
  input  logic                     rst_ni,
  input  logic [Lanes*InWidth-1:0] x_data_i,
  input  logic                     x_valid_i,
  output logic                     x_ready_o,
  output logic [OutWidth-1:0]      y_data_o,
  output logic                     y_valid_o,
  input  logic                     y_ready_i
);
  if (Lanes < 1 || Size % Lanes != 0) begin : gen_check_lanes
    $error("chop_argmax: Lanes must divide Size");
  end
  if ((Size - 1) >> OutWidth != 0) begin : gen_check_width
    $error("chop_argmax: OutWidth must hold Size - 1");
  end

  localparam int unsigned Levels    = $clog2(Lanes);
  localparam int unsigned Leaves    = 1 << Levels;
  localparam int unsigned LaneWidth = chop_pkg::index_width(Lanes);

  // The first largest lane of the beat: a tree in which the right side has to be larger.
  for (genvar l = 0; l <= Levels; l = l + 1) begin : gen_level
    localparam int unsigned Nodes = Leaves >> l;
    logic [Nodes*InWidth-1:0]   values;
    logic [Nodes*LaneWidth-1:0] lanes;
    logic [Nodes-1:0]           there;
    for (genvar i = 0; i < Nodes; i = i + 1) begin : gen_node
      if (l == 0) begin : gen_leaf
        if (i < Lanes) begin : gen_lane
          assign values[i*InWidth +: InWidth]    = x_data_i[i*InWidth +: InWidth];
          assign there[i]                        = 1'b1;
        end else begin : gen_none
          assign values[i*InWidth +: InWidth]    = '0;
          assign there[i]                        = 1'b0;
        end
        assign lanes[i*LaneWidth +: LaneWidth] = LaneWidth'(i);
      end else begin : gen_pair
        logic [InWidth-1:0] left, right;
        logic               larger, takes_right;
        assign left  = gen_level[l-1].values[(2*i)*InWidth +: InWidth];
        assign right = gen_level[l-1].values[(2*i+1)*InWidth +: InWidth];
        if (InSigned) begin : gen_signed
          assign larger = ($signed(right) > $signed(left));
        end else begin : gen_unsigned
          assign larger = (right > left);
        end
        assign takes_right = gen_level[l-1].there[2*i+1] && larger;
        assign values[i*InWidth +: InWidth] = takes_right ? right : left;
        assign there[i]                     = gen_level[l-1].there[2*i];
        assign lanes[i*LaneWidth +: LaneWidth] = takes_right
            ? gen_level[l-1].lanes[(2*i+1)*LaneWidth +: LaneWidth]
            : gen_level[l-1].lanes[(2*i)*LaneWidth +: LaneWidth];
      end
    end
  end
  logic unused;
  assign unused = ^gen_level[Levels].there;

  logic beat_valid_q, beat_ready, load, first, last, result_ready;
  assign x_ready_o  = beat_ready || !beat_valid_q;
  assign beat_ready = !last || result_ready;
  assign load       = x_valid_i && x_ready_o;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) beat_valid_q <= 1'b0;
    else if (x_ready_o) beat_valid_q <= x_valid_i;
  end

  logic [InWidth-1:0]   value_q;
  logic [LaneWidth-1:0] lane_q;
  always_ff @(posedge clk_i) begin
    if (load) begin
      value_q <= gen_level[Levels].values;
      lane_q  <= gen_level[Levels].lanes;
    end
  end

  // The first largest of the beats so far.
  logic step;
  assign step = beat_valid_q && beat_ready;
  chop_loop #(
    .Count(Size / Lanes)
  ) u_beats (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .step_i (step),
    .first_o(first),
    .last_o (last)
  );

  logic [InWidth-1:0]  best_q;
  logic [OutWidth-1:0] index_q, base_q, base, index;
  logic                larger, takes;
  if (InSigned) begin : gen_signed
    assign larger = ($signed(value_q) > $signed(best_q));
  end else begin : gen_unsigned
    assign larger = (value_q > best_q);
  end
  assign takes = first || larger;
  assign base  = first ? '0 : base_q;
  assign index = takes ? base + OutWidth'(lane_q) : index_q;

  always_ff @(posedge clk_i) begin
    if (step) begin
      base_q  <= base + OutWidth'(Lanes);
      index_q <= index;
      if (takes) best_q <= value_q;
    end
  end

  chop_stream_register #(
    .Width(OutWidth)
  ) u_register (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .valid_i(beat_valid_q && last),
    .ready_o(result_ready),
    .data_i (index),
    .valid_o(y_valid_o),
    .ready_i(y_ready_i),
    .data_o (y_data_o)
  );
endmodule
