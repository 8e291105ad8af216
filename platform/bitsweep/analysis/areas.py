"""Accuracy over all bits of an arm in one number."""

from collections.abc import Iterable, Mapping

from bitsweep.analysis.cell import FULL_PRECISION, Cell
from bitsweep.analysis.pareto import Point, hypervolume, normalised_area
from bitsweep.bits import LEARNED


def area_notes(cells: Mapping[tuple[str, str], Cell]) -> Iterable[str]:
    """Accuracy over all bits in one number an arm, where two arms have two costs or more.

    Both describe what was measured; nothing is chosen by them. Source: metrics.md, sections 5, 6.
    """
    points: dict[str, list[Point]] = {}
    for cell in cells.values():
        if cell.allocation not in (FULL_PRECISION, LEARNED):
            points.setdefault(cell.arm, []).append(Point(cost=cell.bitops, accuracy=cell.mean))
    points = {arm: some for arm, some in points.items() if len({p.cost for p in some}) > 1}
    if not points:
        return
    low = max(min(one.cost for one in some) for some in points.values())
    high = max(one.cost for some in points.values() for one in some)
    if low < high:
        areas = {arm: normalised_area(some, low=low, high=high) for arm, some in points.items()}
        shown = ", ".join(f"{arm} {area:.2f}" for arm, area in areas.items())
        yield (
            f"Normalised area under accuracy over log2 BitOps from {low:.4g} to {high:.4g} "
            f"(staircase, points of accuracy): {shown}."
        )
    volumes = {
        arm: hypervolume(
            [Point(cost=one.cost / high, accuracy=one.accuracy) for one in some],
            cost_limit=1.0,
            accuracy_floor=0.0,
        )
        for arm, some in points.items()
    }
    shown = ", ".join(f"{arm} {volume:.2f}" for arm, volume in volumes.items())
    yield f"Hypervolume (reference: {high:.4g} BitOps as 1, and 0 %): {shown}."
