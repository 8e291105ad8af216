"""Areas and fronts are of an arm's own points, chosen on validation and read on test once."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.bitsweep_suite.rules import rules_store
from tests.bitsweep_suite.tables import cell

from bitsweep.analysis.across import across
from bitsweep.analysis.areas import area_notes, chosen_cells, own_cells
from bitsweep.analysis.cell import Cell
from bitsweep.analysis.chart import Curves
from bitsweep.analysis.glance import best_of
from bitsweep.analysis.grid import Source
from bitsweep.analysis.importance import objectives
from bitsweep.analysis.pareto import Point, staircase_mean, staircase_volume
from bitsweep.analysis.table import sweep_table
from bitsweep.figures.draw import sweep_chart
from bitsweep.store.database import open_to_read
from bitsweep.store.history import searched, settings
from bitsweep.store.listing import search_steps
from bitsweep.store.reader import Reader

Key = tuple[str, str]


def cells(**correct: tuple[float, int]) -> dict[Key, Cell]:
    """Cells of the arm `a` by allocation: cost, and right answers of a thousand."""
    return {
        ("a", at): replace(cell("a", at, (right,)), bitops=cost)
        for at, (cost, right) in correct.items()
    }


def test_an_area_reads_what_validation_chose_and_no_better_one() -> None:
    validation = cells(w2a2=(1.0, 700), w3a3=(2.0, 690), w4a4=(4.0, 800))
    test = cells(w2a2=(1.0, 700), w3a3=(2.0, 900), w4a4=(4.0, 800))
    area, volume, told = area_notes(test, validation)

    assert area.endswith(": a 70.00.")  # 90.00 with the point that test alone likes
    assert volume.endswith(": a 52.50.")  # (1 - 1/4) * 70
    assert told.endswith("a 2 of 3.")


def test_a_dear_point_that_test_likes_less_still_counts_where_validation_would_take_it() -> None:
    validation = cells(w2a2=(1.0, 700), w3a3=(2.0, 800), w4a4=(4.0, 810))
    test = cells(w2a2=(1.0, 800), w3a3=(2.0, 700), w4a4=(4.0, 900))
    area, volume, _ = area_notes(test, validation)

    assert area.endswith(": a 75.00.")
    assert volume.endswith(": a 55.00.")  # 1/4 * 80 + 1/2 * 70


def test_rivals_of_a_policy_are_no_part_of_an_area() -> None:
    own = cells(w2a2=(1.0, 700), w4a4=(4.0, 800))
    rival = replace(cell("a", "policy:cascade@0.2", (950,)), bitops=1.0, is_own=False)
    both = {**own, ("a", "policy:cascade@0.2"): rival}
    plain, mixed = list(area_notes(own, own)), list(area_notes(both, both))

    assert mixed[:2] == plain[:2]
    assert mixed[2].endswith("a 2 of 2; the rules that stand beside a policy are left out.")


def test_cells_that_are_equal_on_validation_stand_once() -> None:
    validation = cells(w2a2=(1.0, 700), w3a3=(1.0, 700))

    assert len(chosen_cells(validation, validation)) == 1


def test_where_less_is_better_the_front_falls() -> None:
    errors = cells(w2a2=(1.0, 300), w3a3=(2.0, 400), w4a4=(4.0, 200))

    assert [one.allocation for one in chosen_cells(errors, errors, sign=-1)] == ["w2a2", "w4a4"]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return Reader(open_to_read(str(rules_store(tmp_path_factory.mktemp("areas")))))


def test_the_area_of_an_arm_with_a_policy_is_of_its_own_rows(reader: Reader) -> None:
    made = sweep_table(reader, "toy")
    own = own_cells(made.cells)
    told = next(one for one in made.footnotes if "validation chose" in one)

    assert {at for _, at in own} == {"w2a2", "w3a3", "w4a4", "policy:learned@0.2"}
    assert told.endswith("fixed 3 of 4; the rules that stand beside a policy are left out.")


def test_the_figure_of_accuracy_against_cost_shows_what_an_arm_answers_for(
    reader: Reader,
) -> None:
    chart = sweep_chart(reader, "toy", "pareto")
    panel = chart.panels[0]
    assert isinstance(panel, Curves)
    drawn = {one.name: one.y for one in panel.series}

    assert max(drawn["fixed"]) == 80.0 and len(drawn["fixed"]) == 4
    assert "Without the rules beside a policy (--kind trade)." in chart.note


def test_the_best_of_a_sweep_is_no_rival(reader: Reader) -> None:
    made = sweep_table(reader, "toy")
    best = best_of(made, sweep_table(reader, "toy", split="validation"))

    assert best is not None and best.allocation == "w4a4"


def test_a_policy_and_its_rivals_have_no_learning_curve(reader: Reader) -> None:
    titles = {one.title for one in sweep_chart(reader, "toy", "curves").panels}

    assert "w2a2" in titles and not any(one.startswith("policy:") for one in titles)


def test_the_volume_under_one_point_and_under_none() -> None:
    points = [Point(cost=1.0, accuracy=50.0)]

    assert staircase_volume(points, cost_limit=2.0, accuracy_floor=0.0) == 50.0
    assert staircase_volume([], cost_limit=2.0, accuracy_floor=0.0) == 0.0


@pytest.mark.parametrize(("low", "high"), [(0.5, 2.0), (2.0, 2.0)])
def test_costs_that_are_not_covered_are_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="do not cover"):
        staircase_mean([Point(cost=1.0, accuracy=50.0)], low=low, high=high)


def test_the_compare_page_draws_what_an_arm_answers_for(reader: Reader) -> None:
    made = sweep_table(reader, "toy")
    source = Source(table=made, settings=tuple(settings(reader, reader.sweep("toy").id)))
    (drawn,) = across([source], [("toy", "fixed")]).figure.series

    assert len(drawn.y) == 4 and max(drawn.y) == 80.0


def test_the_search_is_told_without_rivals(tmp_path: Path) -> None:
    store = str(rules_store(tmp_path, stage="search"))
    reader = Reader(open_to_read(store))
    sweep = reader.sweep("toy")
    steps = search_steps(reader, sweep.id, metric=sweep.metric)
    rows = searched(reader, sweep.id, metric=sweep.metric)
    scores = objectives(reader, sweep)["fixed"][1]
    reader.close()

    kept = {"w2a2", "w3a3", "w4a4", "policy:learned@0.2"}
    assert {one.allocation for one in steps} == {one.allocation for one in rows} == kept
    assert scores == pytest.approx([0.0])  # all seeds alike at each width, whatever the policy did
