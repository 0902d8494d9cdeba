// Changes the number of lanes of a stream; one lane count divides the other. Low lanes pass first.
//   InLanes > OutLanes: shows a beat slice by slice and accepts it with its last slice. Latency 0,
//     no storage, one slice per cycle; valid, data and ready are combinational.
//   InLanes < OutLanes: collects R = OutLanes/InLanes beats; the output is valid in the cycle after
//     the last of them was accepted. One beat in per cycle; ready_o is combinational in ready_i,
//     valid and data are registers.
//   equal: wires.
module chop_width_converter #(
  parameter int unsigned ElementWidth = 8,
  parameter int unsigned InLanes      = 4,
  parameter int unsigned OutLanes     = 2
) (
  input  logic                             clk_i,
  input  logic                             rst_ni,
  input  logic                             valid_i,
  output logic                             ready_o,
  input  logic [InLanes*ElementWidth-1:0]  data_i,
  output logic                             valid_o,
  input  logic                             ready_i,
  output logic [OutLanes*ElementWidth-1:0] data_o
);
  if (InLanes % OutLanes != 0 && OutLanes % InLanes != 0) begin : gen_check
    $error("chop_width_converter: one of InLanes and OutLanes must divide the other");
  end

  localparam int unsigned InWidth  = InLanes * ElementWidth;
  localparam int unsigned OutWidth = OutLanes * ElementWidth;

  if (InLanes > OutLanes) begin : gen_narrow
    localparam int unsigned Slices     = InLanes / OutLanes;
    localparam int unsigned IndexWidth = chop_pkg::index_width(Slices);
    logic [IndexWidth-1:0] slice_q;
    logic                  last;
    assign last    = (slice_q == IndexWidth'(Slices - 1));
    assign valid_o = valid_i;
    assign ready_o = ready_i && last;

    // An index past the last slice cannot occur, so it may read anything: the mux stays small.
    always_comb begin
      data_o = data_i[InWidth-OutWidth +: OutWidth];
      for (int unsigned k = 0; k < Slices - 1; k = k + 1) begin
        if (slice_q == IndexWidth'(k)) data_o = data_i[k*OutWidth +: OutWidth];
      end
    end

    always_ff @(posedge clk_i) begin
      if (!rst_ni) slice_q <= '0;
      else if (valid_i && ready_i) slice_q <= last ? '0 : slice_q + 1'b1;
    end
  end else if (InLanes < OutLanes) begin : gen_wide
    localparam int unsigned Beats      = OutLanes / InLanes;
    localparam int unsigned IndexWidth = chop_pkg::index_width(Beats);
    logic [IndexWidth-1:0] beat_q;
    logic [OutWidth-1:0]   data_q;
    logic                  valid_q, accept, last;
    assign last    = (beat_q == IndexWidth'(Beats - 1));
    assign ready_o = ready_i || !valid_q;
    assign valid_o = valid_q;
    assign data_o  = data_q;
    assign accept  = valid_i && ready_o;

    always_ff @(posedge clk_i) begin
      if (!rst_ni) begin
        beat_q  <= '0;
        valid_q <= 1'b0;
      end else begin
        if (accept) beat_q <= last ? '0 : beat_q + 1'b1;
        if (ready_o) valid_q <= valid_i && last;
      end
    end

    // The first beat moves down to the low lanes as the others follow.
    always_ff @(posedge clk_i) begin
      if (accept) data_q <= {data_i, data_q[OutWidth-1:InWidth]};
    end
  end else begin : gen_equal
    assign valid_o = valid_i;
    assign ready_o = ready_i;
    assign data_o  = data_i;
    logic unused;
    assign unused = ^{clk_i, rst_ni};
  end
endmodule
