// The windows of chop_window, one beat of one pixel at a time; parameters, order and timing there.
//
// Beats are numbered through all frames. A window begins at beat V, where its first pixel would be
// in a frame without edges (so V may lie before the frame or in its last column): a step reads beat
// V plus a constant of its place in the window. Beats before V are free, from the cycle after the
// last step of the window before. Windows that begin below the frame or right of it hold no pixel;
// V stays where the last other window of their column or row had it.
//
// A beat is accepted while fewer than V + Depth were. A step issues if its pixel is padding or its
// beat is stored, and the output register is free or taken; a frame's first step also waits for the
// frame's first beat. One step per cycle.
module chop_window_serial #(
  parameter int unsigned ElementWidth   = 8,
  parameter int unsigned Beats          = 2,
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
  parameter bit          ChannelOuter   = 1'b0,
  parameter int unsigned Depth          = 36,
  localparam int unsigned DataWidth = Lanes * ElementWidth
) (
  input  logic                 clk_i,
  input  logic                 rst_ni,
  input  logic [DataWidth-1:0] x_data_i,
  input  logic                 x_valid_i,
  output logic                 x_ready_o,
  output logic [DataWidth-1:0] y_data_o,
  output logic                 y_valid_o,
  input  logic                 y_ready_i
);
  // ---- Distances in beats; they may be negative: 32 bits, read as signed ----

  localparam int Reach  = ((KernelHeight - 1) * DilationHeight * Width
                          + (KernelWidth - 1) * DilationWidth) * Beats;
  localparam int Before = (PadTop * Width + PadLeft) * Beats;
  localparam int Frame  = Height * Width * Beats;

  // From a step's beat to the next step's: in the inner loop, the middle one, the outer one, and
  // from a window's last beat to the next one's first: right, in the next row, in the next frame.
  localparam int NextColumn = DilationWidth * Beats;
  localparam int NextRow    = (DilationHeight * Width - (KernelWidth - 1) * DilationWidth) * Beats;
  localparam int Back       = Beats - 1;
  localparam int Inner      = ChannelOuter ? NextColumn : 1;
  localparam int Middle     = ChannelOuter ? NextRow : NextColumn - Back;
  localparam int Outer      = ChannelOuter ? 1 - Reach : NextRow - Back;
  localparam int Along      = (OutWidth - 1) * StrideWidth * Beats;
  localparam int Down       = (OutHeight - 1) * StrideHeight * Width * Beats;
  localparam int Right      = StrideWidth * Beats - Reach - Back;
  localparam int NewRow     = StrideHeight * Width * Beats - Along - Reach - Back;
  localparam int NewFrame   = Frame - Down - Along - Reach - Back;

  // Windows that begin inside the frame or before it; only these move V.
  localparam int unsigned Columns =
      chop_pkg::min(OutWidth, chop_pkg::ceil_div(Width + PadLeft, StrideWidth));
  localparam int unsigned Rows =
      chop_pkg::min(OutHeight, chop_pkg::ceil_div(Height + PadTop, StrideHeight));
  localparam int FreeRight = StrideWidth * Beats;
  localparam int FreeAlong = (Columns - 1) * StrideWidth * Beats;
  localparam int FreeRow   = StrideHeight * Width * Beats - FreeAlong;
  localparam int FreeFrame = Frame - (Rows - 1) * StrideHeight * Width * Beats - FreeAlong;

  // ---- The place of the next step ----

  logic step, window_done;
  logic inner_last, middle_last, outer_last, right_last, row_last;
  logic [2:0] unused_first;

  chop_loop #(
    .Count(ChannelOuter ? KernelWidth : Beats)
  ) u_inner (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .step_i (step),
    .first_o(unused_first[0]),
    .last_o (inner_last)
  );
  chop_loop #(
    .Count(ChannelOuter ? KernelHeight : KernelWidth)
  ) u_middle (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .step_i (step && inner_last),
    .first_o(unused_first[1]),
    .last_o (middle_last)
  );
  chop_loop #(
    .Count(ChannelOuter ? Beats : KernelHeight)
  ) u_outer (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .step_i (step && inner_last && middle_last),
    .first_o(unused_first[2]),
    .last_o (outer_last)
  );
  assign window_done = step && inner_last && middle_last && outer_last;

  // Row and column of the step's pixel. At the end of a window they tell which window it is.
  localparam int InHeight    = Height;
  localparam int InWidth     = Width;
  localparam int LastRow     = (KernelHeight - 1) * DilationHeight;
  localparam int LastColumn  = (KernelWidth - 1) * DilationWidth;
  localparam int RowEnd      = (OutHeight - 1) * StrideHeight + LastRow - PadTop;
  localparam int ColumnEnd   = (OutWidth - 1) * StrideWidth + LastColumn - PadLeft;
  localparam int FirstRow    = 0 - PadTop;
  localparam int FirstColumn = 0 - PadLeft;
  localparam int unsigned RowWidth = chop_pkg::max(
      chop_pkg::signed_width(64'(FirstRow)),
      chop_pkg::signed_width(64'(RowEnd > InHeight ? RowEnd : InHeight)));
  localparam int unsigned ColumnWidth = chop_pkg::max(
      chop_pkg::signed_width(64'(FirstColumn)),
      chop_pkg::signed_width(64'(ColumnEnd > InWidth ? ColumnEnd : InWidth)));

  logic signed [RowWidth-1:0]    row_q, row_move;
  logic signed [ColumnWidth-1:0] column_q, column_move;
  assign right_last = (column_q == ColumnWidth'(ColumnEnd));
  assign row_last   = (row_q == RowWidth'(RowEnd));

  always_comb begin
    row_move    = '0;
    column_move = '0;
    if (!inner_last) begin
      if (ChannelOuter) column_move = ColumnWidth'(DilationWidth);
    end else if (!middle_last) begin
      if (ChannelOuter) begin
        row_move    = RowWidth'(DilationHeight);
        column_move = ColumnWidth'(0 - LastColumn);
      end else begin
        column_move = ColumnWidth'(DilationWidth);
      end
    end else if (!outer_last) begin
      row_move    = ChannelOuter ? RowWidth'(0 - LastRow) : RowWidth'(DilationHeight);
      column_move = ColumnWidth'(0 - LastColumn);
    end else if (!right_last) begin
      row_move    = RowWidth'(0 - LastRow);
      column_move = ColumnWidth'(int'(StrideWidth) - LastColumn);
    end else begin
      row_move    = row_last ? RowWidth'(FirstRow - RowEnd)
                             : RowWidth'(int'(StrideHeight) - LastRow);
      column_move = ColumnWidth'(FirstColumn - ColumnEnd);
    end
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      row_q    <= RowWidth'(FirstRow);
      column_q <= ColumnWidth'(FirstColumn);
    end else if (step) begin
      row_q    <= row_q + row_move;
      column_q <= column_q + column_move;
    end
  end

  // Only those edges are watched that windows cross.
  localparam logic signed [RowWidth-1:0]    RowLimit    = RowWidth'(InHeight);
  localparam logic signed [ColumnWidth-1:0] ColumnLimit = ColumnWidth'(InWidth);
  logic outside;
  assign outside = (FirstRow < 0 && row_q[RowWidth-1])
                || (RowEnd >= InHeight && row_q >= RowLimit)
                || (FirstColumn < 0 && column_q[ColumnWidth-1])
                || (ColumnEnd >= InWidth && column_q >= ColumnLimit);

  // A frame's first step counts its lead from the frame's first beat.
  logic fresh;
  if (Before == 0) begin : gen_never_fresh
    assign fresh = 1'b0;
  end else begin : gen_fresh
    logic fresh_q;
    assign fresh = fresh_q;
    always_ff @(posedge clk_i) begin
      if (!rst_ni) fresh_q <= 1'b1;
      else if (step) fresh_q <= window_done && right_last && row_last;
    end
  end

  // ---- What is stored: lead = beats accepted - the step's beat - 1, room = V + Depth - beats
  // accepted - 1, so that a sign says whether a step or a beat may pass ----

  localparam int FirstMove = (ChannelOuter ? KernelWidth : Beats) > 1          ? Inner
                           : (ChannelOuter ? KernelHeight : KernelWidth) > 1 ? Middle
                           : (ChannelOuter ? Beats : KernelHeight) > 1       ? Outer
                           : OutWidth > 1 ? Right : OutHeight > 1 ? NewRow : NewFrame + Before;
  localparam int LeadHigh = Depth + Before;
  localparam int LeadLow  = 0 - Frame - ((RowEnd + 1) * Width + ColumnEnd + 1) * Beats;
  localparam int RoomHigh = Depth + 2 * Frame;
  localparam int RoomLow  = 0 - Before - 1;
  localparam int unsigned LeadWidth = chop_pkg::max(
      chop_pkg::signed_width(64'(LeadHigh)), chop_pkg::signed_width(64'(LeadLow)));
  localparam int unsigned RoomWidth = chop_pkg::max(
      chop_pkg::signed_width(64'(RoomHigh)), chop_pkg::signed_width(64'(RoomLow)));

  logic [LeadWidth-1:0] lead_q, lead_move;
  logic [RoomWidth-1:0] room_q, room_move;
  logic accept;
  assign x_ready_o = !room_q[RoomWidth-1];
  assign accept    = x_valid_i && x_ready_o;

  always_comb begin
    if (fresh) lead_move = LeadWidth'(Before - FirstMove);
    else if (!inner_last) lead_move = LeadWidth'(0 - Inner);
    else if (!middle_last) lead_move = LeadWidth'(0 - Middle);
    else if (!outer_last) lead_move = LeadWidth'(0 - Outer);
    else if (!right_last) lead_move = LeadWidth'(0 - Right);
    else if (!row_last) lead_move = LeadWidth'(0 - NewRow);
    else lead_move = LeadWidth'(0 - NewFrame - Before);
  end

  // Less one, which a cycle without an accepted beat gives back.
  localparam logic signed [ColumnWidth-1:0] ColumnStop =
      ColumnWidth'((Columns - 1) * StrideWidth + LastColumn - PadLeft);
  localparam logic signed [RowWidth-1:0] RowStop =
      RowWidth'((Rows - 1) * StrideHeight + LastRow - PadTop);
  always_comb begin
    room_move = '1;
    if (!right_last) begin
      if ((Columns == OutWidth || column_q < ColumnStop)
          && (Rows == OutHeight || row_q <= RowStop)) begin
        room_move = RoomWidth'(FreeRight - 1);
      end
    end else if (!row_last) begin
      if (Rows == OutHeight || row_q < RowStop) room_move = RoomWidth'(FreeRow - 1);
    end else begin
      room_move = RoomWidth'(FreeFrame - 1);
    end
  end

  // Both sums are ready before it is known whether there is a step, which comes late: it waits for
  // the reader. The lowest bits carry in.
  logic [LeadWidth:0]   lead_sum;
  logic [RoomWidth:0]   room_sum;
  logic [LeadWidth-1:0] lead_still;
  logic [RoomWidth-1:0] room_still;
  assign lead_sum   = {lead_q, 1'b1} + {lead_move, accept};
  assign room_sum   = {room_q, 1'b1} + {room_move, !accept};
  assign lead_still = lead_q + LeadWidth'(accept);
  assign room_still = room_q - RoomWidth'(accept);

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      lead_q <= '1;
      room_q <= RoomWidth'(int'(Depth) - Before - 1);
    end else begin
      lead_q <= step ? lead_sum[LeadWidth:1] : lead_still;
      room_q <= window_done ? room_sum[RoomWidth:1] : room_still;
    end
  end

  // ---- Memory: a circle of Depth beats ----

  localparam int unsigned AddressWidth = chop_pkg::index_width(Depth);
  logic [AddressWidth-1:0] write_q, read_q;
  logic [DataWidth-1:0]    word;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) write_q <= '0;
    else if (accept) write_q <= (write_q == AddressWidth'(Depth - 1)) ? '0 : write_q + 1'b1;
  end

  // A move forward by less than Depth, and the same less Depth.
  logic [AddressWidth:0] move, wrapped, ahead, round;
  always_comb begin
    if (!inner_last) move = (AddressWidth + 1)'(chop_pkg::modulo(Inner, Depth));
    else if (!middle_last) move = (AddressWidth + 1)'(chop_pkg::modulo(Middle, Depth));
    else if (!outer_last) move = (AddressWidth + 1)'(chop_pkg::modulo(Outer, Depth));
    else if (!right_last) move = (AddressWidth + 1)'(chop_pkg::modulo(Right, Depth));
    else if (!row_last) move = (AddressWidth + 1)'(chop_pkg::modulo(NewRow, Depth));
    else move = (AddressWidth + 1)'(chop_pkg::modulo(NewFrame, Depth));
  end
  assign wrapped = move - (AddressWidth + 1)'(Depth);
  assign ahead   = {1'b0, read_q} + move;
  assign round   = {1'b0, read_q} + wrapped;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      read_q <= AddressWidth'(chop_pkg::modulo(0 - Before, Depth));
    end else if (step) begin
      read_q <= round[AddressWidth] ? ahead[AddressWidth-1:0] : round[AddressWidth-1:0];
    end
  end

  chop_ram #(
    .Width(DataWidth),
    .Depth(Depth)
  ) u_ram (
    .clk_i          (clk_i),
    .write_i        (accept),
    .write_address_i(write_q),
    .write_data_i   (x_data_i),
    .read_i         (step),
    .read_address_i (read_q),
    .read_data_o    (word)
  );

  // ---- Output: the memory's register, or padding ----

  logic valid_q, outside_q;
  assign step = ((outside && !fresh) || !lead_q[LeadWidth-1]) && (!valid_q || y_ready_i);

  always_ff @(posedge clk_i) begin
    if (!rst_ni) valid_q <= 1'b0;
    else if (!valid_q || y_ready_i) valid_q <= step;
  end

  always_ff @(posedge clk_i) begin
    if (step) outside_q <= outside;
  end

  assign y_valid_o = valid_q;
  assign y_data_o  = outside_q ? {Lanes{PadValue[ElementWidth-1:0]}} : word;

  logic unused;
  assign unused = ^{unused_first, lead_sum[0], room_sum[0], ahead[AddressWidth], PadValue};
endmodule
