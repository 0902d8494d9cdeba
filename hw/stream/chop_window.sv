// Cuts every frame of a stream into its windows. A frame is Height x Width pixels in raster order,
// a pixel is Channels / Lanes beats of Lanes channels; frames follow without a gap. Window
// (oh, ow) has the pixels (oh*StrideHeight - PadTop + kh*DilationHeight,
// ow*StrideWidth - PadLeft + kw*DilationWidth); windows leave in raster order. Outside the frame
// every element is PadValue (its low bits): padding is put in here and never streamed. Bottom and
// right padding, or what is cropped there, follow from OutHeight and OutWidth. Pixels that no
// window has are taken and dropped. Some window must have a pixel of the frame.
//   Parallel 0: a beat is Lanes channels of one pixel of the window, by kh, kw, channel beat, or
//     with ChannelOuter by channel beat, kh, kw: KernelHeight*KernelWidth*Channels/Lanes cycles a
//     window. Depth beats of memory.
//   Parallel 1: a beat is Lanes channels of the whole window, element (kh, kw, lane); channel beats
//     follow each other: Channels/Lanes cycles a window. Depth is rounded up to whole rows.
// The next frame loads while the last windows of this one are read; no cycle is lost between
// frames. Depth must hold what lies between a window's first pixel and its last (Parallel 1: the
// last of the first column), and between the first window's first pixel and the frame's.
//
// Latency 2: a beat accepted in cycle a may be read in a + 1, to be valid in a + 2. No beat of a
// frame's windows leaves before a beat of the frame was accepted. y_valid_o and x_ready_o come from
// registers; y_ready_i enables the datapath and reaches neither. No combinational path between the
// streams.
module chop_window #(
  parameter int unsigned ElementWidth   = 8,
  parameter int unsigned Channels       = 4,
  parameter int unsigned Lanes          = 2,
  parameter int unsigned Height         = 6,
  parameter int unsigned Width          = 6,
  parameter int unsigned KernelHeight   = 3,
  parameter int unsigned KernelWidth    = 3,
  parameter int unsigned StrideHeight   = 1,
  parameter int unsigned StrideWidth    = 1,
  parameter int unsigned DilationHeight = 1,
  parameter int unsigned DilationWidth  = 1,
  parameter int unsigned PadTop         = 1,
  parameter int unsigned PadLeft        = 1,
  parameter int unsigned OutHeight      = 6,
  parameter int unsigned OutWidth       = 6,
  parameter logic [63:0] PadValue       = 64'd0,
  parameter bit          Parallel       = 1'b0,
  parameter bit          ChannelOuter   = 1'b0,
  parameter int unsigned Depth          = 36,
  localparam int unsigned OutLanes = Parallel ? KernelHeight * KernelWidth * Lanes : Lanes
) (
  input  logic                             clk_i,
  input  logic                             rst_ni,
  input  logic [Lanes*ElementWidth-1:0]    x_data_i,
  input  logic                             x_valid_i,
  output logic                             x_ready_o,
  output logic [OutLanes*ElementWidth-1:0] y_data_o,
  output logic                             y_valid_o,
  input  logic                             y_ready_i
);
  if (Lanes < 1 || Channels % Lanes != 0) begin : gen_check_lanes
    $error("chop_window: Lanes must divide Channels");
  end
  if (StrideHeight < 1 || StrideWidth < 1 || DilationHeight < 1 || DilationWidth < 1)
  begin : gen_check_steps
    $error("chop_window: strides and dilations must be >= 1");
  end
  if (KernelHeight < 1 || KernelWidth < 1 || OutHeight < 1 || OutWidth < 1) begin : gen_check_out
    $error("chop_window: the kernel must not be larger than the padded frame");
  end
  if (ElementWidth < 1 || ElementWidth > 64) begin : gen_check_width
    $error("chop_window: ElementWidth must be in 1 to 64");
  end

  localparam int unsigned Beats       = Channels / Lanes;
  localparam int unsigned RowReach    = (KernelHeight - 1) * DilationHeight;
  localparam int unsigned ColumnReach = (KernelWidth - 1) * DilationWidth;
  localparam int unsigned LeastDepth  =
      Parallel ? chop_pkg::max(RowReach, PadTop) * Width * Beats + 1
               : chop_pkg::max((RowReach * Width + ColumnReach + 1) * Beats,
                               (PadTop * Width + PadLeft) * Beats + 1);
  if (Depth < LeastDepth) begin : gen_check_depth
    $error("chop_window: Depth is too small for one window");
  end

  if (Parallel) begin : gen_parallel
    if (ChannelOuter) begin : gen_check_order
      $error("chop_window: ChannelOuter has no meaning with Parallel");
    end
    chop_window_parallel #(
      .ElementWidth  (ElementWidth),
      .Beats         (Beats),
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
      .Depth         (Depth)
    ) u_window (
      .clk_i    (clk_i),
      .rst_ni   (rst_ni),
      .x_data_i (x_data_i),
      .x_valid_i(x_valid_i),
      .x_ready_o(x_ready_o),
      .y_data_o (y_data_o),
      .y_valid_o(y_valid_o),
      .y_ready_i(y_ready_i)
    );
  end else begin : gen_serial
    chop_window_serial #(
      .ElementWidth  (ElementWidth),
      .Beats         (Beats),
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
      .ChannelOuter  (ChannelOuter),
      .Depth         (Depth)
    ) u_window (
      .clk_i    (clk_i),
      .rst_ni   (rst_ni),
      .x_data_i (x_data_i),
      .x_valid_i(x_valid_i),
      .x_ready_o(x_ready_o),
      .y_data_o (y_data_o),
      .y_valid_o(y_valid_o),
      .y_ready_i(y_ready_i)
    );
  end
endmodule
