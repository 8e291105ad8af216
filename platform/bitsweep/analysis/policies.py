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
COMMONEST = "images at the commonest allocation"
CHANGED = "decisions that 8 bits change"
NEARLY_ALL = 0.95
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
    commonest_share: the part of the samples at the commonest allocation. changed_share: the part
    of the learned one's decisions that are others with its agent at 8 bits than in FP32.
    """

    split: str
    allocation: str
    allocator: str
    price: float | None
    top1_percent: float | None
    total: int
    distinct: int | None
    commonest_share: float | None
    changed_share: float | None
    shares: Mapping[str, Mapping[str, float]]
    entropy_bits: Mapping[str, float]
    costs: SampleCosts
    above_shuffled: Interval | None

    @property
    def is_collapsed(self) -> bool:
        """True where a learned policy chose one allocation for all samples."""
        return self.allocator == "learned" and self.distinct == 1

    @property
    def is_nearly_collapsed(self) -> bool:
        """True where it chose one allocation for more than 95 % of the samples, not for all."""
        share = self.commonest_share or 0.0
        return self.allocator == "learned" and not self.is_collapsed and share > NEARLY_ALL

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
            "commonest_share": self.commonest_share,
            "is_collapsed": self.is_collapsed,
            "is_nearly_collapsed": self.is_nearly_collapsed,
            "changed_at_8_bits_share": self.changed_share,
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
        if self.commonest_share is not None:
            parts.append(f"{100 * self.commonest_share:.1f} % of the samples at the commonest one")
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
        if self.changed_share is not None:
            parts.append(f"8 bits change {100 * self.changed_share:.2f} % of its decisions")
        if self.is_collapsed:
            parts.append("COLLAPSED: one allocation serves all samples")
        if self.is_nearly_collapsed:
            parts.append("NEARLY COLLAPSED: one allocation serves more than 95 % of the samples")
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
    distinct, commonest, changed = (row.sums.get(one) for one in (DISTINCT, COMMONEST, CHANGED))
    num_decisions = len(shares) * row.total
    return PolicyReport(
        split=row.split,
        allocation=row.allocation,
        allocator=row.allocator,
        price=row.price,
        top1_percent=None if row.correct is None else 100.0 * row.correct / row.total,
        total=row.total,
        distinct=None if distinct is None else round(distinct),
        commonest_share=None if commonest is None else commonest / row.total,
        changed_share=None if changed is None else changed / num_decisions,
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
