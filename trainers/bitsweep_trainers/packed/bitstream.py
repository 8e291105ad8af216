"""Whole numbers of a few bits, one behind the other without gaps, the lowest bit first."""

import numpy as np
from numpy.typing import NDArray

MOST_BITS = 8
Bytes = NDArray[np.uint8]


def bits_of(codes: Bytes, bits: int) -> Bytes:
    """The bits of codes 0..2^b - 1, one a byte, (n b,); ValueError for a code that does not fit.

    >>> bits_of(np.array([1, 6], dtype=np.uint8), 3).tolist()
    [1, 0, 0, 0, 1, 1]
    """
    _check(bits)
    if codes.size and int(codes.max()) >> bits:
        raise ValueError(f"code {int(codes.max())} needs more than {bits} bits")
    places = np.arange(bits, dtype=np.uint8)
    spread: Bytes = (codes.reshape(-1, 1) >> places) & np.uint8(1)
    return spread.reshape(-1)


def codes_of(spread: Bytes, bits: int) -> Bytes:
    """The inverse of `bits_of`."""
    _check(bits)
    places = np.arange(bits, dtype=np.uint8)
    codes: Bytes = (spread.reshape(-1, bits) << places).sum(1, dtype=np.uint8)
    return codes


def pack(spread: Bytes) -> bytes:
    """Bits, one a byte, as bytes of eight of them; the last byte is filled up with zeros.

    >>> pack(bits_of(np.array([1, 2, 3], dtype=np.uint8), 2)).hex()
    '39'
    """
    return np.packbits(spread, bitorder="little").tobytes()


def unpack(data: bytes, *, offset: int, count: int) -> Bytes:
    """`count` bits from bit `offset` on, one a byte; ValueError where the data end before."""
    if offset + count > 8 * len(data):
        raise ValueError(f"bits {offset} to {offset + count} lie behind the end of the data")
    first, last = offset // 8, -(-(offset + count) // 8)
    whole = np.unpackbits(np.frombuffer(data[first:last], dtype=np.uint8), bitorder="little")
    begin = offset - 8 * first
    return whole[begin : begin + count]


def _check(bits: int) -> None:
    if not 1 <= bits <= MOST_BITS:
        raise ValueError(f"a code has 1 to {MOST_BITS} bits, got {bits}")
