"""Cases of the stream, memory and arithmetic modules."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.rtl.rtl_case import RANDOM, Case, Cast, Signal, rom_file
from tests.rtl.rtl_models import (
    Delay,
    Fork,
    Join,
    Model,
    Narrow,
    Queue,
    Ram,
    Register,
    Replay,
    Rom,
    Widen,
    pack,
    split,
)

_STREAM_PORTS = {
    "valid_i": "x_valid",
    "ready_o": "x_ready",
    "data_i": "x_data",
    "valid_o": "y_valid",
    "ready_i": "y_ready",
    "data_o": "y_data",
}


_XY = (Signal("x", 1, 7), Signal("y", 1, 7))


def _stream(module: str, model: Callable[[], Model], x: Signal, y: Signal, **params: int) -> Case:
    return Case(module, params, model, _STREAM_PORTS, (x,), (y,))


def _fork(outputs: int) -> Case:
    names = [f"y{k}" for k in reversed(range(outputs))]
    ports = {
        "valid_i": "x_valid",
        "ready_o": "x_ready",
        "data_i": "x_data",
        "valid_o": "{" + ", ".join(f"{n}_valid" for n in names) + "}",
        "ready_i": "{" + ", ".join(f"{n}_ready" for n in names) + "}",
        "data_o": "data",
    }
    return Case(
        "chop_fork",
        {"Width": 5, "Outputs": outputs},
        lambda: Fork(outputs),
        ports,
        (Signal("x", 1, 5),),
        tuple(Signal(f"y{k}", 1, 5) for k in range(outputs)),
        wires=(Signal("data", 1, 5),),
    )


def _join(inputs: int) -> Case:
    names = [f"x{k}" for k in reversed(range(inputs))]
    ports = {
        "valid_i": "{" + ", ".join(f"{n}_valid" for n in names) + "}",
        "ready_o": "{" + ", ".join(f"{n}_ready" for n in names) + "}",
        "valid_o": "y_valid",
        "ready_i": "y_ready",
    }
    sources = tuple(Signal(f"x{k}") for k in range(inputs))
    return Case(
        "chop_join",
        {"Inputs": inputs},
        lambda: Join(inputs),
        ports,
        sources,
        (Signal("y"),),
        clocked=False,
    )


def _converter(width: int, in_lanes: int, out_lanes: int) -> Case:
    def model() -> Model:
        if in_lanes >= out_lanes:
            return Narrow(in_lanes // out_lanes, out_lanes * width)
        return Widen(out_lanes // in_lanes, in_lanes * width)

    x, y = Signal("x", in_lanes, width), Signal("y", out_lanes, width)
    params = {"ElementWidth": width, "InLanes": in_lanes, "OutLanes": out_lanes}
    return _stream("chop_width_converter", model, x, y, **params)


def _replay(beats: int, repeats: int, depth: int) -> Case:
    ports = {
        "valid_i": "x_valid",
        "ready_o": "x_ready",
        "data_i": "x_data",
        "step_valid_o": "y_valid",
        "step_i": "y_valid && y_ready",
        "data_o": "y_data",
        "beat_first_o": "beat_first",
        "beat_last_o": "beat_last",
        "repeat_last_o": "repeat_last",
    }
    return Case(
        "chop_replay_buffer",
        {"Width": 6, "Beats": beats, "Repeats": repeats, "Depth": depth},
        lambda: Replay(beats, repeats, depth),
        ports,
        (Signal("x", 1, 6),),
        (Signal("y", 1, 6),),
        wires=(Signal("beat_first"), Signal("beat_last"), Signal("repeat_last")),
    )


def _round_saturate(cast: Cast) -> Case:
    def function(x: int) -> int:
        (value,) = split(x, 1, cast.in_width, cast.in_signed)
        return pack([cast.finish(value)], cast.out_width)

    return Case(
        "chop_round_saturate",
        cast.parameters(),
        lambda: Delay(function, 0),
        {"data_i": "x", "data_o": "y"},
        randoms=(Signal("x", 1, cast.in_width),),
        wires=(Signal("y", 1, cast.out_width),),
        clocked=False,
        resettable=False,
    )


def _tree(inputs: int, in_width: int, out_width: int, levels: int, signed: bool = True) -> Case:
    def function(x: int) -> int:
        return pack([sum(split(x, inputs, in_width, signed))], out_width)

    params = {
        "Inputs": inputs,
        "InWidth": in_width,
        "OutWidth": out_width,
        "Signed": int(signed),
        "LevelsPerStage": levels,
    }
    return Case(
        "chop_adder_tree",
        params,
        lambda: Delay(function, -(-(inputs - 1).bit_length() // levels)),
        {"data_i": "x", "sum_o": "y"},
        randoms=(Signal("x", inputs, in_width),),
        wires=(Signal("y", 1, out_width),),
        resettable=False,
    )


def _address(depth: int) -> int:
    return max(1, (depth - 1).bit_length())


def _rom_case(width: int, depth: int, latency: int, style: str) -> Case:
    words = [RANDOM.getrandbits(width) for _ in range(depth)]
    file, roms = rom_file("r", words, width)
    return Case(
        "chop_rom",
        {"Width": width, "Depth": depth, "Latency": latency, "Style": style, "File": file},
        lambda: Rom(words, latency),
        {"en_i": "en", "address_i": "address", "data_o": "y"},
        randoms=(Signal("en"), Signal("address", 1, _address(depth))),
        wires=(Signal("y", 1, width),),
        roms=roms,
        resettable=False,
    )


def _ram_case(width: int, depth: int) -> Case:
    address = _address(depth)
    names = ("write", "write_address", "write_data", "read", "read_address")
    widths = (1, address, width, 1, address)
    return Case(
        "chop_ram",
        {"Width": width, "Depth": depth},
        lambda: Ram(depth),
        {**{f"{name}_i": name for name in names}, "read_data_o": "y"},
        randoms=tuple(Signal(n, 1, w) for n, w in zip(names, widths, strict=True)),
        wires=(Signal("y", 1, width),),
        resettable=False,
    )


_ROUND_SATURATE = (
    Cast(8, True, 8, True),
    Cast(8, True, 4, True),
    Cast(8, True, 4, False),
    Cast(8, False, 4, True),
    Cast(8, False, 4, False),
    Cast(8, False, 9, True),
    Cast(8, True, 12, False),
    Cast(8, True, 1, True),
    Cast(8, True, 1, False),
    Cast(1, True, 4, True, left=2),
    Cast(6, True, 8, True, left=3),
    Cast(6, True, 8, False, left=1),
    Cast(6, False, 8, True, left=3),
    *(
        Cast(in_width, in_signed, out_width, out_signed, right, 0, rounding)
        for rounding in (0, 1, 2)
        for in_width, in_signed, out_width, out_signed, right in (
            (8, True, 5, True, 1),
            (8, True, 5, True, 3),
            (8, True, 6, True, 3),
            (8, True, 4, False, 3),
            (8, False, 5, False, 3),
            (8, False, 8, True, 2),
            (8, True, 8, True, 7),
            (8, True, 4, True, 8),
            (8, False, 4, True, 8),
            (8, True, 4, True, 9),
            (8, False, 4, False, 9),
            (8, True, 4, True, 40),
            (40, True, 8, True, 12),
        )
    ),
)

_REPLAY = ((1, 1, 1), (1, 1, 3), (1, 3, 1), (1, 4, 2), (3, 1, 3), (4, 2, 4), (3, 3, 5), (4, 3, 8))
_TREES = ((1, 4, 4, 1), (1, 4, 6, 1), (2, 4, 5, 1), (3, 4, 6, 1), (5, 3, 6, 2), (8, 3, 6, 2))

CASES = (
    _stream("chop_stream_register", lambda: Register(lambda x: x), *_XY, Width=7),
    _stream("chop_spill_register", lambda: Queue(2), *_XY, Width=7),
    *(
        _stream("chop_fifo", partial(Queue, depth), *_XY, Width=7, Depth=depth)
        for depth in (1, 2, 3, 4, 5, 8)
    ),
    *(_fork(outputs) for outputs in (1, 2, 3)),
    *(_join(inputs) for inputs in (1, 2, 3)),
    *(_converter(3, *lanes) for lanes in ((4, 2), (6, 2), (5, 1), (1, 2), (2, 6), (3, 3))),
    *(_replay(*shape) for shape in _REPLAY),
    *(_round_saturate(cast) for cast in _ROUND_SATURATE),
    *(_tree(*shape) for shape in _TREES),
    _tree(7, 6, 6, 3),
    _tree(4, 6, 5, 1),
    *(_tree(*shape, signed=False) for shape in ((1, 1, 1, 1), (1, 3, 5, 1), (9, 1, 4, 2))),
    _tree(6, 3, 5, 1, signed=False),
    _tree(5, 2, 9, 3, signed=False),
    *(_rom_case(9, 5, latency, style) for latency, style in ((1, "auto"), (2, "block"))),
    *(_rom_case(9, 8, latency, style) for latency, style in ((1, "logic"), (2, "distributed"))),
    _rom_case(6, 1, 1, "auto"),
    *(_ram_case(5, depth) for depth in (1, 2, 5)),
)
