"""Lists of random allocations of a network: mean and sd over allocations, by batch-norm protocol.

Source: metrics.md, section 7 (a fixed, seed-pinned list of cost-stratified allocations).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from bitsweep.analysis.shown import shown
from bitsweep.store.records import ResultRow, Score, SweepRow

_PROTOCOLS = {"running": "running batch-norm statistics", "re-estimated": "re-estimated ones"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A metric over the allocations of a list under one protocol; sd is over allocations.

    sd: None for a list of one. low, high: of the worst and of the best allocation.
    """

    protocol: str
    num_allocations: int
    mean: float
    sd: float | None
    low: float
    high: float

    def told(self, metric: str) -> str:
        """For example "running batch-norm statistics 84.10 +/- 0.52 % (82.30 to 85.20)"."""
        look = shown(metric)
        number = look.number
        sd = "" if self.sd is None else f" \u00b1 {number(self.sd)}"
        value = f"{number(self.mean)}{sd} {look.unit}".rstrip()
        span = f"{number(self.low)} to {number(self.high)}"
        return f"{_PROTOCOLS[self.protocol]} {value} ({span})"


def listed(values: Mapping[tuple[str, str], Sequence[float]]) -> tuple[Listed, ...]:
    """By protocol; values: by (protocol, allocation), those of the seeds, which are meaned first.

    >>> one, = listed({("running", "w=[2,4] a=[2,4]"): [1.0, 3.0], ("running", "w2a2"): [4.0]})
    >>> one.num_allocations, one.mean, one.low, one.high
    (2, 3.0, 2.0, 4.0)
    """
    found = []
    for protocol in _PROTOCOLS:
        means = [fmean(some) for (other, _), some in values.items() if other == protocol]
        if means:
            found.append(
                Listed(
                    protocol=protocol,
                    num_allocations=len(means),
                    mean=fmean(means),
                    sd=stdev(means) if len(means) > 1 else None,
                    low=min(means),
                    high=max(means),
                )
            )
    return tuple(found)


def listed_of(scores: Sequence[Score], *, metric: str) -> dict[str, tuple[Listed, ...]]:
    """By split what one trial measured at its list of allocations."""
    mine = [one for one in scores if one.is_listed and metric in one.metrics]
    return {
        split: listed(
            {
                (one.protocol, one.allocation): [one.metric(metric)]
                for one in mine
                if one.split == split
            }
        )
        for split in dict.fromkeys(one.split for one in mine)
    }


def listed_notes(
    rows: Sequence[ResultRow], sweep: SweepRow, *, stage: str, split: str
) -> Iterable[str]:
    """A footnote per confirmed configuration; of a search, where an arm has but one."""
    groups: dict[tuple[str, int | None], list[ResultRow]] = {}
    for row in rows:
        is_shown = row.stage == stage and row.split == split and row.status == "finished"
        if is_shown and row.value is not None:
            groups.setdefault((row.arm or "start", row.configuration_id), []).append(row)
    arms = [arm for arm, _ in groups]
    for (arm, configuration), mine in groups.items():
        if arms.count(arm) > 1 and stage != "confirm":
            continue
        values: dict[tuple[str, str], list[float]] = {}
        for row in mine:
            values.setdefault((row.protocol, row.allocation), []).append(row.value or 0.0)
        found = listed(values)
        name = f"{arm}, configuration {configuration}" if arms.count(arm) > 1 else arm
        told = "; ".join(one.told(sweep.metric) for one in found)
        yield (
            f"{name} at {found[0].num_allocations} random allocations on {split}, mean and sd "
            f"over allocations (n = {len({row.seed for row in mine})} seeds): {told}."
        )
