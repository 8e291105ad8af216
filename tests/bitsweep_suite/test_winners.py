"""Who is confirmed where several objectives disagree."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsweep.measurement import Goal
from bitsweep.search.pareto import winners

GOALS: tuple[Goal, Goal] = ("maximize", "minimize")
# Accuracy is to be large, size small; the fourth is beaten by the second.
POINTS = [(60.0, 1.0), (70.0, 2.0), (80.0, 10.0), (69.0, 3.0), (71.0, 2.5), (79.0, 9.0)]
PLACE = st.tuples(st.integers(0, 5).map(float), st.integers(0, 5).map(float))


def test_what_another_dominates_never_wins() -> None:
    assert winners(POINTS, GOALS, at_most=9) == [0, 1, 2, 4, 5]


def test_the_ends_of_the_front_stay_longest() -> None:
    assert winners(POINTS, GOALS, at_most=2) == [0, 2]


def test_the_densest_place_is_thinned_first() -> None:
    # (70, 2) and (71, 2.5) are close; the gap around the second is the smaller one:
    # (9/20 + 7/9) = 1.23 against (11/20 + 1.5/9) = 0.72 for the first.
    assert winners(POINTS, GOALS, at_most=4) == [0, 2, 4, 5]


def test_one_objective_ranks_and_the_earliest_of_equals_is_first() -> None:
    values = [(1.0,), (3.0,), (3.0,), (2.0,)]

    assert winners(values, ["maximize"], at_most=3) == [1, 2, 3]
    assert winners(values, ["minimize"], at_most=2) == [0, 3]


@given(st.lists(PLACE, max_size=12), st.integers(1, 6))
def test_winners_are_never_dominated_and_never_too_many(
    points: list[tuple[float, float]], at_most: int
) -> None:
    found = winners(points, GOALS, at_most=at_most)
    beaten = [
        index
        for index in found
        if any(
            p[0] >= points[index][0] and p[1] <= points[index][1] and p != points[index]
            for p in points
        )
    ]

    assert beaten == [] and len(found) <= at_most and bool(found) == bool(points)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_same_points_win_in_any_order(order: tuple[int, ...]) -> None:
    points = [(1.0, 1.0), (2.0, 3.0), (3.0, 9.0)]
    shuffled = [points[index] for index in order]
    chosen = {shuffled[index] for index in winners(shuffled, GOALS, at_most=2)}

    assert chosen == {(1.0, 1.0), (3.0, 9.0)}
