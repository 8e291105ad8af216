"""Lists of random allocations: told as mean and sd over them, never taken for results of arms."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.bitsweep_suite.toys import FIXED, LAYERS, evaluation, measurement, toy_sweep, toy_trial
from typer.testing import CliRunner

from bitsweep.analysis.table import sweep_table
from bitsweep.analysis.trial_view import trial_view
from bitsweep.bits import Allocation, tied
from bitsweep.cli import app
from bitsweep.execution.roster import Entry
from bitsweep.measurement import Measurement, Protocol
from bitsweep.store.database import open_to_read, open_to_write
from bitsweep.store.layers import layered_arms, rule_rows
from bitsweep.store.reader import Reader
from bitsweep.store.writer import Writer
from bitsweep.trial import Finished


def at(correct: int, *widths: int, protocol: Protocol = "running") -> Measurement:
    """So many right of a thousand at a listed allocation."""
    return replace(
        measurement(correct),
        allocation=Allocation(layers=tuple(tied(one) for one in widths)),
        allocator="random",
        protocol=protocol,
    )


LIST = (
    at(600, 2, 2),
    at(700, 2, 4),
    at(710, 2, 2, protocol="re-estimated"),
    at(730, 2, 4, protocol="re-estimated"),
)


def store_with(folder: Path, *measurements: Measurement) -> tuple[Reader, str]:
    """A store whose one confirmed, finished trial has these on validation and on test."""
    writer = Writer(open_to_write(str(folder / "store.db")))
    sweep_id, (arm_id,) = writer.register_sweep(toy_sweep(FIXED), [(FIXED, "digest")])
    trial = toy_trial(splits=("validation", "test"))
    writer.add_trial(trial, layers=LAYERS, sweep_id=sweep_id, stage="confirm", arm_id=arm_id)
    both = [replace(one, split=split) for one in measurements for split in trial.splits]
    writer.record(trial.id, evaluation(1, *both))
    writer.end(trial.id, Finished(epoch=1), sweep_id=sweep_id)
    writer.close()
    return Reader(open_to_read(str(folder / "store.db"))), trial.id


def test_a_table_has_no_rows_of_a_list_but_a_footnote(tmp_path: Path) -> None:
    reader, _ = store_with(tmp_path, measurement(650), *LIST)
    table = sweep_table(reader, "toy")
    (note,) = [one for one in table.footnotes if "random allocations" in one]

    assert table.allocations == ("w2a2",)
    assert table.cells[FIXED.name, "w2a2"].n == 1
    assert "at 2 random allocations on test" in note
    assert "running batch-norm statistics 65.00 \u00b1 7.07 % (60.00 to 70.00)" in note
    assert "re-estimated ones 72.00 \u00b1 1.41 % (71.00 to 73.00)" in note


def test_show_tells_a_list_in_a_line_per_split(tmp_path: Path) -> None:
    _, trial_id = store_with(tmp_path, measurement(650), *LIST)
    store = ["--store", str(tmp_path / "store.db")]
    text = CliRunner().invoke(app, ["show", trial_id[:12], *store]).stdout
    shown = json.loads(CliRunner().invoke(app, ["show", trial_id[:12], "--json", *store]).stdout)
    running = shown["listed_allocations"]["test"][0]

    assert "2 random allocations on test: running batch-norm statistics 65.00" in text
    assert "w=[2,4]" not in text
    assert (running["mean"], running["low"], running["high"]) == pytest.approx((65.0, 60.0, 70.0))
    assert sum(one.get("allocator") == "random" for one in shown["measurements"]) == 8


def test_figures_curves_and_the_search_leave_a_list_out(tmp_path: Path) -> None:
    reader, trial_id = store_with(tmp_path, measurement(650), *LIST)
    view = trial_view(reader, trial_id)
    sweep_id = reader.sweep("toy").id

    assert [one.name for panel in view.curves for one in panel.series] == ["w2a2", "w2a2"]
    assert not any("[2,4]" in line for line in view.log)
    assert [label for _, label in layered_arms(reader, sweep_id)] == ["w2a2"]
    assert rule_rows(reader, sweep_id, metric="top1_percent", split="test") == []


def test_a_value_that_the_search_sees_is_never_of_a_list() -> None:
    entry = Entry(trial=toy_trial(), stage="search", group=("arm", "w2a2", 0))
    # A body of one layer: its only layer-wise label is that of the width.
    entry.note(evaluation(1, measurement(650), at(100, 2)), ["top1_percent"])

    assert entry.validation == {"top1_percent": {"w2a2": 65.0}}
