"""Two arms image by image, where the sweep kept its answers: McNemar and a bootstrap.

Seeds are resampled, then images within them: the interval holds what both would be otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bitsweep.analysis.equivalence import McNemar, mcnemar

Answers = Mapping[tuple[str, str], bytes]
"""By trial and allocation, as `bitsweep.store.answers` reads them."""
DRAWS = 10_000
_BOOTSTRAP_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ByImage:
    """Two arms on the same images of the same seeds; the interval in percent points.

    `pairs` has McNemar's test of each seed's two checkpoints, None where they never disagree.
    """

    pairs: Mapping[int, McNemar | None]
    total: int
    mean: float
    low95: float
    high95: float


def discordant(left: bytes, right: bytes) -> tuple[int, int]:
    """(images that only the left has right, only the right) of packed answers.

    >>> discordant(bytes([0b1110_0000]), bytes([0b1001_0000]))
    (2, 1)
    """
    if len(left) != len(right):
        raise ValueError(f"answers to other images: {len(left)} bytes and {len(right)}")
    one, other = int.from_bytes(left), int.from_bytes(right)
    return (one & ~other).bit_count(), (other & ~one).bit_count()


def by_image(answers: Mapping[int, tuple[bytes, bytes]], *, total: int) -> ByImage | None:
    """Compare the answers of two arms seed by seed to the same `total` images; None of no seed."""
    if not answers:
        return None
    counts = {seed: discordant(*pair) for seed, pair in sorted(answers.items())}
    low, high = bootstrap(list(counts.values()), total=total)
    gains = [left - right for left, right in counts.values()]
    return ByImage(
        pairs={
            seed: mcnemar(left, right) if left + right else None
            for seed, (left, right) in counts.items()
        },
        total=total,
        mean=100.0 * sum(gains) / (total * len(gains)),
        low95=low,
        high95=high,
    )


def bootstrap(
    counts: list[tuple[int, int]], *, total: int, draws: int = DRAWS
) -> tuple[float, float]:
    """The 95 % percentile interval of the mean difference in points; seeds, then images in them.

    counts: per seed the images that only one arm has right, and only the other. To draw `total`
    images with replacement and add up their differences of 1, -1 and 0 is a multinomial draw, and
    is done as one. The draws are the same each time. Source: metrics.md section 9, item 4.
    """
    import numpy as np  # not needed where nothing was kept

    random = np.random.default_rng(_BOOTSTRAP_SEED)
    shares = np.array([[left, right, total - left - right] for left, right in counts]) / total
    seeds = random.integers(len(counts), size=(draws, len(counts)))
    drawn = random.multinomial(total, shares[seeds])
    means = 100.0 * (drawn[..., 0] - drawn[..., 1]).mean(axis=1) / total
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
