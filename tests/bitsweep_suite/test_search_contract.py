"""What every search keeps, each sampler a parameter; and what single samplers add."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import pytest

from bitsweep import sweep
from bitsweep.measurement import Goal
from bitsweep.search.base import Search, Told, Verdict, make_search
from bitsweep.search.optuna_search import LARGEST_STUDY, OptunaSearch
from bitsweep.space import Choice, Range, Space, Value
from bitsweep.sweep import Sampler, Tpe

SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
PROPOSERS: tuple[Sampler, ...] = tuple(one for one in SAMPLERS if one != "grid")
# CMA-ES walks in numbers: a choice or a condition is refused before (tests of specfile mistakes).
CONDITIONAL: tuple[Sampler, ...] = tuple(one for one in SAMPLERS if one != "cmaes")
CHOICES: Space = {
    "sharing": Choice(values=("off", "bitwise")),
    "nest": Choice(values=(True, False), when={"sharing": ("bitwise",)}),
    "rate": Choice(values=(0.5, 1, "full")),
}
GRID_SIZE = 9
KNOWN: Mapping[str, Value] = {"sharing": "off", "rate": 0.5}
NUMBERS: Space = {
    "keep": Range(low=0.5, high=0.99),
    "rate": Range(low=1e-4, high=1e-1, is_log=True),
    "count": Range(low=1, high=8, is_integer=True),
}
MIXED: Space = {
    "sharing": Choice(values=("off", "bitwise")),
    "keep": Range(low=0.5, high=0.99, when={"sharing": ("bitwise",)}),
    "rate": Range(low=1e-4, high=1e-1, is_log=True),
    "count": Range(low=1, high=8, is_integer=True),
}


def search(
    sampler: Sampler,
    space: Space | None = None,
    *,
    goals: Sequence[Goal] = ("maximize",),
    seed: int = 0,
    fixed: Mapping[str, Value] | None = None,
    first: Sequence[Mapping[str, Value]] = (),
    prior: Sequence[Told] = (),
    **options: Any,  # the fields of a sweep's search
) -> Search:
    """A search over the space; 24 configurations make populations of 6."""
    wanted = sweep.Search(**{"configurations_per_arm": 24, **options}, sampler=sampler, seed=seed)
    space = space or (NUMBERS if sampler == "cmaes" else CHOICES)
    return make_search(wanted, space, goals=goals, fixed=fixed or {}, first=first, prior=prior)


def mixed(sampler: Sampler) -> Space:
    """The richest space that the sampler takes."""
    if sampler == "grid":
        return CHOICES
    return NUMBERS if sampler == "cmaes" else MIXED


def told(
    parameters: Mapping[str, Value],
    *values: float,
    verdict: Verdict = "complete",
    excess: float | None = None,
) -> Told:
    """What came of a proposal."""
    broken = {} if excess is None else {"size_bits": excess}
    return Told(parameters=parameters, verdict=verdict, values=values, excess=broken)


def proposals(one: Search, count: int) -> list[dict[str, Value] | None]:
    """Ask and tell so often; the value is the number of the proposal."""
    found = []
    for number in range(count):
        proposal = one.ask()
        found.append(proposal)
        if proposal is not None:
            one.tell(told(proposal, float(number)))
    return found


@pytest.mark.parametrize("sampler", CONDITIONAL)
def test_a_parameter_is_proposed_exactly_where_its_condition_holds(sampler: Sampler) -> None:
    for proposal in proposals(search(sampler), GRID_SIZE):
        assert proposal is not None
        assert ("nest" in proposal) == (proposal["sharing"] == "bitwise")


@pytest.mark.parametrize("sampler", CONDITIONAL)
@pytest.mark.parametrize("sharing", ["off", "bitwise"])
def test_a_condition_may_name_a_fixed_parameter(sampler: Sampler, sharing: str) -> None:
    space = {name: one for name, one in CHOICES.items() if name != "sharing"}
    proposal = search(sampler, space, fixed={"sharing": sharing}).ask()

    assert proposal is not None
    assert set(proposal) == ({"nest", "rate"} if sharing == "bitwise" else {"rate"})


@pytest.mark.parametrize("sampler", CONDITIONAL)
def test_every_value_comes_from_the_space(sampler: Sampler) -> None:
    for proposal in proposals(search(sampler), GRID_SIZE):
        assert proposal is not None
        for name, value in proposal.items():
            dimension = CHOICES[name]
            assert isinstance(dimension, Choice)
            assert any(value is one or value == one for one in dimension.values)


@pytest.mark.parametrize("sampler", PROPOSERS)
def test_numbers_lie_in_their_ranges_and_have_their_types(sampler: Sampler) -> None:
    for proposal in proposals(search(sampler, mixed(sampler)), 20):
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
    first, second = (search(sampler, mixed(sampler), seed=seed) for seed in (3, 4))

    assert proposals(first, 3) != proposals(second, 3)


@pytest.mark.parametrize("sampler", PROPOSERS)
def test_the_largest_seed_of_a_sweep_file_is_taken(sampler: Sampler) -> None:
    assert search(sampler, seed=2**31 - 1).ask() is not None


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    ("verdict", "values"), [("pruned", (0.5,)), ("pruned", ()), ("failed", ()), ("refused", ())]
)
@pytest.mark.parametrize("is_recalled", [True, False])
def test_what_did_not_finish_is_told_without_error(
    sampler: Sampler, verdict: Verdict, values: tuple[float, ...], is_recalled: bool
) -> None:
    one, before = search(sampler), search(sampler)
    for _ in range(6):
        proposal = before.ask() if is_recalled else one.ask()
        assert proposal is not None
        if is_recalled:
            one.recall(proposal)
        one.tell(told(proposal, *values, verdict=verdict))

    assert one.ask() is not None


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_results_may_come_in_any_order(sampler: Sampler) -> None:
    one = search(sampler)
    asked = [one.ask() for _ in range(5)]
    for number, proposal in enumerate(reversed(asked)):
        assert proposal is not None
        one.tell(told(proposal, float(number)))

    assert one.ask() is not None


def score(proposal: Mapping[str, Value], number: int) -> Told:
    """A result of every kind in turn: most complete, some pruned, failed or refused."""
    if number % 7 == 3:
        return told(proposal, float(number % 5), verdict="pruned")
    if number % 11 == 5:
        return told(proposal, verdict="failed")
    if number % 13 == 6:
        return told(proposal, verdict="refused", excess=2.0)
    return told(proposal, float((number * 7) % 10), excess=-1.0)


def lived(sampler: Sampler, count: int, *, open_: int = 0) -> tuple[Search, list[Any]]:
    """A search that was asked so often, and its proposals; the last ones have no result yet."""
    one = search(sampler, mixed(sampler), seed=5)
    asked: list[Any] = []
    for number in range(count):
        asked.append(one.ask())
        if number < count - open_:
            one.tell(score(asked[-1], number))
    return one, asked


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("count", "open_"), [(1, 0), (6, 0), (17, 0), (30, 0), (31, 3)])
def test_a_rebuilt_search_goes_on_as_if_never_stopped(
    sampler: Sampler, count: int, open_: int
) -> None:
    # A grid is small, and a Gaussian process is fitted at each proposal.
    count = min(count, {"grid": GRID_SIZE - 2, "gp": 12}.get(sampler, count))
    first, asked = lived(sampler, count, open_=open_)
    rebuilt = search(sampler, mixed(sampler), seed=5)
    for number, proposal in enumerate(asked):
        is_open = number >= count - open_
        rebuilt.recall(proposal, is_open=is_open)
        if not is_open:
            rebuilt.tell(score(proposal, number))

    assert [rebuilt.ask(), rebuilt.ask()] == [first.ask(), first.ask()]


def test_a_long_search_of_tpe_goes_on_in_a_smaller_study_and_is_rebuilt_alike() -> None:
    count = LARGEST_STUDY + 10
    first, asked = lived("random", count)
    one, other = search("tpe", MIXED, seed=5), search("tpe", MIXED, seed=5)
    for number, proposal in enumerate(asked):
        for each in (one, other):
            each.recall(proposal, is_open=number >= count - 2)
            if number < count - 2:
                each.tell(score(proposal, number))
    for proposal in asked[-2:]:  # open while the study was replaced
        one.tell(told(proposal, 5.0))
        other.tell(told(proposal, 5.0))

    assert isinstance(one, OptunaSearch) and one.size < LARGEST_STUDY
    assert one.ask() == other.ask() != first.ask()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_given_points_come_first_and_are_learned_from(sampler: Sampler) -> None:
    points = [one for one in proposals(search(sampler, seed=9), 6) if one][4:]
    asked = proposals(search(sampler, first=points), 3)
    rebuilt = search(sampler, first=points)
    for number, proposal in enumerate(points):
        rebuilt.recall(proposal)
        rebuilt.tell(told(proposal, float(number)))

    assert asked[:2] == points and rebuilt.ask() == asked[2]


@pytest.mark.parametrize("sampler", [one for one in CONDITIONAL if one != "grid"])
def test_a_sampler_over_a_few_points_never_ends(sampler: Sampler) -> None:
    one = search(sampler, {"rate": Choice(values=(1,))})

    assert proposals(one, 4) == [{"rate": 1}] * 4


SEVERAL: tuple[Sampler, ...] = ("random", "tpe", "gp", "nsga2", "nsga3", "qmc")


@pytest.mark.parametrize("sampler", SEVERAL)
def test_several_objectives_are_told_together(sampler: Sampler) -> None:
    one = search(sampler, MIXED, goals=("maximize", "minimize"))
    for number in range(12):
        proposal = one.ask()
        assert proposal is not None
        if number % 4 == 3:
            one.tell(told(proposal, verdict="pruned"))
        else:
            one.tell(told(proposal, float(number), float(proposal["count"]), excess=-1.0))

    assert one.ask() is not None


def test_a_completed_configuration_has_a_value() -> None:
    with pytest.raises(ValueError, match="has a value"):
        told({})


# The grid.


def test_a_grid_has_every_combination_once_and_then_nothing() -> None:
    found = proposals(search("grid"), GRID_SIZE + 2)

    assert found[GRID_SIZE:] == [None, None]
    assert len({str(one) for one in found[:GRID_SIZE]}) == GRID_SIZE


def test_a_grid_moves_the_last_dimension_first() -> None:
    found = proposals(search("grid"), 4)

    assert [one["rate"] for one in found if one] == [0.5, 1, "full", 0.5]


def test_a_grid_does_not_repeat_what_it_knows() -> None:
    one = search("grid")
    every = [proposal for proposal in proposals(search("grid"), GRID_SIZE) if proposal]
    for proposal in every[:-1]:
        one.recall(proposal)

    assert [one.ask(), one.ask()] == [every[-1], None]


def test_a_grid_does_not_propose_a_point_twice_while_it_runs() -> None:
    one = search("grid")
    asked = [one.ask() for _ in range(GRID_SIZE + 1)]

    assert asked[-1] is None and len({str(point) for point in asked}) == GRID_SIZE + 1


def test_a_grid_refuses_a_range() -> None:
    with pytest.raises(ValueError, match="keep: a grid needs choices"):
        search("grid", MIXED).ask()


# What learns.

LINE: Space = {"x": Range(low=0.0, high=1.0), "y": Range(low=0.0, high=1.0)}
LEARNING: tuple[Sampler, ...] = ("tpe", "gp", "cmaes", "nsga2", "nsga3")


def distance(proposal: Mapping[str, Value]) -> float:
    """How far from the optimum of the toy objective, at (0.8, 0.2)."""
    return abs(float(proposal["x"]) - 0.8) + abs(float(proposal["y"]) - 0.2)


def mean_distance(sampler: Sampler, seed: int, *, goal: Goal, count: int) -> float:
    """Of the last ten proposals."""
    one = search(sampler, LINE, seed=seed, goals=(goal,))
    distances = []
    for _ in range(count):
        proposal = one.ask()
        assert proposal is not None
        value = distance(proposal) if goal == "minimize" else -distance(proposal)
        one.tell(told(proposal, value))
        distances.append(distance(proposal))
    return sum(distances[-10:]) / 10


@pytest.mark.parametrize("sampler", LEARNING)
@pytest.mark.parametrize("goal", ["maximize", "minimize"])
def test_what_learns_moves_towards_the_optimum_and_random_does_not(
    sampler: Sampler, goal: Goal
) -> None:
    seeds, count = range(2 if sampler == "gp" else 4), 24 if sampler == "gp" else 48
    learned = [mean_distance(sampler, seed, goal=goal, count=count) for seed in seeds]
    by_chance = [mean_distance("random", seed, goal=goal, count=count) for seed in seeds]

    assert sum(learned) < 0.65 * sum(by_chance)


def test_a_quasi_random_sequence_covers_the_square_evenly() -> None:
    asked = [one for one in proposals(search("qmc", LINE), 16) if one]
    cells = {(int(4 * float(one["x"])), int(4 * float(one["y"]))) for one in asked}

    assert len(cells) == 16


def near(one: Search) -> float:
    """Mean distance of five proposals."""
    found = [one.ask() for _ in range(5)]
    return sum(distance(proposal) for proposal in found if proposal) / 5


def history(good: tuple[float, float], verdict: Verdict = "complete") -> list[Told]:
    """Sixteen points of a lattice, the better the nearer to `good`, and four beside it."""
    lattice = [(x / 4 + 0.1, y / 4 + 0.1) for x in range(4) for y in range(4)]
    points = [*lattice, *((good[0] + d, good[1] - d) for d in (-0.04, -0.02, 0.0, 0.02))]
    values = [-abs(x - good[0]) - abs(y - good[1]) for x, y in points]
    return [
        told({"x": x, "y": y}, value, verdict=verdict)
        for (x, y), value in zip(points, values, strict=True)
    ]


def recalled(one: Search, known: Sequence[Told]) -> Search:
    """The search with a past."""
    for each in known:
        one.recall(each.parameters)
        one.tell(each)
    return one


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_an_earlier_life_is_learned_from(sampler: Sampler) -> None:
    towards = recalled(search(sampler, LINE), history((0.8, 0.2)))
    away = recalled(search(sampler, LINE), history((0.2, 0.8)))

    assert near(towards) < 0.5 * near(away)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes"])
def test_a_warm_start_is_learned_from(sampler: Sampler) -> None:
    towards = search(sampler, LINE, prior=history((0.8, 0.2)))
    away = search(sampler, LINE, prior=history((0.2, 0.8)))
    for one in (towards, away):  # CMA-ES draws its first proposal at random
        proposals(one, 1)

    assert near(towards) < 0.6 * near(away)


def test_tpe_learns_from_what_was_pruned() -> None:
    towards = recalled(search("tpe", LINE), history((0.8, 0.2), "pruned"))
    away = recalled(search("tpe", LINE), history((0.2, 0.8), "pruned"))

    assert near(towards) < near(away)


def test_tpe_learns_which_half_the_constraint_refuses() -> None:
    one = search("tpe", LINE)
    refused = 0
    for number in range(60):
        proposal = one.ask()
        assert proposal is not None
        excess = float(proposal["x"]) - 0.5
        if excess > 0:
            refused += number >= 30
            one.tell(told(proposal, verdict="refused", excess=excess))
        else:
            one.tell(told(proposal, float(proposal["x"]), excess=excess))

    assert refused < 10


@pytest.mark.parametrize("options", [Tpe(grouped=False), Tpe(multivariate=False, grouped=False)])
def test_the_options_of_tpe_change_what_it_proposes(options: Tpe) -> None:
    # One conditional dimension has the same model alone as in a group of its own.
    space = {**MIXED, "more": Range(low=0.0, high=1.0, when={"sharing": ("bitwise",)})}
    asked = []
    for one in (search("tpe", space, tpe=options), search("tpe", space)):
        for _ in range(30):
            proposal = one.ask()
            assert proposal is not None
            asked.append(proposal)
            one.tell(told(proposal, float(proposal["sharing"] == "bitwise")))

    assert asked[:4] == asked[30:34] and asked[:30] != asked[30:]


@pytest.mark.parametrize("first", [(), ({"sharing": "off", "rate": 0.5},)])
@pytest.mark.parametrize("sampler", CONDITIONAL)
def test_an_ask_that_is_retracted_leaves_its_place_to_another(
    sampler: Sampler, first: Sequence[Mapping[str, Value]]
) -> None:
    forestalled, plain = (search(sampler, CHOICES, first=first) for _ in range(2))
    mine = forestalled.ask()
    assert mine is not None
    forestalled.retract(mine)
    others = plain.ask()
    assert others is not None
    forestalled.recall(others, is_open=True)

    if sampler == "qmc":  # its sequence goes on from what was drawn
        assert forestalled.ask() is not None
        return
    assert forestalled.ask() == plain.ask()
