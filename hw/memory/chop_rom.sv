// Memory of constants, read from File (hexadecimal, one word a line) relative to the run directory.
// Latency 1: data_o holds the word in the cycle after en_i. Above: as many cycles after it, through
// further, free-running registers. Depth 1: a constant without a register, which synthesis folds
// into the logic. Style: "auto", "logic" or "distributed" (both LUTs), "block".
module chop_rom #(
  parameter int unsigned Width   = 8,
  parameter int unsigned Depth   = 16,
  parameter              File    = "",
  parameter int unsigned Latency = 1,
  parameter              Style   = "auto",
  localparam int unsigned AddressWidth = chop_pkg::index_width(Depth)
) (
  input  logic                    clk_i,
  input  logic                    en_i,
  input  logic [AddressWidth-1:0] address_i,
  output logic [Width-1:0]        data_o
);
  if (Width < 1 || Depth < 1) begin : gen_check_size
    $error("chop_rom: Width and Depth must be >= 1");
  end
  if (Latency < 1) begin : gen_check_latency
    $error("chop_rom: Latency must be >= 1");
  end

  // Text of equal widths, as the comparison wants it.
  localparam logic [127:0] Text  = 128'(Style);
  localparam bit           Logic = (Text == 128'("logic")) || (Text == 128'("distributed"));
  localparam bit           Block = (Text == 128'("block"));
  if (!Logic && !Block && Text != 128'("auto")) begin : gen_check_style
    $error("chop_rom: Style must be auto, logic, distributed or block");
  end

  if (Depth == 1) begin : gen_constant
    // Copied as a whole, it is no memory to Yosys, whose multipliers could not see through one.
    (* mem2reg *) logic [Width-1:0] mem [0:0];
    logic [Width-1:0] words [0:0];
    initial $readmemh(File, mem);
    assign words  = mem;
    assign data_o = words[0];

    logic unused;
    assign unused = ^{clk_i, en_i, address_i};
  end else begin : gen_memory
    logic [Width-1:0] word_q;

    // An attribute takes a literal, so every style has its own copy of the memory.
    if (Logic) begin : gen_logic
      // Yosys has no LUT memory without a write port and wants "logic"; Vivado calls the same
      // "distributed".
      (* ram_style = "logic", rom_style = "distributed" *) logic [Width-1:0] mem [0:Depth-1];
      initial $readmemh(File, mem);
      always_ff @(posedge clk_i) if (en_i) word_q <= mem[address_i];
    end else if (Block) begin : gen_block
      (* rom_style = "block" *) logic [Width-1:0] mem [0:Depth-1];
      initial $readmemh(File, mem);
      always_ff @(posedge clk_i) if (en_i) word_q <= mem[address_i];
    end else begin : gen_auto
      logic [Width-1:0] mem [0:Depth-1];
      initial $readmemh(File, mem);
      always_ff @(posedge clk_i) if (en_i) word_q <= mem[address_i];
    end

    if (Latency > 1) begin : gen_further
      localparam int unsigned FurtherWidth = (Latency - 1) * Width;
      logic [FurtherWidth-1:0] further_q;
      always_ff @(posedge clk_i) further_q <= FurtherWidth'({further_q, word_q});
      assign data_o = further_q[FurtherWidth-1 -: Width];
    end else begin : gen_first
      assign data_o = word_q;
    end
  end
endmodule
