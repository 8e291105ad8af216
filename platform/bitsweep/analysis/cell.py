"""A cell of a table: what an arm measured at one allocation over its seeds; two cells paired."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bitsweep.analysis.by_image import Answers, ByImage, by_image
from bitsweep.analysis.paired import Paired, paired, paired_values
from bitsweep.bits import LEARNED, parse_allocation

FULL_PRECISION = "w32a32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One arm at one allocation: mean and sample sd of the sweep's metric over n seeds.

    `correct_by_seed` holds the counts behind it, for top-1 alone: they make paired tests exact.
    `measured_by_seed`: the trial and the allocation of its own.
    Not `is_searched`: the arm was searched, but at other bits than these.
    Under "learned" each seed has an allocation of its own: `labels` are all of them, costs and
    bits are means over them. Not `is_own`: a rival of the arm's policy chose the bits, which are
    beside the arm's own numbers and no part of them.
    """

    arm: str
    method: str
    allocation: str
    split: str
    mean: float
    sd: float | None
    n: int
    bitops: float
    size_bits: int
    mean_weight_bits: float
    value_by_seed: Mapping[int, float]
    correct_by_seed: Mapping[int, int]
    total: int
    trial_ids: frozenset[str] = frozenset()
    measured_by_seed: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    is_searched: bool = True
    labels: tuple[str, ...] = ()
    is_own: bool = True


def cells_by_image(left: Cell, right: Cell, answers: Answers) -> ByImage | None:
    """Two cells on the seeds where the answers of both are kept; None without one."""
    pairs = {}
    for seed in set(left.measured_by_seed) & set(right.measured_by_seed):
        both = (left.measured_by_seed[seed], right.measured_by_seed[seed])
        if left.total == right.total and all(one in answers for one in both):
            pairs[seed] = (answers[both[0]], answers[both[1]])
    return by_image(pairs, total=left.total)


def paired_cells(left: Cell, right: Cell) -> Paired | None:
    """Two cells on their common seeds, by counts where both have them; None without a seed."""
    seeds = sorted(set(left.value_by_seed) & set(right.value_by_seed))
    if not seeds:
        return None
    if left.correct_by_seed and right.correct_by_seed and left.total == right.total:
        counts = [left.correct_by_seed[seed] - right.correct_by_seed[seed] for seed in seeds]
        return paired(counts, total=left.total)
    return paired_values([left.value_by_seed[one] - right.value_by_seed[one] for one in seeds])


def ordered(allocations: Iterable[str]) -> tuple[str, ...]:
    """Ascending bits; mixed and policy allocations after the uniform ones, learned bits last."""

    def rank(label: str) -> tuple[int, int, int, str]:
        if label == LEARNED:
            return (2, 0, 0, label)
        layers = parse_allocation(label).layers
        if len(layers) == 1:
            return (0, layers[0].weight, layers[0].activation, label)
        return (1, 0, 0, label)

    return tuple(sorted(allocations, key=rank))
