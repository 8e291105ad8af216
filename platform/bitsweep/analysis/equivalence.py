"""Tests that are no difference test: equivalence of two arms, and two checkpoints image by image.

A difference that is not significant is no equivalence; the margin is fixed beforehand.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, sqrt
from statistics import fmean, stdev

from bitsweep.analysis.student import below

DEFAULT_MARGIN = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivalence:
    """Two one-sided t tests (TOST) of paired differences against a margin in percent points.

    `p` is the larger of the two; below 0.05 the arms differ by less than the margin.
    """

    margin: float
    n: int
    p: float


def tost(points: Sequence[float], *, margin: float = DEFAULT_MARGIN) -> Equivalence | None:
    """Are paired differences within the margin? None for fewer than 2 pairs or no spread.

    Source: metrics.md section 9, item 5 (Schuirmann's two one-sided tests).

    >>> round(tost([0.3, 0.2, 0.1, 0.5, 0.3], margin=0.3).p, 4)
    0.389
    """
    if margin <= 0:
        raise ValueError(f"a margin of equivalence is positive, got {margin}")
    n = len(points)
    sd = stdev(points) if n > 1 else 0.0
    if sd == 0.0:
        return None
    error = sd / sqrt(n)
    low = below(-(fmean(points) + margin) / error, freedom=n - 1)
    high = below((fmean(points) - margin) / error, freedom=n - 1)
    return Equivalence(margin=margin, n=n, p=max(low, high))


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """Two checkpoints on one test set: `left` images only the first has right, `right` the other.

    It speaks of these two checkpoints, not of their methods.
    """

    left: int
    right: int
    p_exact: float
    chi_squared: float


def mcnemar(left: int, right: int) -> McNemar:
    """Exact two-sided binomial p and the continuity-corrected chi-squared of discordant counts.

    >>> round(mcnemar(60, 40).p_exact, 6), mcnemar(60, 40).chi_squared
    (0.056888, 3.61)
    """
    n = left + right
    if min(left, right) < 0 or n == 0:
        raise ValueError(f"expected counts with at least one discordant image: {left}, {right}")
    tail = sum(comb(n, k) for k in range(min(left, right) + 1))
    return McNemar(
        left=left,
        right=right,
        p_exact=min(1.0, 2 * tail / 2**n),
        chi_squared=max(0, abs(left - right) - 1) ** 2 / n,
    )
