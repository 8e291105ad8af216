"""The Python API of notebooks: DataFrames of what a store holds, read-only."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.bitsweep_suite.toys import FIXED, SEARCHED, STARTED, toy_plan, toy_sweep

import bitsweep
from bitsweep.errors import StoreError, UnknownName
from bitsweep.notebook import Results
from bitsweep.run import RunOptions, run_sweep
from bitsweep.store.views import VIEW_COLUMNS


@pytest.fixture
def results(store: str) -> Iterator[Results]:
    """A store with one finished sweep, opened as a notebook does."""
    plan = toy_plan(toy_sweep(SEARCHED, FIXED, task=STARTED))
    run_sweep(
        plan, RunOptions(store=store, mlflow=None, executor="local"), observe=lambda progress: None
    )
    with bitsweep.open(store) as opened:
        yield opened


def test_results_are_the_view_as_a_frame(results: Results) -> None:
    frame = results.results("toy", stage="confirm", split="test")

    assert list(frame.columns) == list(VIEW_COLUMNS["results"])
    assert len(frame) == 2 * 2 * 2  # arms, bits, seeds
    assert set(frame["arm"]) == {"a", "fixed"} and set(frame["split"]) == {"test"}
    assert len(results.results()) > len(frame)


def test_the_mean_of_the_frame_is_that_of_the_table(results: Results) -> None:
    frame = results.results("toy", arm="fixed", split="test", allocation="w3a3")
    table = results.table("toy").set_index(["arm", "allocation"])

    assert frame["top1_percent"].mean() == pytest.approx(table.loc[("fixed", "w3a3"), "mean"])


def test_scores_are_the_metric_of_the_sweep(results: Results) -> None:
    scores = results.results("toy", split="test", view="scores")
    frame = results.results("toy", split="test")

    assert list(scores.columns) == list(VIEW_COLUMNS["scores"])
    assert scores["value"].tolist() == pytest.approx(frame["top1_percent"].tolist())


def test_parameters_have_a_column_each(results: Results) -> None:
    frame = results.parameters("toy")

    assert {"arm", "trial_id", "x", "act"} <= set(frame.columns)
    assert frame.loc[frame["arm"] == "fixed", "x"].unique().tolist() == [0.25]


def test_curves_and_queries_and_sweeps_are_frames(results: Results) -> None:
    curves = results.curves("toy")

    assert curves["epoch"].max() == 4
    assert curves["metric"].unique().tolist() == ["top1_percent"]
    assert curves["value"].between(0, 100).all()
    assert results.query("SELECT COUNT(*) AS n FROM sweeps")["n"].tolist() == [1]
    assert results.sweeps()["name"].tolist() == ["toy"]
    assert results.sweep("toy").question == "?"


def test_sql_in_a_filter_is_a_value_and_no_statement(results: Results) -> None:
    assert results.results("toy", arm="x' OR '1'='1").empty


def test_mistakes_are_named(results: Results, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'toy'"):
        results.results("toi")
    with pytest.raises(StoreError, match=r"line 2, column 6"):
        results.query("SELECT 1\nFORM sweeps")
    with pytest.raises(StoreError):
        results.query("DELETE FROM sweeps")
    with pytest.raises(StoreError, match="no store"):
        bitsweep.open(str(tmp_path / "absent.db"))
