// Sums or maxima over the bins of one axis of a stream, exactly: Size positions of Beats beats each
// become Bins positions, again and again; bin i is of the positions floor(i*Size/Bins) to
// ceil((i+1)*Size/Bins)-1. Where (i+1)*Size/Bins is no integer, the last position of bin i is the
// first of bin i+1 too. A beat holds Lanes elements; results leave lane by lane, as
// y = saturate(round(value * 2^(ShiftLeft - ShiftRight))).
//   Kind 0: sums of SumWidth bits, which are known to fit; 1: maxima
// Of Bins <= Size, at most one bin is open behind a position: Beats partial results are kept, in a
// register if that is one, else in a memory.
//
// The last beat of a result is valid at y after 2 cycles. One beat per cycle. Both stages accept
// when they are empty or their beat moves on, so x_ready_o is combinational in y_ready_i; valid and
// data are registers.
module chop_bins #(
  parameter int unsigned Kind       = 0,
  parameter int unsigned Size       = 5,
  parameter int unsigned Bins       = 3,
  parameter int unsigned Beats      = 2,
  parameter int unsigned Lanes      = 2,
  parameter int unsigned InWidth    = 8,
  parameter bit          InSigned   = 1'b1,
  parameter int unsigned SumWidth   = 10,
  parameter bit          SumSigned  = 1'b1,
  parameter int unsigned OutWidth   = 10,
  parameter bit          OutSigned  = 1'b1,
  parameter int unsigned ShiftRight = 0,
  parameter int unsigned ShiftLeft  = 0,
  parameter int unsigned Rounding   = 0
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
  if (Kind > 1) begin : gen_check_kind
    $error("chop_bins: Kind must be 0 or 1");
  end
  if (Bins < 1 || Bins > Size) begin : gen_check_bins
    $error("chop_bins: Bins must be 1 to Size");
  end
  if (Beats < 1 || Lanes < 1) begin : gen_check_lanes
    $error("chop_bins: Beats and Lanes must be >= 1");
  end
  if (Kind == 0 && SumWidth < InWidth) begin : gen_check_width
    $error("chop_bins: SumWidth must be >= InWidth");
  end

  localparam int unsigned Width  = (Kind == 0) ? SumWidth : InWidth;
  localparam bit          Signed = (Kind == 0) ? SumSigned : InSigned;

  logic valid_q, last_q, enter, step, last_ready, result_ready;
  assign last_ready = !last_q || result_ready;
  assign step       = valid_q && last_ready;
  assign x_ready_o  = !valid_q || last_ready;
  assign enter      = x_valid_i && x_ready_o;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) valid_q <= 1'b0;
    else if (x_ready_o) valid_q <= x_valid_i;
  end

  // ---- The place of a beat: at position p, in bin i, place_q is p*Bins - i*Size ----

  localparam int unsigned PlaceWidth = chop_pkg::count_width(Size + Bins);
  logic [PlaceWidth-1:0] place_q, place_next;
  logic beat_last, unused_first, first, last;

  chop_loop #(
    .Count(Beats)
  ) u_beats (
    .clk_i  (clk_i),
    .rst_ni (rst_ni),
    .step_i (enter),
    .first_o(unused_first),
    .last_o (beat_last)
  );

  // Where a bin ends inside a position (place_next > Size), that is the first of the next one too.
  assign place_next = place_q + PlaceWidth'(Bins);
  assign first      = (place_q == '0);
  assign last       = (place_next >= PlaceWidth'(Size));

  always_ff @(posedge clk_i) begin
    if (!rst_ni) place_q <= '0;
    else if (enter && beat_last) place_q <= last ? place_next - PlaceWidth'(Size) : place_next;
  end

  logic [Lanes*InWidth-1:0] x_q;
  always_ff @(posedge clk_i) begin
    if (enter) begin
      x_q    <= x_data_i;
      last_q <= last;
    end
  end

  // ---- What the positions before gave ----

  logic [Lanes*Width-1:0] earlier, results, partials;

  if (Beats == 1) begin : gen_one
    logic [Lanes*Width-1:0] partials_q;
    always_ff @(posedge clk_i) begin
      if (step) partials_q <= partials;
    end
    assign earlier = partials_q;
    logic unused;
    assign unused = unused_first;
  end else begin : gen_memory
    localparam int unsigned AddressWidth = chop_pkg::index_width(Beats);
    logic [AddressWidth-1:0] address_q, own_q;

    always_ff @(posedge clk_i) begin
      if (!rst_ni) address_q <= '0;
      else if (enter) address_q <= beat_last ? '0 : address_q + 1'b1;
    end
    always_ff @(posedge clk_i) begin
      if (enter) own_q <= address_q;
    end

    // Two beats of one result are two beats or more apart, so that the first is written before the
    // second is read.
    chop_ram #(
      .Width(Lanes * Width),
      .Depth(Beats)
    ) u_partials (
      .clk_i          (clk_i),
      .write_i        (step),
      .write_address_i(own_q),
      .write_data_i   (partials),
      .read_i         (enter),
      .read_address_i (address_q),
      .read_data_o    (earlier)
    );
    logic unused;
    assign unused = unused_first;
  end

  for (genvar i = 0; i < Lanes; i = i + 1) begin : gen_lane
    // Every lane has its flags for itself, kept apart: one register would be far from most.
    logic first_q, ends_q;
    (* keep *) always_ff @(posedge clk_i) if (enter) first_q <= first;
    (* keep *) always_ff @(posedge clk_i) if (enter) ends_q <= last;

    logic [InWidth-1:0] x;
    logic [Width-1:0]   a, b, value;

    assign x = x_q[i*InWidth +: InWidth];
    assign b = earlier[i*Width +: Width];
    if (Width > InWidth) begin : gen_wider
      assign a = {{(Width - InWidth){InSigned && x[InWidth-1]}}, x};
    end else begin : gen_equal
      assign a = x;
    end
    if (Kind == 0) begin : gen_sum
      // The term first: synthesis then absorbs the choice into the carry chain's LUTs.
      assign value = a + (first_q ? '0 : b);
    end else begin : gen_maximum
      logic greater;
      if (InSigned) begin : gen_signed
        assign greater = $signed(a) > $signed(b);
      end else begin : gen_unsigned
        assign greater = a > b;
      end
      assign value = (first_q || greater) ? a : b;
    end
    assign results[i*Width +: Width]  = value;
    // What a last position leaves is read only where it is the first of the next bin too.
    assign partials[i*Width +: Width] = ends_q ? a : value;
  end

  chop_cast #(
    .Lanes     (Lanes),
    .InWidth   (Width),
    .InSigned  (Signed),
    .OutWidth  (OutWidth),
    .OutSigned (OutSigned),
    .ShiftRight(ShiftRight),
    .ShiftLeft (ShiftLeft),
    .Rounding  (Rounding)
  ) u_cast (
    .clk_i    (clk_i),
    .rst_ni   (rst_ni),
    .x_data_i (results),
    .x_valid_i(valid_q && last_q),
    .x_ready_o(result_ready),
    .y_data_o (y_data_o),
    .y_valid_o(y_valid_o),
    .y_ready_i(y_ready_i)
  );
endmodule
