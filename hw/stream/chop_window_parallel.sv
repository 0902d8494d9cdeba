// The windows of chop_window, a whole window of Lanes channels a beat; parameters and timing there.
//
// Rows lie in banks, a row in the bank of its number modulo Banks, through all frames. A *load*
// reads one column beat, KernelHeight rows at once; a row of windows loads its columns in order.
// Loads fill shift registers over the last columns, from which the window is read. Its last tap is
// at the column *position*. A row of windows goes through positions Begin to End, Beats steps each,
// one step per cycle: a position inside the frame loads its column; every StrideWidth-th one from
// First on gives a window. The last Merge positions lie right of the frame. If by the first of
// their steps all of it is stored, they load the first Merge columns of the next row of windows,
// which then begins at position Merge; else they load nothing and it begins at Begin. With the
// padding of a convolution that keeps the width, and stride 1, that makes Width positions a row.
//
// Beats are numbered through all frames. V is the beat that the next load's top tap would read in a
// frame without edges; it stands still in rows of windows that begin below the frame. Beats before
// V are free in the cycle after the load; a beat is accepted while fewer than V + Depth were. A
// load waits until the beat of its lowest row inside the frame (the first, if all are above) is
// stored, the first step of a row of windows for that of its first load, every step for the output.
module chop_window_parallel #(
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
  parameter int unsigned Depth          = 36,
  localparam int unsigned DataWidth = Lanes * ElementWidth,
  localparam int unsigned Taps      = KernelHeight * KernelWidth
) (
  input  logic                      clk_i,
  input  logic                      rst_ni,
  input  logic [DataWidth-1:0]      x_data_i,
  input  logic                      x_valid_i,
  output logic                      x_ready_o,
  output logic [Taps*DataWidth-1:0] y_data_o,
  output logic                      y_valid_o,
  input  logic                      y_ready_i
);
  // Distances may be negative: 32 bits, read as signed.
  localparam int Rows      = (KernelHeight - 1) * DilationHeight;
  localparam int Span      = (KernelWidth - 1) * DilationWidth;
  localparam int First     = Span - PadLeft;
  localparam int Last      = First + (OutWidth - 1) * StrideWidth;
  localparam int InWidth   = Width;
  localparam int InHeight  = Height;
  localparam int Columns   = (Last < 0) ? 1 : (Last < InWidth) ? Last + 1 : InWidth;
  localparam int Begin     = (First < 0) ? First : 0;
  localparam int End       = (Last < 0) ? 0 : Last;
  localparam int Tail      = End + 1 - Columns;
  localparam int Lead      = (First < 0) ? 0 : (First < Columns) ? First : Columns;
  localparam int Merge     = (Tail < Lead) ? Tail : Lead;
  localparam int RowBeats  = Width * Beats;
  localparam int LoadBeats = Columns * Beats;
  localparam int Before    = PadTop * RowBeats;
  localparam int Frame     = Height * RowBeats;

  // ---- The next step: its row of windows, its position, its beat ----

  localparam int unsigned PositionWidth = chop_pkg::index_width(End - Begin + 1);
  logic [PositionWidth-1:0] position_q;
  logic step, emit, load, merging;
  logic beat_first, beat_last, position_last, position_done, row_done;
  assign position_last = (position_q == PositionWidth'(End - Begin));
  assign position_done = step && beat_last;
  assign row_done      = position_done && position_last;

  chop_loop #(
    .Count(Beats)
  ) u_beat (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .step_i (step),
    .first_o(beat_first),
    .last_o (beat_last)
  );

  always_ff @(posedge clk_i) begin
    if (!rst_ni) position_q <= '0;
    else if (position_done) begin
      if (!position_last) position_q <= position_q + 1'b1;
      else position_q <= merging ? PositionWidth'(Merge) : '0;
    end
  end

  // Positions to go until a window.
  if (Begin == First && StrideWidth == 1) begin : gen_every
    assign emit = 1'b1;
  end else begin : gen_some
    localparam int unsigned Most = chop_pkg::max(First - Begin, StrideWidth - 1);
    localparam int unsigned WaitWidth = chop_pkg::count_width(Most);
    logic [WaitWidth-1:0] wait_q;
    assign emit = (wait_q == '0);
    always_ff @(posedge clk_i) begin
      if (!rst_ni) wait_q <= WaitWidth'(First - Begin);
      else if (position_done) begin
        if (position_last) wait_q <= WaitWidth'(First - Begin - (merging ? Merge : 0));
        else wait_q <= emit ? WaitWidth'(StrideWidth - 1) : wait_q - 1'b1;
      end
    end
  end

  // Of the window's rows and columns, those inside the frame.
  localparam int TopFirst = 0 - PadTop;
  localparam int TopLast  = (OutHeight - 1) * StrideHeight - PadTop;
  localparam int TopLow   = TopFirst - Rows;
  localparam int unsigned TopWidth = chop_pkg::max(
      chop_pkg::signed_width(64'(TopLow)),
      chop_pkg::signed_width(64'(TopLast > InHeight ? TopLast : InHeight)));
  logic signed [TopWidth-1:0] top_q;
  logic [KernelHeight-1:0] row_inside, row_inside_q;
  logic [KernelWidth-1:0]  column_inside, column_inside_q;

  if (OutHeight == 1) begin : gen_one_row
    assign top_q = TopWidth'(TopFirst);
    logic unused;
    assign unused = row_done;
  end else begin : gen_rows
    always_ff @(posedge clk_i) begin
      if (!rst_ni) top_q <= TopWidth'(TopFirst);
      else if (row_done) begin
        top_q <= (top_q == TopWidth'(TopLast)) ? TopWidth'(TopFirst)
                                               : top_q + TopWidth'(int'(StrideHeight));
      end
    end
  end

  for (genvar k = 0; k < KernelHeight; k = k + 1) begin : gen_row_inside
    localparam int Offset = k * DilationHeight;
    localparam logic signed [TopWidth-1:0] Low  = TopWidth'(0 - Offset);
    localparam logic signed [TopWidth-1:0] Stop = TopWidth'(InHeight - Offset);
    assign row_inside[k] = (TopFirst + Offset >= 0 || top_q >= Low)
                        && (TopLast + Offset < InHeight || top_q < Stop);
  end
  for (genvar k = 0; k < KernelWidth; k = k + 1) begin : gen_column_inside
    localparam int Low  = Span - k * DilationWidth - Begin;
    localparam int High = Low + InWidth - 1;
    assign column_inside[k] = Last - Begin >= Low
                           && (First - Begin >= Low || position_q >= PositionWidth'(Low))
                           && (Last - Begin <= High || position_q <= PositionWidth'(High));
  end

  // ---- What is stored: lead = beats accepted - the beat that the next load waits for - 1, room =
  // V + Depth - beats accepted - 1, so that a sign says whether a load or a beat may pass ----

  localparam int LeadHigh = Depth + Before;
  localparam int LeadLow  = 0 - 2 * Frame - (Rows + 1) * RowBeats;
  localparam int RoomHigh = Depth + 2 * Frame;
  localparam int RoomLow  = 0 - Before - 1;
  localparam int unsigned LeadWidth = chop_pkg::max(
      chop_pkg::signed_width(64'(LeadHigh)), chop_pkg::signed_width(64'(LeadLow)));
  localparam int unsigned RoomWidth = chop_pkg::max(
      chop_pkg::signed_width(64'(RoomHigh)), chop_pkg::signed_width(64'(RoomLow)));

  logic [LeadWidth-1:0] lead_q, lead_move;
  logic [RoomWidth-1:0] room_q, room_move;
  logic accept, loaded, wanted, starts, available;
  assign x_ready_o = !room_q[RoomWidth-1];
  assign accept    = x_valid_i && x_ready_o;
  assign available = !lead_q[LeadWidth-1];
  assign wanted    = (Begin == 0 || position_q >= PositionWidth'(0 - Begin))
                  && (Tail == 0 || position_q < PositionWidth'(Columns - Begin));
  assign load      = wanted || merging;
  assign loaded    = step && load;

  if (Merge == 0) begin : gen_separate
    assign merging = 1'b0;
  end else begin : gen_merge
    // Decided in the first step, kept in the others.
    logic start, enough, merging_q;
    assign start  = (position_q == PositionWidth'(End - Begin - Merge + 1)) && beat_first;
    if (Merge * Beats == 1) begin : gen_one
      assign enough = available;
    end else begin : gen_several
      assign enough = available && lead_q[LeadWidth-2:0] >= (LeadWidth - 1)'(Merge * Beats - 1);
    end
    assign merging = start ? enough : merging_q;
    always_ff @(posedge clk_i) begin
      if (!rst_ni) merging_q <= 1'b0;
      else if (step) merging_q <= merging && !(position_last && beat_last);
    end
  end

  // The row of windows that loads are at, and what its bottom tap counts as: the frame's first row
  // up to row Dry, itself up to row Steady, then the frame's last row. Nothing changes from row
  // Moving on, where windows begin below the frame.
  localparam int unsigned Bottom = (PadTop + Height > Rows) ? PadTop + Height - Rows : 0;
  localparam int unsigned Above  = (PadTop > Rows) ? PadTop - Rows : 0;
  localparam int unsigned Moving =
      chop_pkg::min(OutHeight, chop_pkg::ceil_div(Height + PadTop, StrideHeight));
  localparam int unsigned Steady = chop_pkg::min(Moving, chop_pkg::ceil_div(Bottom, StrideHeight));
  localparam int unsigned Dry    = chop_pkg::min(Moving, chop_pkg::ceil_div(Above, StrideHeight));
  localparam int BottomDry   = (Dry < Steady) ? Rows - PadTop + Dry * StrideHeight : InHeight - 1;
  localparam int BottomKept  = (Steady > 0) ? Rows - PadTop + (Steady - 1) * StrideHeight
                                            : InHeight - 1;
  localparam int BottomFirst = (Dry > 0) ? 0 : BottomDry;
  localparam int BottomLast  = (Dry == Moving) ? 0
                             : (Steady < Moving) ? InHeight - 1 : BottomKept;
  localparam int FromDry     = BottomDry * RowBeats - (LoadBeats - 1);
  localparam int NewLeadRow  = StrideHeight * RowBeats - (LoadBeats - 1);
  localparam int ToBottom    = (InHeight - 1 - BottomKept) * RowBeats - (LoadBeats - 1);
  localparam int AtBottom    = 0 - (LoadBeats - 1);
  localparam int NewLeadFrame =
      Frame + (BottomFirst - BottomLast) * RowBeats - (LoadBeats - 1);
  localparam int NewRoomRow   = StrideHeight * RowBeats - (LoadBeats - 1);
  localparam int NewRoomFrame =
      Frame - (Moving - 1) * StrideHeight * RowBeats - (LoadBeats - 1);

  localparam int unsigned OutRowWidth = chop_pkg::index_width(OutHeight);
  localparam int unsigned ColumnWidth = chop_pkg::index_width(LoadBeats);
  logic [OutRowWidth-1:0] out_row_q;
  logic [ColumnWidth-1:0] column_q;
  logic load_last, frame_last;
  assign load_last  = (column_q == ColumnWidth'(LoadBeats - 1));
  assign frame_last = (out_row_q == OutRowWidth'(OutHeight - 1));

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      column_q  <= '0;
      out_row_q <= '0;
    end else if (loaded) begin
      column_q <= load_last ? '0 : column_q + 1'b1;
      if (load_last) out_row_q <= frame_last ? '0 : out_row_q + 1'b1;
    end
  end

  always_comb begin
    if (!loaded) lead_move = '0;
    else if (!load_last) lead_move = '1;
    else if (frame_last) lead_move = LeadWidth'(0 - NewLeadFrame);
    else if (32'(out_row_q) + 2 <= Dry || 32'(out_row_q) + 1 >= Moving) begin
      lead_move = LeadWidth'(0 - AtBottom);
    end else if (32'(out_row_q) + 1 == Dry) lead_move = LeadWidth'(0 - FromDry);
    else if (32'(out_row_q) + 2 <= Steady) lead_move = LeadWidth'(0 - NewLeadRow);
    else if (32'(out_row_q) + 1 == Steady) lead_move = LeadWidth'(0 - ToBottom);
    else lead_move = LeadWidth'(0 - AtBottom);

    // Less one, which a cycle without an accepted beat gives back.
    room_move = '1;
    if (loaded) begin
      if (load_last && frame_last) room_move = RoomWidth'(NewRoomFrame - 1);
      else if (Moving == OutHeight || 32'(out_row_q) + (load_last ? 1 : 0) < Moving) begin
        room_move = load_last ? RoomWidth'(NewRoomRow - 1) : '0;
      end
    end
  end

  // The lowest bits carry in.
  logic [LeadWidth:0] lead_sum;
  logic [RoomWidth:0] room_sum;
  assign lead_sum = {lead_q, 1'b1} + {lead_move, accept};
  assign room_sum = {room_q, 1'b1} + {room_move, !accept};

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      lead_q <= LeadWidth'(0 - BottomFirst * RowBeats - 1);
      room_q <= RoomWidth'(int'(Depth) - Before - 1);
    end else begin
      lead_q <= lead_sum[LeadWidth:1];
      room_q <= room_sum[RoomWidth:1];
    end
  end

  // ---- Memory: read by columns ----

  logic [KernelHeight*DataWidth-1:0] newest;

  if (KernelHeight == 1) begin : gen_ring
    // A circle of Depth beats. A move forward by less than Depth, and the same less Depth.
    localparam int unsigned AddressWidth = chop_pkg::index_width(Depth);
    localparam int NewRow   = StrideHeight * RowBeats - (LoadBeats - 1);
    localparam int NewFrame =
        Frame - (OutHeight - 1) * StrideHeight * RowBeats - (LoadBeats - 1);
    logic [AddressWidth-1:0] write_q, read_q;
    logic [AddressWidth:0]   move, wrapped, ahead, round;

    always_comb begin
      if (!load_last) move = (AddressWidth + 1)'(chop_pkg::modulo(1, Depth));
      else if (!frame_last) move = (AddressWidth + 1)'(chop_pkg::modulo(NewRow, Depth));
      else move = (AddressWidth + 1)'(chop_pkg::modulo(NewFrame, Depth));
    end
    assign wrapped = move - (AddressWidth + 1)'(Depth);
    assign ahead   = {1'b0, read_q} + move;
    assign round   = {1'b0, read_q} + wrapped;

    always_ff @(posedge clk_i) begin
      if (!rst_ni) begin
        write_q <= '0;
        read_q  <= AddressWidth'(chop_pkg::modulo(0 - Before, Depth));
      end else begin
        if (accept) write_q <= (write_q == AddressWidth'(Depth - 1)) ? '0 : write_q + 1'b1;
        if (loaded) begin
          read_q <= round[AddressWidth] ? ahead[AddressWidth-1:0] : round[AddressWidth-1:0];
        end
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
      .read_i         (loaded),
      .read_address_i (read_q),
      .read_data_o    (newest)
    );

    logic unused;
    assign unused = ahead[AddressWidth];
  end else begin : gen_banks
    localparam int unsigned Banks        = chop_pkg::ceil_div(Depth, RowBeats);
    localparam int unsigned BankWidth    = chop_pkg::index_width(Banks);
    localparam int unsigned AddressWidth = chop_pkg::index_width(RowBeats);
    localparam int NextTop  = StrideHeight;
    localparam int FirstTop = Height - (OutHeight - 1) * StrideHeight;
    logic [AddressWidth-1:0]    write_q;
    logic [BankWidth-1:0]       write_bank_q, top_bank_q, read_bank_q;
    logic [BankWidth:0]         move, wrapped, ahead, round;
    logic [Banks*DataWidth-1:0] words;
    logic                       write_last;
    assign write_last = (write_q == AddressWidth'(RowBeats - 1));

    // The bank of the top tap.
    assign move    = frame_last ? (BankWidth + 1)'(chop_pkg::modulo(FirstTop, Banks))
                                : (BankWidth + 1)'(chop_pkg::modulo(NextTop, Banks));
    assign wrapped = move - (BankWidth + 1)'(Banks);
    assign ahead   = {1'b0, top_bank_q} + move;
    assign round   = {1'b0, top_bank_q} + wrapped;

    always_ff @(posedge clk_i) begin
      if (!rst_ni) begin
        write_q      <= '0;
        write_bank_q <= '0;
        top_bank_q   <= BankWidth'(chop_pkg::modulo(TopFirst, Banks));
      end else begin
        if (accept) write_q <= write_last ? '0 : write_q + 1'b1;
        if (accept && write_last) begin
          write_bank_q <= (write_bank_q == BankWidth'(Banks - 1)) ? '0 : write_bank_q + 1'b1;
        end
        if (loaded && load_last) begin
          top_bank_q <= round[BankWidth] ? ahead[BankWidth-1:0] : round[BankWidth-1:0];
        end
      end
    end

    for (genvar b = 0; b < Banks; b = b + 1) begin : gen_bank
      chop_ram #(
        .Width(DataWidth),
        .Depth(RowBeats)
      ) u_ram (
        .clk_i          (clk_i),
        .write_i        (accept && write_bank_q == BankWidth'(b)),
        .write_address_i(write_q),
        .write_data_i   (x_data_i),
        .read_i         (loaded),
        .read_address_i (AddressWidth'(column_q)),
        .read_data_o    (words[b*DataWidth +: DataWidth])
      );
    end

    always_ff @(posedge clk_i) begin
      if (loaded) read_bank_q <= top_bank_q;
    end

    // From banks to taps. A bank past the last cannot occur, so it may read anything.
    for (genvar k = 0; k < KernelHeight; k = k + 1) begin : gen_tap
      always_comb begin
        newest[k*DataWidth +: DataWidth] =
            words[((Banks - 1 + k * DilationHeight) % Banks)*DataWidth +: DataWidth];
        for (int unsigned b = 0; b < Banks - 1; b = b + 1) begin
          if (read_bank_q == BankWidth'(b)) begin
            newest[k*DataWidth +: DataWidth] =
                words[((b + k * DilationHeight) % Banks)*DataWidth +: DataWidth];
          end
        end
      end
    end

    logic unused;
    assign unused = ahead[BankWidth];
  end

  // ---- Output: the newest column, those before it, padding ----

  localparam int unsigned ColumnData = KernelHeight * DataWidth;
  localparam int unsigned History    = Span * Beats;
  logic valid_q;
  logic [(History+1)*ColumnData-1:0] columns;
  assign columns[ColumnData-1:0] = newest;
  // Without a first load, the first step waits all the same.
  assign starts = Begin < 0 && position_q == '0 && beat_first;
  assign step = (!(wanted || starts) || available) && (!valid_q || y_ready_i);

  if (History > 0) begin : gen_history
    logic [History*ColumnData-1:0] history_q;
    assign columns[(History+1)*ColumnData-1:ColumnData] = history_q;
    always_ff @(posedge clk_i) begin
      if (step) history_q <= columns[History*ColumnData-1:0];
    end
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) valid_q <= 1'b0;
    else if (!valid_q || y_ready_i) valid_q <= step && emit;
  end

  always_ff @(posedge clk_i) begin
    if (step) begin
      row_inside_q    <= row_inside;
      column_inside_q <= column_inside;
    end
  end

  assign y_valid_o = valid_q;
  for (genvar h = 0; h < KernelHeight; h = h + 1) begin : gen_y_row
    for (genvar w = 0; w < KernelWidth; w = w + 1) begin : gen_y_column
      localparam int unsigned Age = (KernelWidth - 1 - w) * DilationWidth * Beats;
      assign y_data_o[(h*KernelWidth+w)*DataWidth +: DataWidth] =
          (row_inside_q[h] && column_inside_q[w])
          ? columns[Age*ColumnData + h*DataWidth +: DataWidth]
          : {Lanes{PadValue[ElementWidth-1:0]}};
    end
  end

  logic unused_all;
  assign unused_all = ^{beat_first, lead_sum[0], room_sum[0], columns, PadValue};
endmodule
