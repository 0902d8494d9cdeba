// Constant functions for widths and sizes, for use in parameters.
package chop_pkg;

  function automatic int unsigned max(input int unsigned a, input int unsigned b);
    max = (a > b) ? a : b;
  endfunction

  function automatic int unsigned min(input int unsigned a, input int unsigned b);
    min = (a < b) ? a : b;
  endfunction

  function automatic int unsigned ceil_div(input int unsigned a, input int unsigned b);
    ceil_div = (a + b - 1) / b;
  endfunction

  // The remainder in 0 to n-1.
  function automatic int unsigned modulo(input int a, input int n);
    modulo = ((a % n) + n) % n;
  endfunction

  // Bits of an index into n items, at least one.
  function automatic int unsigned index_width(input int unsigned n);
    index_width = (n <= 2) ? 1 : $clog2(n);
  endfunction

  // Bits that hold the counts 0 to n.
  function automatic int unsigned count_width(input int unsigned n);
    count_width = index_width(n + 1);
  endfunction

  // Bits of the narrowest two's complement number that holds the value.
  function automatic int unsigned signed_width(input logic signed [63:0] value);
    signed_width = 1;
    for (int i = 0; i < 63; i = i + 1) begin
      if (value[i] != value[63]) signed_width = i + 2;
    end
  endfunction

  // Whether a memory is to be built of LUTs: few words, few bits. The fewest are left to synthesis,
  // which makes them flip-flops and never a block.
  function automatic bit is_distributed(input int unsigned words, input int unsigned bits);
    is_distributed = (words <= 64) && (words * bits <= 4096) && (words * bits > 512);
  endfunction

endpackage
