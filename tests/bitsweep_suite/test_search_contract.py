"""What every search keeps, each sampler a parameter; and what TPE adds."""

from collections.abc import Mapping
from typing import get_args

import pytest

from bitsweep.measurement import Goal
from bitsweep.search.base import Search, Told, Verdict, make_search
from bitsweep.space import Choice, Range, Space, Value
from bitsweep.sweep import Sampler

SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
PROPOSERS: tuple[Sampler, ...] = tuple(one for one in SAMPLERS if one != "grid")
CHOICES: Space = {
    "sharing": Choice(values=("off", "bitwise")),
    "nest": Choice(values=(True, False), when={"sharing": ("bitwise",)}),
    "rate": Choice(values=(0.5, 1, "full")),
}
GRID_SIZE = 9
KNOWN: Mapping[str, Value] = {"sharing": "off", "rate": 0.5}
MIXED: Space = {
    "sharing": Choice(values=("off", "bitwise")),
    "keep": Range(low=0.5, high=0.99, when={"sharing": ("bitwise",)}),
    "rate": Range(low=1e-4, high=1e-1, is_log=True),
    "count": Range(low=1, high=8, is_integer=True),
}


def search(
    sampler: Sampler,
    space: Space = CHOICES,
    *,
    goal: Goal = "maximize",
    seed: int = 0,
    known: int = 0,
    fixed: Mapping[str, Value] | None = None,
) -> Search:
    """A search over the space."""
    return make_search(sampler, space, goal=goal, seed=seed, known=known, fixed=fixed or {})


def told(
    parameters: Mapping[str, Value], value: float | None = 1.0, verdict: Verdict = "complete"
) -> Told:
    """What came of a proposal."""
    return Told(parameters=parameters, verdict=verdict, value=value)


def proposals(one: Search, count: int) -> list[dict[str, Value] | None]:
    """Ask and tell so often; the value is the number of the proposal."""
    found = []
    for number in range(count):
        proposal = one.ask()
        found.append(proposal)
        if proposal is not None:
            one.tell(told(proposal, float(number)))
    return found


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_parameter_is_proposed_exactly_where_its_condition_holds(sampler: Sampler) -> None:
    for proposal in proposals(search(sampler), GRID_SIZE):
        assert proposal is not None
        assert ("nest" in proposal) == (proposal["sharing"] == "bitwise")


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("sharing", ["off", "bitwise"])
def test_a_condition_may_name_a_fixed_parameter(sampler: Sampler, sharing: str) -> None:
    space = {name: one for name, one in CHOICES.items() if name != "sharing"}
    proposal = search(sampler, space, fixed={"sharing": sharing}).ask()

    assert proposal is not None
    assert set(proposal) == ({"nest", "rate"} if sharing == "bitwise" else {"rate"})


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_value_comes_from_the_space(sampler: Sampler) -> None:
    for proposal in proposals(search(sampler), GRID_SIZE):
        assert proposal is not None
        for name, value in proposal.items():
            dimension = CHOICES[name]
            assert isinstance(dimension, Choice)
            assert any(value is one or value == one for one in dimension.values)


@pytest.mark.parametrize("sampler", PROPOSERS)
def test_numbers_lie_in_their_ranges_and_have_their_types(sampler: Sampler) -> None:
    for proposal in proposals(search(sampler, MIXED), 20):
        assert proposal is not None
        rate, count = proposal["rate"], proposal["count"]
        assert isinstance(rate, float) and 1e-4 <= rate <= 1e-1
        assert type(count) is int and 1 <= count <= 8


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_equal_seeds_propose_alike(sampler: Sampler) -> None:
    first, second = search(sampler, seed=3), search(sampler, seed=3)

    assert proposals(first, GRID_SIZE) == proposals(second, GRID_SIZE)


@pytest.mark.parametrize("sampler", PROPOSERS)
def test_other_seeds_propose_otherwise(sampler: Sampler) -> None:
    first, second = search(sampler, MIXED, seed=3), search(sampler, MIXED, seed=4)

    assert proposals(first, 3) != proposals(second, 3)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_history_may_be_told_before_anything_is_asked(sampler: Sampler) -> None:
    one = search(sampler, known=2)
    one.tell(told({"sharing": "off", "rate": 1}))
    one.tell(told({"sharing": "bitwise", "nest": True, "rate": "full"}, 2.0))

    assert one.ask() is not None


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    ("verdict", "value"), [("pruned", 0.5), ("pruned", None), ("failed", None)]
)
@pytest.mark.parametrize("is_history", [True, False])
def test_what_did_not_finish_is_told_without_error(
    sampler: Sampler, verdict: Verdict, value: float | None, is_history: bool
) -> None:
    one = search(sampler)
    for _ in range(6):
        proposal = KNOWN if is_history else one.ask()
        assert proposal is not None
        one.tell(told(proposal, value, verdict))

    assert one.ask() is not None


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_results_may_come_in_any_order(sampler: Sampler) -> None:
    one = search(sampler)
    asked = [one.ask() for _ in range(5)]
    for number, proposal in enumerate(reversed(asked)):
        assert proposal is not None
        one.tell(told(proposal, float(number)))

    assert one.ask() is not None


@pytest.mark.parametrize("sampler", PROPOSERS)
def test_a_rebuilt_search_does_not_begin_again(sampler: Sampler) -> None:
    first = search(sampler, MIXED)
    begun = [proposal for proposal in proposals(first, 3) if proposal is not None]
    rebuilt = search(sampler, MIXED, known=3)
    for number, proposal in enumerate(begun):
        rebuilt.tell(told(proposal, float(number)))

    assert rebuilt.ask() not in begun


@pytest.mark.parametrize("sampler", PROPOSERS)
def test_a_sampler_over_a_few_points_never_ends(sampler: Sampler) -> None:
    one = search(sampler, {"rate": Choice(values=(1,))})

    assert proposals(one, 4) == [{"rate": 1}] * 4


def test_a_completed_configuration_has_a_value() -> None:
    with pytest.raises(ValueError, match="has a value"):
        told({}, None)


# The grid.


def test_a_grid_has_every_combination_once_and_then_nothing() -> None:
    found = proposals(search("grid"), GRID_SIZE + 2)

    assert found[GRID_SIZE:] == [None, None]
    assert len({str(one) for one in found[:GRID_SIZE]}) == GRID_SIZE


def test_a_grid_moves_the_last_dimension_first() -> None:
    found = proposals(search("grid"), 4)

    assert [one["rate"] for one in found if one] == [0.5, 1, "full", 0.5]


def test_a_grid_does_not_repeat_what_it_was_told() -> None:
    one = search("grid", known=GRID_SIZE - 1)
    every = [proposal for proposal in proposals(search("grid"), GRID_SIZE) if proposal]
    for proposal in every[:-1]:
        one.tell(told(proposal))

    assert [one.ask(), one.ask()] == [every[-1], None]


def test_a_grid_does_not_propose_a_point_twice_while_it_runs() -> None:
    one = search("grid")
    asked = [one.ask() for _ in range(GRID_SIZE + 1)]

    assert asked[-1] is None and len({str(point) for point in asked}) == GRID_SIZE + 1


def test_a_grid_refuses_a_range() -> None:
    with pytest.raises(ValueError, match="keep: a grid needs choices"):
        search("grid", MIXED).ask()


# TPE.

LINE: Space = {"x": Range(low=0.0, high=1.0), "y": Range(low=0.0, high=1.0)}


def distance(proposal: Mapping[str, Value]) -> float:
    """How far from the optimum of the toy objective, at (0.8, 0.2)."""
    return abs(float(proposal["x"]) - 0.8) + abs(float(proposal["y"]) - 0.2)


def mean_distance(sampler: Sampler, seed: int, *, goal: Goal) -> float:
    """Of the last ten of thirty proposals."""
    one = search(sampler, LINE, seed=seed, goal=goal)
    distances = []
    for _ in range(30):
        proposal = one.ask()
        assert proposal is not None
        value = distance(proposal) if goal == "minimize" else -distance(proposal)
        one.tell(told(proposal, value))
        distances.append(distance(proposal))
    return sum(distances[-10:]) / 10


@pytest.mark.parametrize("goal", ["maximize", "minimize"])
def test_tpe_moves_towards_the_optimum_and_random_does_not(goal: Goal) -> None:
    seeds = range(4)
    by_tpe = [mean_distance("tpe", seed, goal=goal) for seed in seeds]
    by_chance = [mean_distance("random", seed, goal=goal) for seed in seeds]

    assert sum(by_tpe) < 0.65 * sum(by_chance)


def near(one: Search) -> float:
    """Mean distance of five proposals."""
    found = [one.ask() for _ in range(5)]
    return sum(distance(proposal) for proposal in found if proposal) / 5


def history(good: tuple[float, float]) -> list[Told]:
    """Sixteen points of a lattice, the better the nearer to `good`."""
    lattice = [(x / 4 + 0.1, y / 4 + 0.1) for x in range(4) for y in range(4)]
    points = [*lattice, *((good[0] + d, good[1] - d) for d in (-0.04, -0.02, 0.0, 0.02))]
    return [told({"x": x, "y": y}, -abs(x - good[0]) - abs(y - good[1])) for x, y in points]


def test_tpe_uses_the_history_of_an_earlier_process() -> None:
    towards, away = (search("tpe", LINE, known=20) for _ in range(2))
    for one in history((0.8, 0.2)):
        towards.tell(one)
    for one in history((0.2, 0.8)):
        away.tell(one)

    assert near(towards) < 0.5 * near(away)


def test_tpe_learns_from_what_was_pruned() -> None:
    towards, away = (search("tpe", LINE, known=20) for _ in range(2))
    for one in history((0.8, 0.2)):
        towards.tell(told(one.parameters, one.value, "pruned"))
    for one in history((0.2, 0.8)):
        away.tell(told(one.parameters, one.value, "pruned"))

    assert near(towards) < near(away)
