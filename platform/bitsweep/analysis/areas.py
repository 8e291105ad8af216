"""Accuracy over costs in one number an arm: of its own points, chosen on validation.

A maximum over many noisy test results would flatter the arm that has most of them, and rivals of
a policy are not the arm's. Source: metrics.md, sections 5 and 6.
"""

from collections.abc import Iterable, Mapping, Sequence

from bitsweep.analysis.cell import FULL_PRECISION, Cell
from bitsweep.analysis.pareto import Point, front, staircase_mean, staircase_volume
from bitsweep.bits import LEARNED

Cells = Mapping[tuple[str, str], Cell]


def chosen_cells(cells: Cells, validation: Cells, *, sign: int = 1) -> list[Cell]:
    """The cells that are on the front on validation, as they came out on what is reported.

    By rising cost there. sign: -1 where less is better. Of cells that are equal on validation one
    stands for all.
    """
    places: dict[Point, tuple[str, str]] = {}
    for key in sorted(validation):
        if key in cells:
            one = validation[key]
            places.setdefault(Point(cost=one.bitops, accuracy=sign * one.mean), key)
    chosen = [cells[places[point]] for point in front(places)]
    return sorted(chosen, key=lambda cell: cell.bitops)


def own_cells(cells: Cells) -> dict[tuple[str, str], Cell]:
    """What arms answer for: without their policies' rivals and without full precision."""
    return {key: cell for key, cell in cells.items() if cell.is_own and key[1] != FULL_PRECISION}


def area_notes(cells: Cells, validation: Cells) -> Iterable[str]:
    """Accuracy over all bits in one number an arm, where two arms have two costs or more.

    Both describe what was measured; nothing is chosen by them.
    """
    own = {key: cell for key, cell in own_cells(cells).items() if key[1] != LEARNED}
    known = {arm: [one for one in own.values() if one.arm == arm] for arm, _ in own}
    known = {arm: some for arm, some in known.items() if len({one.bitops for one in some}) > 1}
    chosen = {
        arm: [Point(cost=one.bitops, accuracy=one.mean) for one in found]
        for arm, some in known.items()
        if (found := chosen_cells({(arm, one.allocation): one for one in some}, validation))
    }
    if not chosen:
        return
    counts = {arm: f"{len(points)} of {len(known[arm])}" for arm, points in chosen.items()}
    low = max(min(one.cost for one in points) for points in chosen.values())
    high = max(one.bitops for some in known.values() for one in some)
    if low < high:
        areas = {arm: staircase_mean(some, low=low, high=high) for arm, some in chosen.items()}
        yield (
            f"Normalised area under accuracy over log2 BitOps from {low:.4g} to {high:.4g} "
            f"(staircase, points of accuracy): {_told(areas)}."
        )
    volumes = {arm: _volume(points, high) for arm, points in chosen.items()}
    yield f"Hypervolume (reference: {high:.4g} BitOps as 1, and 0 %): {_told(volumes)}."
    told = _listed(counts)
    yield f"Both read each arm's own points that validation chose: {told}{_left(cells)}."


def _volume(points: Sequence[Point], high: float) -> float:
    scaled = [Point(cost=one.cost / high, accuracy=one.accuracy) for one in points]
    return staircase_volume(scaled, cost_limit=1.0, accuracy_floor=0.0)


def _told(values: Mapping[str, float]) -> str:
    return _listed({arm: f"{value:.2f}" for arm, value in values.items()})


def _listed(texts: Mapping[str, str]) -> str:
    return ", ".join(f"{arm} {text}" for arm, text in texts.items())


def _left(cells: Cells) -> str:
    is_whole = all(cell.is_own for cell in cells.values())
    return "" if is_whole else "; the rules that stand beside a policy are left out"
