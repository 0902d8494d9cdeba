// y = W x + b: a fully connected layer in blocks of InLanes inputs by OutLanes outputs.
//
// x comes as InFeatures/InLanes beats, lane 0 first, and is kept; y leaves as OutFeatures/OutLanes
// beats. InLanes * OutLanes multipliers work in every cycle of COMPUTE. A vector takes
//   InBeats + OutBeats * (InBeats + 1) cycles
// where nothing stalls: it is loaded, then every block of outputs is computed and sent.
//
// WeightFile: a word per block, all input blocks of the first output block first; in a word the
// weight of input lane i for output lane o stands at element o * InLanes + i. BiasFile: a bias a line.

module fc_layer #(
  parameter int unsigned InFeatures = 16,
  parameter int unsigned OutFeatures = 16,
  parameter int unsigned InLanes = 4,
  parameter int unsigned OutLanes = 4,
  parameter int unsigned DataWidth = 8,
  parameter int unsigned WeightWidth = 8,
  parameter int unsigned BiasWidth = 16,
  parameter int unsigned OutWidth = 24,
  parameter WeightFile = "weights.mem",
  parameter BiasFile = "biases.mem"
) (
  input  logic clk_i,
  input  logic rst_ni,

  input  logic [InLanes*DataWidth-1:0] x_data_i,
  input  logic x_valid_i,
  output logic x_ready_o,

  output logic [OutLanes*OutWidth-1:0] y_data_o,
  output logic y_valid_o,
  input  logic y_ready_i
);

  localparam int unsigned InBeats = InFeatures / InLanes;
  localparam int unsigned OutBeats = OutFeatures / OutLanes;
  localparam int unsigned InIndexWidth = InBeats > 1 ? $clog2(InBeats) : 1;
  localparam int unsigned OutIndexWidth = OutBeats > 1 ? $clog2(OutBeats) : 1;
  localparam int unsigned WordIndexWidth = InBeats * OutBeats > 1 ? $clog2(InBeats * OutBeats) : 1;

  if (InFeatures % InLanes != 0 || OutFeatures % OutLanes != 0) begin : gen_check
    $error("fc_layer: lanes must divide features");
  end

  typedef enum logic [1:0] {LOAD, COMPUTE, SEND} state_e;

  state_e state_q, state_d;
  logic [InIndexWidth-1:0] in_q, in_d;
  logic [OutIndexWidth-1:0] out_q, out_d;
  logic signed [OutWidth-1:0] sums_q [0:OutLanes-1];

  logic [InLanes*DataWidth-1:0] x_mem [0:InBeats-1];
  logic [OutLanes*InLanes*WeightWidth-1:0] weight_mem [0:InBeats*OutBeats-1];
  logic [BiasWidth-1:0] bias_mem [0:OutFeatures-1];

  initial begin
    $readmemh(WeightFile, weight_mem);
    $readmemh(BiasFile, bias_mem);
  end

  // Where we are: load the vector; then per block of outputs InBeats steps, and one to send.
  wire last_in = 32'(in_q) == InBeats - 1;
  wire last_out = 32'(out_q) == OutBeats - 1;

  always_comb begin
    state_d = state_q;
    in_d = in_q;
    out_d = out_q;
    unique case (state_q)
      LOAD: begin
        if (x_valid_i) begin
          in_d = last_in ? '0 : in_q + 1'b1;
          if (last_in) state_d = COMPUTE;
        end
      end
      COMPUTE: begin
        in_d = last_in ? '0 : in_q + 1'b1;
        if (last_in) state_d = SEND;
      end
      default: begin
        if (y_ready_i) begin
          out_d = last_out ? '0 : out_q + 1'b1;
          state_d = last_out ? LOAD : COMPUTE;
        end
      end
    endcase
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      state_q <= LOAD;
      in_q <= '0;
      out_q <= '0;
    end else begin
      state_q <= state_d;
      in_q <= in_d;
      out_q <= out_d;
    end
    if (state_q == LOAD && x_valid_i) x_mem[in_q] <= x_data_i;
  end

  assign x_ready_o = state_q == LOAD;
  assign y_valid_o = state_q == SEND;

  // One block: every input lane times its weight for every output lane.
  wire [WordIndexWidth-1:0] word = WordIndexWidth'(32'(out_q) * InBeats + 32'(in_q));
  wire [InLanes*DataWidth-1:0] x_block = x_mem[in_q];
  wire [OutLanes*InLanes*WeightWidth-1:0] weights = weight_mem[word];

  for (genvar o = 0; o < OutLanes; o++) begin : gen_out
    logic signed [OutWidth-1:0] block_sum;
    logic signed [DataWidth-1:0] x;
    logic signed [WeightWidth-1:0] w;
    logic signed [DataWidth+WeightWidth-1:0] product;
    logic signed [BiasWidth-1:0] bias;

    always_comb begin
      block_sum = '0;
      x = '0;
      w = '0;
      product = '0;
      for (int i = 0; i < InLanes; i++) begin
        x = x_block[i*DataWidth +: DataWidth];
        w = weights[(o*InLanes+i)*WeightWidth +: WeightWidth];
        product = x * w;
        block_sum = block_sum + OutWidth'(product);
      end
    end

    always_ff @(posedge clk_i) begin
      if (state_q == COMPUTE) begin
        sums_q[o] <= (in_q == '0 ? OutWidth'(0) : sums_q[o]) + block_sum;
      end
    end

    assign bias = bias_mem[32'(out_q)*OutLanes+o];
    assign y_data_o[o*OutWidth +: OutWidth] = sums_q[o] + OutWidth'(bias);
  end
endmodule
