"""Codes as bits and back: laws of the packer, and one string counted by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsweep_trainers.packed.bitstream import bits_of, codes_of, pack, unpack

widths = st.integers(1, 8)
streams = st.lists(
    widths.flatmap(lambda b: st.tuples(st.just(b), st.lists(st.integers(0, 2**b - 1)))),
    max_size=5,
)


def codes(values: list[int]) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.array(values, dtype=np.uint8)


@given(streams)
def test_streams_of_any_bits_and_lengths_come_back_from_where_they_lie(
    parts: list[tuple[int, list[int]]],
) -> None:
    spread = [bits_of(codes(values), bits) for bits, values in parts]
    data = pack(np.concatenate([np.empty(0, dtype=np.uint8), *spread]))
    offset = 0
    for bits, values in parts:
        found = codes_of(unpack(data, offset=offset, count=bits * len(values)), bits)
        offset += bits * len(values)

        assert found.tolist() == values
    assert len(data) == -(-offset // 8)


def test_the_lowest_bit_comes_first() -> None:
    # 1, 6, 4 of three bits, lowest first: 100 011 00|1 -> 0b00110001, 0b00000001
    assert pack(bits_of(codes([1, 6, 4]), 3)).hex() == "3101"


def test_a_code_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="code 4 needs more than 2 bits"):
        bits_of(codes([1, 4]), 2)


@pytest.mark.parametrize("bits", [0, 9])
def test_codes_have_one_to_eight_bits(bits: int) -> None:
    with pytest.raises(ValueError, match="1 to 8 bits"):
        bits_of(codes([0]), bits)


def test_bits_behind_the_end_are_refused() -> None:
    with pytest.raises(ValueError, match="behind the end"):
        unpack(b"\x01", offset=4, count=5)
