"""Fronts of cost against accuracy, their hypervolume and the area under them: pure arithmetic.

Choose points on validation and report the chosen ones on test: a front of test results flatters.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2
from typing import Literal

Rule = Literal["staircase", "trapezoid"]
Scale = Literal["log2", "linear"]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Point:
    """A cost (less is better) with an accuracy (more is better)."""

    cost: float
    accuracy: float


def dominates(left: Point, right: Point) -> bool:
    """True when `left` is nowhere worse and somewhere better."""
    no_worse = left.cost <= right.cost and left.accuracy >= right.accuracy
    return no_worse and left != right


def front(points: Iterable[Point]) -> list[Point]:
    """The points that no other dominates, by rising cost; equal points stand once.

    >>> [one.cost for one in front([Point(cost=2, accuracy=1), Point(cost=1, accuracy=1)])]
    [1]
    """
    best: list[Point] = []
    for point in sorted(set(points), key=lambda one: (one.cost, -one.accuracy)):
        if not best or point.accuracy > best[-1].accuracy:
            best.append(point)
    return best


def hypervolume(points: Iterable[Point], *, cost_limit: float, accuracy_floor: float) -> float:
    """The area the front dominates inside the box of the reference point.

    sum_i (C_{i+1} - C_i) (A_i - A_min), C_{n+1} = C_max; points outside are left out, not moved.
    Source: metrics.md section 5.
    """
    inside = [one for one in points if one.cost <= cost_limit and one.accuracy >= accuracy_floor]
    return staircase_volume(front(inside), cost_limit=cost_limit, accuracy_floor=accuracy_floor)


def staircase_volume(
    chosen: Sequence[Point], *, cost_limit: float, accuracy_floor: float
) -> float:
    """The area under points that were chosen elsewhere, by rising cost, inside the same box.

    From its own cost to the next one each point counts with what it reads, also where a cheaper
    one reads more: nothing is chosen again.

    >>> points = [Point(cost=0.5, accuracy=90.0), Point(cost=0.75, accuracy=80.0)]
    >>> staircase_volume(points, cost_limit=1.0, accuracy_floor=0.0)
    42.5
    """
    edges = [*(one.cost for one in chosen), cost_limit]
    return sum(
        (right - left) * (one.accuracy - accuracy_floor)
        for one, (left, right) in zip(chosen, pairwise(edges), strict=True)
    )


def staircase_mean(
    chosen: Sequence[Point], *, low: float, high: float, scale: Scale = "log2"
) -> float:
    """Mean over the costs [low, high] of points that were chosen elsewhere, by rising cost.

    At each cost stands what the dearest point within it reads, also where a cheaper one reads
    more. ValueError where the points do not cover the costs.

    >>> points = [Point(cost=1, accuracy=90.0), Point(cost=2, accuracy=80.0)]
    >>> staircase_mean(points, low=1, high=4)
    85.0
    """
    if not chosen or low >= high or chosen[0].cost > low:
        raise ValueError(f"the points do not cover the costs from {low:g} to {high:g}")
    if scale == "log2" and low <= 0:
        raise ValueError(f"a logarithmic axis needs positive costs, got {low:g}")
    edges = [low, *(one.cost for one in chosen if low < one.cost < high), high]
    area = sum(
        (_along(right, scale) - _along(left, scale))
        * [one.accuracy for one in chosen if one.cost <= left][-1]
        for left, right in pairwise(edges)
    )
    return area / (_along(high, scale) - _along(low, scale))


def normalised_area(
    points: Sequence[Point],
    *,
    low: float,
    high: float,
    rule: Rule = "staircase",
    scale: Scale = "log2",
) -> float:
    """Mean accuracy over the costs [low, high]; raise ValueError where the points do not cover it.

    staircase: the best accuracy that costs at most c; trapezoid: between neighbours of the front.
    Source: metrics.md section 6.
    """
    chosen = front(points)
    if not chosen or low >= high or chosen[0].cost > low:
        raise ValueError(f"the points do not cover the costs from {low:g} to {high:g}")
    if rule == "trapezoid" and chosen[-1].cost < high:
        raise ValueError(f"no point costs {high:g} or more: nothing is extrapolated")
    if scale == "log2" and low <= 0:
        raise ValueError(f"a logarithmic axis needs positive costs, got {low:g}")
    inner = [one.cost for one in chosen if low < one.cost < high]
    edges = [low, *inner, high]
    area = sum(
        (_along(right, scale) - _along(left, scale)) * _height(chosen, left, right, rule, scale)
        for left, right in pairwise(edges)
    )
    return area / (_along(high, scale) - _along(low, scale))


def _along(cost: float, scale: Scale) -> float:
    return log2(cost) if scale == "log2" else cost


def _height(chosen: Sequence[Point], left: float, right: float, rule: Rule, scale: Scale) -> float:
    """The mean accuracy between two edges with no point strictly between them."""
    if rule == "staircase":
        return max(one.accuracy for one in chosen if one.cost <= left)
    return (_between(chosen, left, scale) + _between(chosen, right, scale)) / 2


def _between(chosen: Sequence[Point], cost: float, scale: Scale) -> float:
    """Accuracy at a cost by interpolation along the axis."""
    for before, after in pairwise(chosen):
        if before.cost <= cost <= after.cost:
            width = _along(after.cost, scale) - _along(before.cost, scale)
            part = (_along(cost, scale) - _along(before.cost, scale)) / width
            return before.accuracy + part * (after.accuracy - before.accuracy)
    return chosen[0].accuracy
