"""Honest statistics for a few seeds: exact paired tests, Holm, and what p is attainable at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

from bitsweep.analysis.student import quantile, two_sided_p


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Differences of two arms on the same seeds.

    p_permutation: exact two-sided sign-flip test; p_t: paired t test, None for fewer than 2 pairs
    or no spread. Source: metrics.md section 9 (Fisher's exact permutation test).
    """

    n: int
    mean: float
    sd: float | None
    p_permutation: float
    p_t: float | None
    low95: float | None
    high95: float | None


_EXACT_PAIRS = 16
_FINE, _COARSE = 10**12, 10**4


def whole(differences: Sequence[float]) -> list[int]:
    """Differences as whole numbers, for `sign_flip_p`: in parts of the largest of them.

    Parts of 1e-12 for up to 16 pairs, of 1e-4 for more, where the sums would be too many.

    >>> whole([0.5, -0.25])
    [1000000000000, -500000000000]
    """
    largest = max((abs(one) for one in differences), default=0.0)
    parts = _FINE if len(differences) <= _EXACT_PAIRS else _COARSE
    return [round(one / largest * parts) if largest else 0 for one in differences]


def sign_flip_p(counts: Sequence[int]) -> float:
    """Exact two-sided sign-flip p of paired differences given as whole numbers.

    Counts of right answers on one test set are whole, so that ties are exact. The distribution of
    the signed sum is built pair by pair, exactly, for any number of pairs. ValueError for none.

    >>> sign_flip_p([3, 2, 1, 5, 3])
    0.0625
    """
    if not counts:
        raise ValueError("a paired test needs at least one pair")
    ways = {0: 1}
    for count in counts:
        spread: dict[int, int] = {}
        for total, number in ways.items():
            for signed in (total + count, total - count):
                spread[signed] = spread.get(signed, 0) + number
        ways = spread
    observed = abs(sum(counts))
    as_far = sum(number for total, number in ways.items() if abs(total) >= observed)
    return float(as_far / 2 ** len(counts))


def paired(counts: Sequence[int], *, total: int) -> Paired:
    """Compare by differences in right answers out of `total`; means and sd in percent points."""
    return _paired([100.0 * count / total for count in counts], counts)


def paired_values(differences: Sequence[float]) -> Paired:
    """Compare by differences of any metric, in its own unit."""
    return _paired(differences, whole(differences))


def _paired(points: Sequence[float], counts: Sequence[int]) -> Paired:
    n, mean = len(points), fmean(points)
    sd = stdev(points) if n > 1 else None
    p_t = low = high = None
    if sd:
        error = sd / sqrt(n)
        p_t = two_sided_p(mean / error, freedom=n - 1)
        reach = quantile(0.95, freedom=n - 1) * error
        low, high = mean - reach, mean + reach
    return Paired(
        n=n,
        mean=mean,
        sd=sd,
        p_permutation=sign_flip_p(counts),
        p_t=p_t,
        low95=low,
        high95=high,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def attainable_p(*, family: int, seeds: int) -> float:
    """The smallest Holm-adjusted p of a family that n seeds can reach: family * 2 / 2^n.

    >>> attainable_p(family=1, seeds=6)
    0.03125
    """
    return float(min(1.0, family * 2 / 2**seeds))
