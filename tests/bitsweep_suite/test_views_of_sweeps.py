"""What the dashboards draw: history, search space, layers and policies, arms side by side."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.dashboards_suite.stores import reader_of, run_toy, toy_sweep

from bitsweep.analysis.across import Unlike, across
from bitsweep.analysis.chart import Curves
from bitsweep.analysis.glance import among, best_of, significance
from bitsweep.analysis.grid import Source
from bitsweep.analysis.landscape import landscape
from bitsweep.analysis.layer_views import layer_view
from bitsweep.analysis.search_history import history_chart
from bitsweep.analysis.table import sweep_table
from bitsweep.analysis.trial_view import trial_view
from bitsweep.errors import InputError
from bitsweep.store.history import settings
from bitsweep.store.listing import (
    STAGES,
    STATUSES,
    TRIAL_ORDERS,
    TrialOrder,
    activities,
    search_steps,
    trial_page,
)
from bitsweep.store.reader import Reader
from bitsweep.store.records import TrialRow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A finished toy sweep."""
    return run_toy(tmp_path_factory.mktemp("views") / "store.db", toy_sweep())


@pytest.fixture
def reader(store: str) -> Reader:
    """A reader of it."""
    return reader_of(store)


def test_activities_count_what_trial_rows_list(reader: Reader) -> None:
    sweep_id = reader.sweep("toy").id
    rows = {row.trial_id: row.status for row in reader.trial_rows(sweep_id)}
    counts = activities(reader)[sweep_id].counts

    assert counts == {one: list(rows.values()).count(one) for one in sorted(set(rows.values()))}


def test_pages_of_trials_put_together_are_all_trials(reader: Reader) -> None:
    sweep_id = reader.sweep("toy").id
    every = reader.trial_rows(sweep_id)
    pages = [
        row
        for offset in range(0, len(every) + 7, 7)
        for row in trial_page(reader, sweep_id, offset=offset, limit=7).rows
    ]

    assert pages == every
    assert trial_page(reader, sweep_id, offset=0, limit=1, statuses=("failed",)).total == sum(
        row.status == "failed" for row in every
    )


KEYS: dict[TrialOrder, Callable[[TrialRow], Any]] = {
    "trial": lambda row: row.trial_id,
    "status": lambda row: STATUSES.index(row.status),
    "arm": lambda row: (None, "fp32", "a", "b", "bad").index(row.arm),
    "bits": lambda row: row.bits,
    "seed": lambda row: row.seed,
    "stage": lambda row: STAGES.index(row.stage),
    "epochs": lambda row: row.last_epoch or 0,
    "reason": lambda row: row.reason,
}


@pytest.mark.parametrize("is_descending", [False, True])
@pytest.mark.parametrize("order", KEYS)
def test_sorted_pages_put_together_are_all_trials_with_planning_between_equals(
    reader: Reader, order: TrialOrder, is_descending: bool
) -> None:
    sweep_id = reader.sweep("toy").id
    every = reader.trial_rows(sweep_id)
    pages = [
        row
        for offset in range(0, len(every), 5)
        for row in trial_page(
            reader, sweep_id, offset=offset, limit=5, order=order, is_descending=is_descending
        ).rows
    ]

    assert pages == sorted(every, key=KEYS[order], reverse=is_descending)
    assert tuple(KEYS) == TRIAL_ORDERS


def test_the_best_is_chosen_on_validation_and_told_on_test(reader: Reader) -> None:
    table = sweep_table(reader, "toy")
    validation = sweep_table(reader, "toy", split="validation")
    best = best_of(table, validation)
    quantized = {key: cell for key, cell in validation.cells.items() if key[1] != "w32a32"}

    assert best is not None
    assert (best.arm, best.allocation) == max(quantized, key=lambda key: quantized[key].mean)
    assert best.split == "test"
    assert f"{table.cells[best.arm, best.allocation].mean:.2f}" in best.text


def test_hiding_an_arm_leaves_the_others_as_they_are(reader: Reader) -> None:
    table = sweep_table(reader, "toy")
    less = among(table, {"b"})

    assert less.arms == tuple(arm for arm in table.arms if arm != "b")
    assert less.comparisons == ()
    assert less.cells == {key: cell for key, cell in table.cells.items() if key[0] != "b"}


def test_three_seeds_never_bear_a_star(reader: Reader) -> None:
    assert significance(sweep_table(reader, "toy")) == {}


def test_the_search_history_marks_pruned_trials_and_follows_the_best(reader: Reader) -> None:
    sweep_id = reader.sweep("toy").id
    steps = search_steps(reader, sweep_id, metric="top1_percent")
    panel = next(one for one in history_chart(reader, "toy").panels if one.title == "w3a3")
    assert isinstance(panel, Curves)
    pruned = [one for one in steps if one.status == "pruned" and one.allocation == "w3a3"]
    drawn = [point for one in panel.series if one.name == "pruned" for point in one.y]
    lines = [one for one in panel.series if one.is_staircase]

    assert sorted(drawn) == sorted(one.value for one in pruned)
    assert all(list(one.y) == sorted(one.y) for one in lines)


def test_the_landscape_holds_each_finished_configuration(reader: Reader) -> None:
    found = landscape(reader, "toy", arm="b", allocation="w3a3")
    steps = search_steps(reader, reader.sweep("toy").id, metric="top1_percent")
    values = {
        one.value
        for one in steps
        if (one.arm, one.allocation, one.status) == ("b", "w3a3", "finished")
    }

    assert found.count == len(values)
    assert found.names == ("x",)
    assert set(found.slices[0].series[0].y) == values


def test_a_choice_that_is_not_there_is_named(reader: Reader) -> None:
    with pytest.raises(InputError, match="choose one of: a, b"):
        landscape(reader, "toy", arm="c")


def test_bits_per_layer_stand_for_each_epoch(reader: Reader) -> None:
    found = layer_view(reader, "toy", arm="a", allocation="w3a3")

    assert found.bits.rows == ("stem", "body", "head")
    assert found.bits.columns == ("epoch 1", "epoch 2", "epoch 3", "epoch 4")
    assert set(found.bits.values) == {(3.0,) * 4}
    assert found.policy is None


def with_policy(store: str, folder: Path) -> str:
    """A copy in which arm b's tests at w3a3 and w2a2 are a learned rule and its shuffle."""
    own = str(shutil.copy(store, folder / "policy.db"))
    sums = json.dumps({"images of body at w2a2": 250.0, "images of body at w3a3": 750.0})
    with sqlite3.connect(own) as connection:
        for label, allocator in (("w3a3", "learned"), ("w2a2", "shuffled")):
            connection.execute(
                "UPDATE measurements SET allocator = ?, lambda = 0.5, metric_sums = ? "
                "WHERE split = 'test' AND trial_id IN (SELECT trial_id FROM memberships m "
                "JOIN arms a ON a.id = m.arm_id WHERE a.name = 'b' AND m.stage = 'confirm') "
                "AND allocation_id IN (SELECT id FROM allocations WHERE label = ?)",
                (allocator, sums, label),
            )
        connection.execute(
            "INSERT INTO sample_costs SELECT id, 1000.0, 400 FROM measurements "
            "WHERE allocator = 'learned' UNION ALL SELECT id, 2000.0, 600 FROM measurements "
            "WHERE allocator = 'learned'"
        )
    return own


def test_a_policy_is_shown_by_layer_by_sample_and_beside_its_shuffle(
    store: str, tmp_path: Path
) -> None:
    found = layer_view(reader_of(with_policy(store, tmp_path)), "toy", arm="b")
    assert found.policy is not None
    assert found.policy.shares is not None
    assert found.policy.spread is not None
    assert found.trade is not None
    heights = found.policy.spread.series[0].y

    assert found.policy.prices == (0.5,)
    assert found.policy.shares.columns == ("w2a2", "w3a3")
    assert found.policy.shares.values == ((25.0, 75.0),)
    assert sum(heights) == pytest.approx(100.0)
    assert [heights[0], max(heights[1:])] == pytest.approx([40.0, 60.0])
    assert [one.name for one in found.trade.series] == ["learned", "shuffled"]


def sources(reader: Reader) -> list[Source]:
    """The toy sweep as a source of comparisons."""
    found = settings(reader, reader.sweep("toy").id)
    return [Source(table=sweep_table(reader, "toy"), settings=tuple(found))]


def test_contrasts_are_paired_by_seed_and_full_precision_serves_all_bits(reader: Reader) -> None:
    found = across(sources(reader), [("toy", "a"), ("toy", "fp32")], against=("toy", "fp32"))
    table = sweep_table(reader, "toy")
    ours, theirs = table.cells["a", "w3a3"], table.cells["fp32", "w32a32"]
    contrast = next(one for one in found.contrasts if one.at == "w3a3")

    assert contrast.result.n == 3
    assert contrast.result.mean == pytest.approx(ours.mean - theirs.mean)


def test_two_conventions_are_never_put_into_one_table(store: str, tmp_path: Path) -> None:
    own = str(shutil.copy(store, tmp_path / "own.db"))
    run_toy(Path(own), toy_sweep("second", "Again?"))
    with sqlite3.connect(own) as connection:
        connection.execute("UPDATE sweeps SET convention = 'body' WHERE name = 'second'")
    reader = reader_of(own)
    both = [
        Source(
            table=sweep_table(reader, name),
            settings=tuple(settings(reader, reader.sweep(name).id)),
        )
        for name in ("toy", "second")
    ]
    with pytest.raises(Unlike) as refused:
        across(both, [("toy", "a"), ("second", "a")])

    assert set(refused.value.differences) == {"cost convention"}
    assert set(refused.value.differences["cost convention"]) == {"toy", "second"}


def test_a_trial_has_its_curves_and_a_command(reader: Reader) -> None:
    sweep_id = reader.sweep("toy").id
    row = next(
        one for one in reader.trial_rows(sweep_id) if one.arm == "b" and one.stage == "confirm"
    )
    found = trial_view(reader, row.trial_id[:12])

    assert [panel.title for panel in found.curves] == ["validation", "test"]
    assert found.curves[0].series[0].x == (1.0, 2.0, 3.0, 4.0)
    assert found.command.endswith(f"--trial {row.trial_id[:12]}")
    assert found.status == "finished"
