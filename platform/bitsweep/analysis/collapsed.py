"""Arms that are one trial for some seeds: their difference there is 0 by construction, no finding.

It happens where lengths were learned equal in all layers: retrained, uniform and shuffled they are
the same trial.
"""

from collections.abc import Iterable, Mapping
from itertools import combinations
from statistics import fmean, stdev
from typing import Protocol

from bitsweep.analysis.paired import sign_flip_p, whole
from bitsweep.analysis.shown import shown


class Side(Protocol):
    """What is read of an arm's cell: by seed the values, and the trial with its allocation."""

    @property
    def value_by_seed(self) -> Mapping[int, float]: ...
    @property
    def measured_by_seed(self) -> Mapping[int, tuple[str, str]]: ...


def shared_seeds(left: Side, right: Side) -> tuple[int, ...]:
    """The seeds at which both sides are one trial at one allocation, in ascending order."""
    common = set(left.measured_by_seed) & set(right.measured_by_seed)
    return tuple(
        sorted(
            seed for seed in common if left.measured_by_seed[seed] == right.measured_by_seed[seed]
        )
    )


def shared_counts(
    arm: str, allocation: str, cells: Mapping[tuple[str, str], Side]
) -> dict[str, int]:
    """How many seeds of an arm are trials of each other arm too, at the same bits."""
    mine = cells[arm, allocation]
    counts = {
        other: len(shared_seeds(mine, cell))
        for (other, at), cell in cells.items()
        if at == allocation and other != arm
    }
    return {other: count for other, count in counts.items() if count}


def shared_notes(cells: Mapping[tuple[str, str], Side], *, metric: str) -> Iterable[str]:
    """A sentence for each two arms that are one trial for some of their seeds."""
    for (arm, at), (other, other_at) in combinations(cells, 2):
        left, right = cells[arm, at], cells[other, other_at]
        seeds = shared_seeds(left, right) if at == other_at else ()
        common = set(left.value_by_seed) & set(right.value_by_seed)
        if not seeds:
            continue
        rest = sorted(common - set(seeds))
        differences = [left.value_by_seed[one] - right.value_by_seed[one] for one in rest]
        yield (
            f"{arm} - {other} at {at}: in {len(seeds)} of {len(common)} seeds both arms are one "
            f"trial, whose difference is 0 by construction; {_without(differences, metric)}."
        )


def _without(differences: list[float], metric: str) -> str:
    if not differences:
        return "no seed is left without them"
    style = shown(metric)
    sd = f" \u00b1 {style.number(stdev(differences))}" if len(differences) > 1 else ""
    effect = f"{style.difference(fmean(differences))}{sd} {style.difference_unit}".rstrip()
    p = sign_flip_p(whole(differences))
    return f"without them {effect} (n = {len(differences)}, exact paired p = {p:.4g})"
