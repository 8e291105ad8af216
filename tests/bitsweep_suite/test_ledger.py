"""The judge of `benchmarks/faults.py` sees what it is there to see."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.bitsweep_suite.toys import FIXED, run_toy, toy_sweep, toy_task
from tests.faults.ledger import MEASURED, Line, Verdict, ask, began, judge, running

from bitsweep.bits import tied
from bitsweep.store.database import open_to_write
from bitsweep.sweep import Confirm


@pytest.fixture
def store(tmp_path: Path) -> str:
    """Of one finished trial."""
    sweep = toy_sweep(FIXED, task=toy_task(bits=(tied(2),)), confirm=Confirm(seeds=(0,)))
    run_toy(sweep, tmp_path)
    return str(tmp_path / "store.db")


def told(store: str) -> list[Line]:
    """What honest trainers would have written."""
    return [
        {"event": event, "trial": trial, "epoch": epoch, "facts": [[split, label, correct]]}
        for trial, epoch, split, label, correct in ask(store, MEASURED)
        for event in ("measured", "acknowledged")
    ]


def verdict(store: str, lines: Sequence[Line]) -> Verdict:
    """Of these lines; the sweep says it is complete."""
    return judge(store, lines, again=0, is_complete=True)


def test_an_honest_store_is_clean(store: str) -> None:
    assert verdict(store, told(store)).is_clean


def test_what_was_acknowledged_and_is_not_there_is_lost(store: str) -> None:
    more: Line = {"event": "acknowledged", "trial": "t", "epoch": 1, "facts": [["test", "w2", 1]]}

    assert verdict(store, [*told(store), more]).lost == 1


def test_a_number_that_no_trainer_measured_is_wrong(store: str) -> None:
    engine = open_to_write(store)
    with engine.begin() as connection:
        change = "UPDATE measurements SET correct = correct + 1 WHERE epoch = 2"
        connection.exec_driver_sql(change)
    engine.dispose()
    honest = [
        {**line, "facts": [[split, label, correct - 1] for split, label, correct in line["facts"]]}
        if line["epoch"] == 2
        else line
        for line in told(store)
    ]
    found = verdict(store, honest)

    assert (found.wrong, found.lost) == (1, 1)


def test_a_trial_without_all_its_epochs_is_not_complete(store: str) -> None:
    lines = told(store)
    engine = open_to_write(store)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM measurements WHERE epoch = 3")
        connection.exec_driver_sql("DELETE FROM evaluations WHERE epoch = 3")
    engine.dispose()
    found = verdict(store, lines)

    assert (found.is_complete, found.lost) == (False, 1)


def test_trials_that_run_and_trials_that_begin_again_are_told_apart() -> None:
    lines: list[Line] = [
        {"event": "begun", "trial": "a", "stage": "search"},
        {"event": "begun", "trial": "b", "stage": "confirm"},
        {"event": "over", "trial": "a"},
    ]

    assert running(lines) == running(lines, stage="confirm") == ["b"]
    assert began(lines, ["a", "c"]) == 1
