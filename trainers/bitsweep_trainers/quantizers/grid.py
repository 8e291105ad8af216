"""Grids of integers n around zero, and which of their points share a mask of DropBits."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Literal, NamedTuple

GridKind = Literal["sym", "full", "unsigned"]
Sharing = Literal["off", "bitwise", "endpoints"]


class Run(NamedTuple):
    """Neighbouring grid indices low..high that share a mask; mask None: never masked."""

    low: int
    high: int
    mask: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The integers n of the points alpha n, cut into runs of equal mask, in ascending order.

    >>> make_grid("sym", 3, "bitwise").runs[0]
    Run(low=-3, high=-2, mask=0)
    """

    runs: tuple[Run, ...]

    def __post_init__(self) -> None:
        if not any(run.mask is None and run.low <= 0 <= run.high for run in self.runs):
            raise ValueError("the point zero is never masked")

    @property
    def low(self) -> int:
        """The lowest n."""
        return self.runs[0].low

    @property
    def high(self) -> int:
        """The highest n."""
        return self.runs[-1].high

    @property
    def num_masks(self) -> int:
        """Masks of one draw; 0 where nothing can be dropped."""
        return 1 + max(-1 if run.mask is None else run.mask for run in self.runs)

    def kept(self, masks: Sequence[float] | None = None) -> tuple[tuple[int, int], ...]:
        """The points that are left of it, as low..high of neighbours; a mask of 0 drops its own.

        >>> make_grid("sym", 4, "bitwise").kept([0.0, 1.0])
        ((-7, -4), (-1, 1), (4, 7))
        """
        kept: list[tuple[int, int]] = []
        for run in self.runs:
            if masks is not None and run.mask is not None and not masks[run.mask]:
                continue
            meets_last = bool(kept) and kept[-1][1] + 1 == run.low
            low = kept.pop()[0] if meets_last else run.low
            kept.append((low, run.high))
        return tuple(kept)


@cache  # asked for at every pass of every quantizer
def make_grid(kind: GridKind, bits: int, sharing: Sharing = "off") -> Grid:
    """The grid of one bit-width; ValueError below 2 bits or for pairs on an unsigned grid.

    An unsigned grid shares a mask per level: the points that k bits have and k - 1 do not.
    """
    if bits < 2:
        raise ValueError(f"a grid needs at least 2 bits, got {bits}")
    if kind == "unsigned":
        if sharing == "endpoints":
            raise ValueError("an unsigned grid has no pairs of end points: it starts at zero")
        return Grid(runs=_unsigned_runs(bits, sharing))
    top = 2 ** (bits - 1) - 1
    low = -top if kind == "sym" else -top - 1
    groups = groupby(range(low, top + 1), key=lambda n: _mask_of(min(abs(n), top), sharing))
    members = [(mask, list(points)) for mask, points in groups]
    return Grid(runs=tuple(Run(points[0], points[-1], mask) for mask, points in members))


def _unsigned_runs(bits: int, sharing: Sharing) -> tuple[Run, ...]:
    if sharing == "off":
        return (Run(0, 2**bits - 1, None),)
    levels = [Run(2 ** (level - 1), 2**level - 1, level - 3) for level in range(3, bits + 1)]
    return (Run(0, 3, None), *levels)


def _mask_of(distance: int, sharing: Sharing) -> int | None:
    """The mask of the points +-distance; -1, 0 and 1 have none."""
    if sharing == "off" or distance < 2:
        return None
    return distance.bit_length() - 2 if sharing == "bitwise" else distance - 2
