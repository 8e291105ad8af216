"""Who wins where several objectives disagree: pure arithmetic on values and goals."""

from collections.abc import Sequence
from math import inf

from bitsweep.measurement import Goal

Values = tuple[float, ...]


def winners(points: Sequence[Values], goals: Sequence[Goal], *, at_most: int) -> list[int]:
    """The indices of at most so many points that no other dominates, in their order.

    Of equal points the earliest stands for all. Where there are too many, the one in the densest
    place goes, again and again (crowding distance, Deb et al. 2002, section III.B): the ends of
    the front stay longest. Of two that are equally crowded the later one goes. With one objective
    these are the best points, the best first.

    >>> winners([(1, 1), (3, 3), (2, 2.5), (2, 4)], ["maximize", "minimize"], at_most=3)
    [0, 1, 2]
    """
    signed = [_minimised(point, goals) for point in points]
    if len(goals) == 1:
        return sorted(range(len(points)), key=lambda index: (signed[index], index))[:at_most]
    front = [
        index
        for index, one in enumerate(signed)
        if not any(_dominates(other, one) for other in signed) and one not in signed[:index]
    ]
    while len(front) > at_most:
        crowding = _crowding([signed[index] for index in front])
        front.pop(min(range(len(front)), key=lambda place: (crowding[place], -place)))
    return front


def _minimised(point: Values, goals: Sequence[Goal]) -> Values:
    signs = [1 if goal == "minimize" else -1 for goal in goals]
    return tuple(sign * value for sign, value in zip(signs, point, strict=True))


def _dominates(left: Values, right: Values) -> bool:
    """Nowhere worse and somewhere better; all values are minimised."""
    return left != right and all(a <= b for a, b in zip(left, right, strict=True))


def _crowding(front: Sequence[Values]) -> list[float]:
    """The sum over objectives of the gap between both neighbours, as a part of the range."""
    distance = [0.0] * len(front)
    for values in zip(*front, strict=True):
        order = sorted(range(len(front)), key=lambda place: (values[place], place))
        span = values[order[-1]] - values[order[0]]
        distance[order[0]] = distance[order[-1]] = inf
        for before, place, after in zip(order, order[1:], order[2:], strict=False):
            if span > 0:
                distance[place] += (values[after] - values[before]) / span
    return distance
