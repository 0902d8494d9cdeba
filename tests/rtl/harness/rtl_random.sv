// Random elements, often at the ends of their range: uniform, small of either sign, all zeros, all ones,
// smallest and largest signed number. Simulation only.
package rtl_random;
  function automatic logic [63:0] element(input int unsigned width);
    logic signed [63:0] value;
    int unsigned kind;
    value = {$urandom, $urandom};
    kind  = $urandom % 8;
    unique case (kind)
      0: element = '0;
      1: element = '1;
      2: element = 64'b1 << (width - 1);
      3: element = ~(64'b1 << (width - 1));
      4: element = value >>> (63 - $urandom % width);
      default: element = value;
    endcase
  endfunction

  // True with probability threshold / 256.
  function automatic logic chance(input int unsigned threshold);
    chance = ($urandom % 256) < threshold;
  endfunction
endpackage
