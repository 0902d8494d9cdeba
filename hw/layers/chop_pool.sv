// Sums, maxima or minima of every channel over every window of a frame: the windows of chop_window,
// each reduced by chop_reduce (Kind, widths and rounding there). Outside the frame every element is
// PadValue. Channels innermost, Lanes of them a beat.
//   Parallel 0: one tap a cycle, KernelHeight*KernelWidth cycles for an output beat; windows by
//     channel beat, kh, kw
//   Parallel 1: all taps of Lanes channels a cycle
// A beat of the windows that completes an output beat, valid in cycle s, gives it in s + L, the
// latency of chop_reduce for one tap (Parallel 1: for all). Where the output is not taken, the
// windows wait: y_ready_i enables the datapath. x_ready_o and y_valid_o come from registers; no
// combinational path between the two streams.
module chop_pool #(
  parameter int unsigned Kind           = 1,
  parameter int unsigned Channels       = 4,
  parameter int unsigned Lanes          = 2,
  parameter int unsigned Height         = 6,
  parameter int unsigned Width          = 6,
  parameter int unsigned KernelHeight   = 3,
  parameter int unsigned KernelWidth    = 3,
  parameter int unsigned StrideHeight   = 2,
  parameter int unsigned StrideWidth    = 2,
  parameter int unsigned DilationHeight = 1,
  parameter int unsigned DilationWidth  = 1,
  parameter int unsigned PadTop         = 1,
  parameter int unsigned PadLeft        = 1,
  parameter int unsigned OutHeight      = 3,
  parameter int unsigned OutWidth       = 3,
  parameter logic [63:0] PadValue       = 64'd0,
  parameter bit          Parallel       = 1'b0,
  parameter int unsigned Depth          = 36,
  parameter int unsigned InWidth        = 8,
  parameter bit          InSigned       = 1'b1,
  parameter int unsigned SumWidth       = 12,
  parameter bit          SumSigned      = 1'b1,
  parameter int unsigned ResultWidth    = 8,
  parameter bit          ResultSigned   = 1'b1,
  parameter int unsigned ShiftRight     = 0,
  parameter int unsigned ShiftLeft      = 0,
  parameter int unsigned Rounding       = 0,
  parameter int unsigned LevelsPerStage = 2
) (
  input  logic                         clk_i,
  input  logic                         rst_ni,
  input  logic [Lanes*InWidth-1:0]     x_data_i,
  input  logic                         x_valid_i,
  output logic                         x_ready_o,
  output logic [Lanes*ResultWidth-1:0] y_data_o,
  output logic                         y_valid_o,
  input  logic                         y_ready_i
);
  localparam int unsigned Taps     = KernelHeight * KernelWidth;
  localparam int unsigned TapLanes = Parallel ? Taps : 1;

  logic [TapLanes*Lanes*InWidth-1:0] window;
  logic window_valid, window_ready;

  chop_window #(
    .ElementWidth  (InWidth),
    .Channels      (Channels),
    .Lanes         (Lanes),
    .Height        (Height),
    .Width         (Width),
    .KernelHeight  (KernelHeight),
    .KernelWidth   (KernelWidth),
    .StrideHeight  (StrideHeight),
    .StrideWidth   (StrideWidth),
    .DilationHeight(DilationHeight),
    .DilationWidth (DilationWidth),
    .PadTop        (PadTop),
    .PadLeft       (PadLeft),
    .OutHeight     (OutHeight),
    .OutWidth      (OutWidth),
    .PadValue      (PadValue),
    .Parallel      (Parallel),
    .ChannelOuter  (!Parallel),
    .Depth         (Depth)
  ) u_window (
    .clk_i    (clk_i),
    .rst_ni   (rst_ni),
    .x_data_i (x_data_i),
    .x_valid_i(x_valid_i),
    .x_ready_o(x_ready_o),
    .y_data_o (window),
    .y_valid_o(window_valid),
    .y_ready_i(window_ready)
  );

  chop_reduce #(
    .Kind          (Kind),
    .Taps          (TapLanes),
    .Lanes         (Lanes),
    .OuterSteps    (1),
    .Groups        (1),
    .InnerSteps    (Parallel ? 1 : Taps),
    .Beats         (1),
    .InWidth       (InWidth),
    .InSigned      (InSigned),
    .SumWidth      (SumWidth),
    .SumSigned     (SumSigned),
    .OutWidth      (ResultWidth),
    .OutSigned     (ResultSigned),
    .ShiftRight    (ShiftRight),
    .ShiftLeft     (ShiftLeft),
    .Rounding      (Rounding),
    .LevelsPerStage(LevelsPerStage)
  ) u_reduce (
    .clk_i    (clk_i),
    .rst_ni   (rst_ni),
    .x_data_i (window),
    .x_valid_i(window_valid),
    .x_ready_o(window_ready),
    .y_data_o (y_data_o),
    .y_valid_o(y_valid_o),
    .y_ready_i(y_ready_i)
  );
endmodule
