"""Fronts, hypervolume and area: the goldens of metrics.md sections 5 and 6, and their laws."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsweep.analysis.pareto import (
    Point,
    Rule,
    Scale,
    dominates,
    front,
    hypervolume,
    normalised_area,
)

FIRST = [
    Point(cost=0.2, accuracy=90.0),
    Point(cost=0.4, accuracy=91.5),
    Point(cost=0.7, accuracy=92.0),
]
DOMINATED = Point(cost=0.5, accuracy=91.0)
POINTS = st.lists(
    st.builds(
        Point,
        cost=st.integers(0, 64).map(lambda one: one / 64),
        accuracy=st.integers(80 * 16, 100 * 16).map(lambda one: one / 16),
    ),
    max_size=12,
)


def volume(points: list[Point], *, shift: float = 0.0) -> float:
    """The hypervolume with the reference of the golden, shifted."""
    moved = [Point(cost=one.cost, accuracy=one.accuracy + shift) for one in points]
    return hypervolume(moved, cost_limit=1.0, accuracy_floor=88.0 + shift)


def test_the_front_leaves_out_what_another_point_dominates() -> None:
    assert front([*FIRST, DOMINATED]) == FIRST


def test_the_hypervolume_is_that_of_the_worked_example() -> None:
    assert volume([*FIRST, DOMINATED]) == pytest.approx(2.65, abs=1e-12)


@pytest.mark.parametrize(
    ("rule", "scale", "expected"),
    [
        ("trapezoid", "linear", 91.35),
        ("trapezoid", "log2", 91.196705),
        ("staircase", "linear", 90.9),
    ],
)
def test_the_area_is_that_of_the_worked_example(rule: Rule, scale: Scale, expected: float) -> None:
    area = normalised_area(FIRST, low=0.2, high=0.7, rule=rule, scale=scale)

    assert area == pytest.approx(expected, abs=5e-7)


@given(POINTS)
def test_no_point_of_a_front_dominates_another_and_each_other_point_is_dominated(
    points: list[Point],
) -> None:
    chosen = front(points)

    assert not any(dominates(one, other) for one in chosen for other in chosen)
    assert all(point in chosen or any(dominates(one, point) for one in chosen) for point in points)


@given(POINTS, st.randoms(use_true_random=False))
def test_the_hypervolume_does_not_depend_on_the_order(points: list[Point], random: object) -> None:
    shuffled = list(points)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a random.Random

    assert volume(shuffled) == volume(points)


@given(POINTS, POINTS)
def test_more_points_never_shrink_the_hypervolume(points: list[Point], more: list[Point]) -> None:
    assert volume(points + more) >= volume(points) - 1e-9


@given(POINTS)
def test_dominated_points_change_nothing(points: list[Point]) -> None:
    assert volume(front(points)) == volume(points)


@given(POINTS, st.integers(-16, 16))
def test_a_shift_of_accuracies_and_floor_changes_nothing(points: list[Point], shift: int) -> None:
    assert volume(points, shift=float(shift)) == pytest.approx(volume(points), abs=1e-9)


def test_points_outside_of_the_box_are_left_out() -> None:
    outside = [Point(cost=1.5, accuracy=99.0), Point(cost=0.1, accuracy=80.0)]

    assert volume([*FIRST, *outside]) == volume(FIRST)


@pytest.mark.parametrize(
    ("low", "high", "rule"),
    [(0.1, 0.7, "staircase"), (0.2, 0.8, "trapezoid"), (0.5, 0.5, "staircase")],
)
def test_nothing_is_extrapolated(low: float, high: float, rule: Rule) -> None:
    with pytest.raises(ValueError, match=r"cover|extrapolated"):
        normalised_area(FIRST, low=low, high=high, rule=rule, scale="linear")


def test_a_staircase_goes_on_where_nothing_better_is_bought() -> None:
    area = normalised_area(FIRST, low=0.7, high=1.4, scale="log2")

    assert area == pytest.approx(92.0)
