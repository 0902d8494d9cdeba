// Groups Beats consecutive beats into a block and offers every block Repeats times, one step at a
// time: beats 0 to Beats-1, again and again, then the next block. One step per cycle, no bubble
// between blocks.
//
// A beat accepted in cycle a may be stepped from a+1 on. step_valid_o: the next step's beat is
// stored. step_i, only with step_valid_o, takes the step; data_o holds its beat in the cycle after.
// beat_first_o, beat_last_o, repeat_last_o describe the next step. A beat's last use frees its slot
// in the same cycle, so ready_o is combinational in step_i; there is no other combinational path.
module chop_replay_buffer #(
  parameter int unsigned Width   = 8,
  parameter int unsigned Beats   = 4,
  parameter int unsigned Repeats = 4,
  parameter int unsigned Depth   = 8
) (
  input  logic             clk_i,
  input  logic             rst_ni,
  input  logic             valid_i,
  output logic             ready_o,
  input  logic [Width-1:0] data_i,
  output logic             step_valid_o,
  input  logic             step_i,
  output logic             beat_first_o,
  output logic             beat_last_o,
  output logic             repeat_last_o,
  output logic [Width-1:0] data_o
);
  if (Beats < 1 || Repeats < 1) begin : gen_check_block
    $error("chop_replay_buffer: Beats and Repeats must be >= 1");
  end
  if (Depth < Beats) begin : gen_check_depth
    $error("chop_replay_buffer: Depth must be >= Beats");
  end

  localparam int unsigned AddressWidth = chop_pkg::index_width(Depth);
  localparam int unsigned CountWidth   = chop_pkg::count_width(Depth);
  localparam int unsigned BeatWidth    = chop_pkg::index_width(Beats);
  localparam int unsigned RepeatWidth  = chop_pkg::index_width(Repeats);

  logic accept, last_use;
  logic repeat_first;
  assign accept   = valid_i && ready_o;
  assign last_use = step_i && repeat_last_o;

  // Occupied slots. In a block's first repeat none of its beats is freed yet, so they count from
  // its start.
  logic [CountWidth-1:0] used_q;
  assign ready_o = (used_q != CountWidth'(Depth)) || last_use;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) used_q <= '0;
    // Adding all ones counts down, in the same adder.
    else if (accept != last_use) used_q <= used_q + (accept ? CountWidth'(1) : '1);
  end

  // The next step's place in its block.
  if (Beats == 1) begin : gen_single
    assign beat_first_o = 1'b1;
    assign beat_last_o  = 1'b1;
  end else begin : gen_beats
    logic [BeatWidth-1:0] beat_q;
    assign beat_first_o = (beat_q == '0);
    assign beat_last_o  = (beat_q == BeatWidth'(Beats - 1));
    always_ff @(posedge clk_i) begin
      if (!rst_ni) beat_q <= '0;
      else if (step_i) beat_q <= beat_last_o ? '0 : beat_q + 1'b1;
    end
  end

  if (Repeats == 1) begin : gen_once
    assign repeat_first  = 1'b1;
    assign repeat_last_o = 1'b1;
  end else begin : gen_repeats
    logic [RepeatWidth-1:0] repeat_q;
    logic                   repeat_first_q;
    assign repeat_first  = repeat_first_q;
    assign repeat_last_o = (repeat_q == RepeatWidth'(Repeats - 1));
    always_ff @(posedge clk_i) begin
      if (!rst_ni) begin
        repeat_q       <= '0;
        repeat_first_q <= 1'b1;
      end else if (step_i && beat_last_o) begin
        repeat_q       <= repeat_last_o ? '0 : repeat_q + 1'b1;
        repeat_first_q <= repeat_last_o;
      end
    end
  end

  if (Beats == 1 || Repeats == 1) begin : gen_stored
    assign step_valid_o = (used_q != '0);
    logic unused;
    assign unused = ^{repeat_first, beat_first_o};
  end else begin : gen_partly
    // Beats that no step has had, less one: whether there are any is one bit.
    logic [CountWidth:0] waiting_q;
    logic                first_use;
    assign first_use    = step_i && repeat_first;
    assign step_valid_o = !repeat_first || !waiting_q[CountWidth];
    always_ff @(posedge clk_i) begin
      if (!rst_ni) waiting_q <= '1;
      else if (accept != first_use) waiting_q <= waiting_q + (accept ? (CountWidth+1)'(1) : '1);
    end
  end

  // Slots are filled in a circle; reading goes back to the block's start until its last repeat.
  logic [AddressWidth-1:0] write_q, read;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) write_q <= '0;
    else if (accept) write_q <= (write_q == AddressWidth'(Depth - 1)) ? '0 : write_q + 1'b1;
  end

  if (Depth == 1) begin : gen_one_slot
    assign read = '0;
  end else if (Depth == Beats) begin : gen_one_block
    assign read = gen_beats.beat_q;
  end else begin : gen_circle
    logic [AddressWidth-1:0] read_q, start_q, next;
    assign next = (read_q == AddressWidth'(Depth - 1)) ? '0 : read_q + 1'b1;
    assign read = read_q;
    always_ff @(posedge clk_i) begin
      if (!rst_ni) begin
        read_q  <= '0;
        start_q <= '0;
      end else if (step_i) begin
        if (beat_last_o && !repeat_last_o) begin
          read_q <= start_q;
        end else begin
          read_q <= next;
          if (beat_last_o) start_q <= next;
        end
      end
    end
  end

  chop_ram #(
    .Width(Width),
    .Depth(Depth)
  ) u_ram (
    .clk_i          (clk_i),
    .write_i        (accept),
    .write_address_i(write_q),
    .write_data_i   (data_i),
    .read_i         (step_i),
    .read_address_i (read),
    .read_data_o    (data_o)
  );
endmodule
