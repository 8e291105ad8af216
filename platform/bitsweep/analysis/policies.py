"""What a rule that chooses bits per sample did: how varied, how dear, and whether it looked.

All of it is derived from counts that stand in the store; figures of allocations per layer and of
BitOps per sample draw `shares` and `costs`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import Any

import numpy as np

from bitsweep.cost import SampleCosts
from bitsweep.store.dynamic import DynamicRow

DISTINCT = "distinct allocations"
RESAMPLES = 10_000
_IMAGES = re.compile(r"images of (.+) at (w\d+a\d+)")
_ABOVE = re.compile(r"images ([+-]\d+)/(\d+) above shuffled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean over samples with its 95 % bounds, in percent points."""

    mean: float
    low95: float
    high95: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyReport:
    """One rule on one split.

    shares: by layer, the part of the samples at each bits; entropy_bits: of these, by layer.
    above_shuffled: accuracy less that of the same allocations given to other samples; None for
    any rule but the learned one. is_collapsed: one allocation serves all samples.
    """

    split: str
    allocation: str
    allocator: str
    price: float | None
    top1_percent: float | None
    total: int
    distinct: int | None
    shares: Mapping[str, Mapping[str, float]]
    entropy_bits: Mapping[str, float]
    costs: SampleCosts
    above_shuffled: Interval | None

    @property
    def is_collapsed(self) -> bool:
        """True where a learned policy chose one allocation for all samples."""
        return self.allocator == "learned" and self.distinct == 1

    def document(self) -> dict[str, Any]:
        """Plain JSON values."""
        above = self.above_shuffled
        return {
            "split": self.split,
            "allocation": self.allocation,
            "allocator": self.allocator,
            "lambda": self.price,
            "top1_percent": self.top1_percent,
            "total": self.total,
            "distinct_allocations": self.distinct,
            "is_collapsed": self.is_collapsed,
            "sample_bitops_body": self.costs.summary(),
            "entropy_bits": dict(self.entropy_bits),
            "shares": {layer: dict(share) for layer, share in self.shares.items()},
            "above_shuffled_points": None
            if above is None
            else {"mean": above.mean, "low95": above.low95, "high95": above.high95},
        }

    def line(self) -> str:
        """All of it on one line."""
        spent = ", ".join(f"{name} {value:.4g}" for name, value in self.costs.summary().items())
        parts = [f"BitOps of the body per sample {spent}"]
        if self.distinct is not None:
            parts.append(f"{self.distinct} different allocations")
        parts.append(
            "entropy (bits) "
            + ", ".join(f"{layer} {one:.2f}" for layer, one in self.entropy_bits.items())
        )
        if self.above_shuffled is not None:
            one = self.above_shuffled
            parts.append(
                f"learned - shuffled {one.mean:+.2f} points, 95 % [{one.low95:+.2f}, "
                f"{one.high95:+.2f}] over samples"
            )
        if self.is_collapsed:
            parts.append("COLLAPSED: one allocation serves all samples")
        top1 = "" if self.top1_percent is None else f" {self.top1_percent:.2f} % of {self.total}"
        return f"{self.allocation} on {self.split}:{top1}; " + "; ".join(parts)


def image_counts(sums: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """By layer and bits how many samples ran it so, from the sums of a measurement."""
    counts: dict[str, dict[str, float]] = {}
    for name, count in sums.items():
        if found := _IMAGES.fullmatch(name):
            counts.setdefault(found[1], {})[found[2]] = count
    return counts


def policy_reports(rows: Sequence[DynamicRow]) -> list[PolicyReport]:
    """A report per measurement, in order."""
    return [policy_report(one) for one in rows]


def policy_report(row: DynamicRow) -> PolicyReport:
    """Everything that the counts of one measurement tell."""
    shares = {
        layer: {bits: count / row.total for bits, count in counts.items()}
        for layer, counts in image_counts(row.sums).items()
    }
    above = {
        int(found[1]) / int(found[2]): round(count)
        for name, count in row.sums.items()
        if (found := _ABOVE.fullmatch(name))
    }
    distinct = row.sums.get(DISTINCT)
    return PolicyReport(
        split=row.split,
        allocation=row.allocation,
        allocator=row.allocator,
        price=row.price,
        top1_percent=None if row.correct is None else 100.0 * row.correct / row.total,
        total=row.total,
        distinct=None if distinct is None else round(distinct),
        shares=shares,
        entropy_bits={layer: entropy_bits(tuple(one.values())) for layer, one in shares.items()},
        costs=row.costs,
        above_shuffled=bootstrapped(above) if above else None,
    )


def entropy_bits(shares: Sequence[float]) -> float:
    """Shannon's entropy in bits; 0 where one share is all.

    >>> entropy_bits([0.5, 0.5, 0.0])
    1.0
    """
    return abs(sum(one * log2(one) for one in shares if one > 0))


def bootstrapped(counts: Mapping[float, int], *, seed: int = 0) -> Interval:
    """Mean and percentile interval of differences per sample, given as value -> samples of it.

    A paired bootstrap over samples: 10,000 resamples, drawn as multinomial counts.
    """
    values, numbers = np.array(list(counts)), np.array(list(counts.values()))
    total = int(numbers.sum())
    drawn = np.random.default_rng(seed).multinomial(total, numbers / total, size=RESAMPLES)
    means = 100.0 * drawn @ values / total
    low, high = np.quantile(means, [0.025, 0.975])
    mean = 100.0 * float(values @ numbers) / total
    return Interval(mean=mean, low95=float(low), high95=float(high))
