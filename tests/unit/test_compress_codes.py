"""Huffman codes, relative positions and the compressed file: exact, minimal, and safe to read."""

from __future__ import annotations

import itertools
import json
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from chop.compress.arrays import Array
from chop.compress.file import decode_bytes, encode_bytes, read_compressed, write_compressed
from chop.compress.huffman import Code, code_of
from chop.compress.positions import absolute, relative
from chop.compress.tensors import code_tensor, size_of
from chop.errors import DataError

_SYMBOLS = st.lists(st.integers(0, 20), max_size=200)


def _sparse(seed: int, shape: tuple[int, ...], density: float, values: int) -> Array:
    rng = np.random.default_rng(seed)
    codebook = rng.normal(size=values).astype(np.float32)
    drawn = codebook[rng.integers(0, values, shape)]
    return np.where(rng.random(shape) < density, drawn, np.float32(0))


@given(_SYMBOLS)
def test_codes_decode_to_what_was_encoded(symbols: list[int]) -> None:
    text = np.array(symbols, dtype=np.int64)
    code = code_of(np.bincount(text, minlength=21))
    data = code.encode(text)
    assert len(data) == (code.bits(text) + 7) // 8
    assert Code(code.lengths).decode(data, len(text)).tolist() == symbols


@given(st.lists(st.integers(1, 50), min_size=2, max_size=5))
def test_no_prefix_code_is_shorter(counts: list[int]) -> None:
    mine = sum(n * m for n, m in zip(counts, code_of(np.array(counts)).lengths, strict=True))
    # Kraft: lengths with sum 2^-l <= 1 are those of a prefix code, and no others.
    every = itertools.product(range(1, len(counts) + 1), repeat=len(counts))
    valid = (lengths for lengths in every if sum(2.0**-n for n in lengths) <= 1)
    assert mine == min(sum(n * m for n, m in zip(counts, own, strict=True)) for own in valid)


def test_codes_are_canonical() -> None:
    assert code_of(np.array([5, 1, 1, 0, 2])).lengths == (1, 3, 3, 0, 2)
    assert code_of(np.array([5, 1, 1, 0, 2])).codes() == (0b0, 0b110, 0b111, 0, 0b10)
    assert code_of(np.array([0, 7])).lengths == (0, 1)


@pytest.mark.parametrize("lengths", [(1, 2), (1, 1, 1), (2,), (49, 1)])
def test_lengths_of_no_code_are_refused(lengths: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"^Huffman code: "):
        Code(lengths)


@given(st.sets(st.integers(0, 2000), max_size=60), st.integers(0, 8))
def test_positions_come_back(places: set[int], bits: int) -> None:
    wanted = np.array(sorted(places), dtype=np.int64)
    entries = relative(wanted, bits)
    assert entries.gaps.max(initial=0) < 1 << bits
    assert absolute(entries.gaps)[entries.is_weight].tolist() == wanted.tolist()


def test_a_filler_stands_at_the_farthest_place_that_a_distance_reaches() -> None:
    # Distances 4, 1, 9 with three bits: only the last is longer than 8.
    entries = relative(np.array([3, 4, 13]), 3)
    assert entries.gaps.tolist() == [3, 0, 7, 0]
    assert entries.is_weight.tolist() == [True, True, False, True]
    assert relative(np.array([8, 24]), 3).fillers == 2


_FLOATS = arrays(
    np.float32,
    array_shapes(max_dims=3, max_side=6),
    elements=st.sampled_from([0.0, -0.0, 1.5, -2.0, float("inf"), float("nan"), 1e-40]),
)


@given(_FLOATS, st.none() | st.integers(0, 8))
def test_files_hold_tensors_bit_for_bit(values: Array, bits: int | None) -> None:
    tensors = {"w": values, "steps": np.array(7), "flags": np.array([True, False])}
    content = decode_bytes(encode_bytes({"a": [1]}, tensors, bits))
    assert content.description == {"a": [1]}
    for name, wanted in tensors.items():
        found = content.tensors[name]
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("bits", [None, 0, 4, 5, 8])
def test_sizes_are_those_of_the_file(bits: int | None) -> None:
    values = _sparse(1, (60, 70), 0.06, 15)
    size = size_of("w", values, "coded", bits)
    # What the file has beside it: see its layout.
    around = 4 + 4 + 2 + 2 + 4
    tensor = 2 + 1 + 2 + 2 * 4 + 1 + (1 + 4 + 2 + 2) + 4 + (4 if size.position_bits else 0)
    assert len(encode_bytes({}, {"w": values}, bits)) == around + tensor + size.bytes
    assert (size.params, size.kept) == (4200, int(np.count_nonzero(values)))
    coded = code_tensor(values, bits)
    assert coded is not None
    assert size.fillers == coded.fillers


def test_the_accounting_of_each_form() -> None:
    values = np.zeros(40, np.float32)
    values[[3, 4, 13, 30]] = [0.5, 0.5, 0.5, 2.0]
    # Gaps 3 0 7|0 7 7|0: with three bits four weights and three fillers.
    pruned = size_of("w", values, "pruned", 3)
    assert (pruned.kept, pruned.fillers, pruned.bytes) == (4, 3, 28 + 3)
    shared = size_of("w", values, "shared", 3)
    assert (shared.values, shared.value_bits, shared.codebook_bytes) == (2, 2, 8)
    assert shared.bytes == 8 + 2 + 3
    coded = size_of("w", values, "coded", 3)
    # Values 3, 1 and fillers 3 of 7 entries take 1, 2, 2 bits or 2, 2, 1: 11 in all.
    assert coded.mean_value_bits == pytest.approx(11 / 7)
    # Gaps 0 and 7 three times each, 3 once: 1, 2, 2 bits, again 11.
    assert coded.mean_position_bits == pytest.approx(11 / 7)
    assert coded.table_bytes == 3 + 6
    assert coded.bytes == 8 + 9 + 2 + 2


def test_dense_and_empty_tensors_cost_no_more_than_themselves() -> None:
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(20, 30)).astype(np.float32)
    assert size_of("w", dense, "coded").bytes == dense.nbytes
    assert size_of("w", dense, "coded").form == "raw"
    assert size_of("w", np.zeros((20, 30), np.float32), "coded").bytes < 10
    assert size_of("w", np.zeros((0, 3), np.float32), "coded").bytes == 0


@pytest.fixture(scope="module")
def content() -> bytes:
    tensors = {"w": _sparse(3, (9, 11), 0.2, 5), "b": np.arange(3, dtype=np.float32)}
    return encode_bytes({"model": {"name": "x"}}, tensors)


def test_every_damaged_byte_is_found(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.chz"
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x41]) + content[place + 1 :])
        with pytest.raises(DataError) as caught:
            read_compressed(path)
        assert str(caught.value).startswith(f"compressed file '{path}': ")
        assert "\n" not in str(caught.value)


def test_every_cut_is_found(content: bytes) -> None:
    for length in range(len(content)):
        with pytest.raises(DataError, match=r"damaged|not a .chz|version"):
            decode_bytes(content[:length])


@settings(max_examples=300)
@given(st.data())
def test_nothing_but_a_data_error_comes_of_wrong_contents(data: st.DataObject) -> None:
    """With a checksum that is right: whoever wrote it may have been wrong."""
    tensors = {"w": _sparse(3, (9, 11), 0.2, 5), "b": np.arange(3, dtype=np.float32)}
    body = bytearray(encode_bytes({}, tensors)[:-4])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(4, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(DataError):
        decode_bytes(bytes(body) + struct.pack("<I", zlib.crc32(body)))


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No such file or directory$"):
        read_compressed(tmp_path / "none.chz")
    with pytest.raises(DataError, match=r"^is not a .chz file$"):
        decode_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match=r"^has version 02; this chop reads version 01$"):
        decode_bytes(b"CHZ\x02....")
    with pytest.raises(DataError, match=r"^tensor 'x': no number for the type complex64"):
        encode_bytes({}, {"x": np.zeros(2, np.complex64)})


def test_files_are_the_same_for_the_same_content(tmp_path: Path, content: bytes) -> None:
    tensors = {"w": _sparse(3, (9, 11), 0.2, 5), "b": np.arange(3, dtype=np.float32)}
    size = write_compressed(tmp_path / "x.chz", json.loads('{"model": {"name": "x"}}'), tensors)
    assert (tmp_path / "x.chz").read_bytes() == content
    assert size == len(content)
