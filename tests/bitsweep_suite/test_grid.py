"""Grids over several sweeps: nothing is averaged that differs, and a shared trial counts once."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.bitsweep_suite import plugin
from tests.bitsweep_suite.plugin import bitsweep, run_sweep
from tests.bitsweep_suite.tables import THREE, cell, table
from tests.bitsweep_suite.toys import SEARCHED, run_toy, toy_sweep

from bitsweep.analysis.areas import area_notes
from bitsweep.analysis.grid import Source, grids
from bitsweep.analysis.grid_text import render_grids
from bitsweep.analysis.render import render
from bitsweep.analysis.table import Table, sweep_table
from bitsweep.bits import tied
from bitsweep.errors import InputError
from bitsweep.store.database import open_to_read
from bitsweep.store.history import Setting
from bitsweep.store.reader import Reader
from bitsweep.sweep import Objective

SETTING = Setting(data="toy-data", model="toy-net", epochs=4)


def source(one: Table, *, store: str = "one.db", setting: Setting = SETTING) -> Source:
    """A table as it came from a store."""
    return Source(table=one, settings=(setting,), store=store)


def test_a_grid_has_bits_as_columns_and_marks_each_column() -> None:
    (grid,) = grids([source(THREE)], rows="arms")
    text = render_grids([grid], "markdown")

    assert (grid.rows, grid.columns) == (("a", "b", "c"), ("w2a2", "w3a3"))
    assert "| b | **86.00** ± 1.41 (2) | - |" in text
    assert "{\\textbf{86.00}} & 1.41 & (2)" in render_grids([grid], "latex")


def test_a_sweep_without_a_trial_says_so() -> None:
    nothing = Source(table=table(), settings=())

    assert "by_hand: nothing was measured yet" in render_grids(
        grids([nothing], rows="arms"), "text"
    )


def test_a_trial_that_two_sweeps_share_counts_once() -> None:
    short = table(cell("a", "w2a2", (800, 820)), sweep="short")
    long = table(cell("a", "w2a2", (800, 820, 840)), sweep="long")
    (grid,) = grids([source(short), source(long)], rows="arms")

    assert list(grid.cells) == [("a", "w2a2")]
    assert (grid.cells["a", "w2a2"].n, grid.cells["a", "w2a2"].mean) == (3, 82.0)


def test_arms_of_one_name_without_a_common_trial_are_two_rows() -> None:
    one = table(cell("a", "w2a2", (800, 820)))
    apart = replace(cell("a", "w2a2", (700, 720)), trial_ids=frozenset({"x", "y"}))
    (grid,) = grids([source(one), source(table(apart, sweep="other"))], rows="arms")

    assert grid.rows == ("a", "a (other)")
    assert grid.cells["a", "w2a2"].n == 2


def test_two_stores_that_disagree_on_a_trial_are_refused() -> None:
    one, other = table(cell("a", "w2a2", (800, 820))), table(cell("a", "w2a2", (800, 821)))

    with pytest.raises(
        InputError, match="820 correct of 1000 in one place, 821 correct of 1000 in"
    ):
        grids([source(one), source(other, store="two.db")], rows="arms")


def regression(*values: float, arm: str = "a", sweep: str = "by_hand") -> Source:
    """A table of one cell whose metric is to be small and counts nothing."""
    one = replace(
        cell(arm, "w2a2", [0] * len(values)),
        mean=sum(values) / len(values),
        value_by_seed=dict(enumerate(values)),
        correct_by_seed={},
    )
    return source(table(one, sweep=sweep, metric="nmse_db", goal="minimize"))


def test_a_grid_of_another_metric_shows_and_marks_it_by_its_goal() -> None:
    (grid,) = grids([regression(-20.0), regression(-10.0, arm="b", sweep="two")], rows="arms")
    text = render_grids([grid], "markdown")

    assert "nmse dB on test" in text
    assert "| a | **-20.00** (1) |" in text and "| b | <ins>-10.00</ins> (1) |" in text
    assert json.loads(render_grids([grid], "json"))[0]["unit"] == "nmse_db"


def test_values_that_nothing_counts_are_joined_and_refused_alike() -> None:
    (grid,) = grids([regression(-20.0), regression(-20.0, -10.0, sweep="two")], rows="arms")

    assert (grid.cells["a", "w2a2"].n, grid.cells["a", "w2a2"].mean) == (2, -15.0)
    with pytest.raises(InputError, match=r"-20\.0 in one place, -19\.0 in another"):
        grids([regression(-20.0), regression(-19.0, sweep="two")], rows="arms")


@pytest.mark.parametrize(
    "other",
    [
        source(replace(THREE, convention="body")),
        source(replace(THREE, stage="search")),
        source(replace(THREE, metric="loss", goal="minimize")),
        source(THREE, setting=replace(SETTING, data="other")),
        source(THREE, setting=replace(SETTING, epochs=5)),
    ],
)
def test_what_differs_in_setting_stands_in_a_block_of_its_own(other: Source) -> None:
    assert len(grids([source(THREE), other], rows="arms")) == 2


def test_models_are_joined_only_where_they_are_the_rows() -> None:
    other = source(THREE, setting=replace(SETTING, model="big-net"))
    (joined,) = grids([source(THREE), other], rows="models")

    assert len(grids([source(THREE), other], rows="methods")) == 2
    assert {"toy-net a", "big-net a"} <= set(joined.rows)


def test_bits_that_the_search_did_not_look_at_are_marked(tmp_path: Path) -> None:
    run_toy(toy_sweep(SEARCHED, objectives=(Objective(at=(tied(2),)),)), tmp_path)
    reader = Reader(open_to_read(str(tmp_path / "store.db")))
    made = sweep_table(reader, "toy")
    reader.close()

    assert [one.is_searched for one in (made.cells["a", "w2a2"], made.cells["a", "w3a3"])] == [
        True,
        False,
    ]
    assert "‡ bits that the arm's search did not look at: a w3a3." in made.footnotes
    assert "\\textdaggerdbl{}" in render(made, "latex")


def test_the_area_is_that_of_the_staircase_over_common_costs() -> None:
    low, high = replace(cell("a", "w2a2", (800,)), bitops=1e6), cell("a", "w4a4", (900,))
    cells = {("a", one.allocation): one for one in (low, replace(high, bitops=4e6))}
    area, volume, told = area_notes(cells, cells)

    assert area.endswith("(staircase, points of accuracy): a 80.00.")
    assert volume.endswith("a 60.00.")  # (1 - 1/4) * 80
    assert told.endswith("validation chose: a 2 of 2.")


def test_the_shell_joins_sweeps_and_stores(tmp_path: Path) -> None:
    plugin.install(tmp_path)
    run_sweep(tmp_path)
    bitsweep(tmp_path, "import", "results/bitsweep.db", "--store", "two.db")
    both = ("--store", "results/bitsweep.db", "--store", "two.db")
    done = bitsweep(tmp_path, "table", "toy", *both, "--rows", "methods", "--format", "json")
    rows = json.loads(done.stdout)
    wrong = bitsweep(tmp_path, "table", "toi", *both, "--columns", "bits")
    mixed = bitsweep(tmp_path, "table", "toy", "--rows", "arms", "--against", "fixed")

    assert {row["n"] for row in rows} == {2} and len(rows) == 4
    assert (wrong.returncode, mixed.returncode) == (2, 2)
    assert "did you mean 'toy'" in wrong.stderr
