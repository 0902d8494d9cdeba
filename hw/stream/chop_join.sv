// Joins the handshakes of Inputs streams: all beats pass in the same cycle. The data goes around
// this module. Latency 0, one beat per cycle, no state. Combinational: valid_i to valid_o; valid_i
// and ready_i to ready_o.
module chop_join #(
  parameter int unsigned Inputs = 2
) (
  input  logic [Inputs-1:0] valid_i,
  output logic [Inputs-1:0] ready_o,
  output logic              valid_o,
  input  logic              ready_i
);
  if (Inputs < 1) begin : gen_check
    $error("chop_join: Inputs must be >= 1");
  end

  assign valid_o = &valid_i;
  assign ready_o = {Inputs{valid_o && ready_i}};
endmodule
