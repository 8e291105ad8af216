"""What a table says of its search: objectives, limits, winners and cost, from a real run."""

from pathlib import Path

import pytest
from tests.bitsweep_suite import plugin
from tests.bitsweep_suite.plugin import bitsweep, run_sweep
from tests.bitsweep_suite.toys import run_toy, toy_sweep

from bitsweep.analysis.table import sweep_table
from bitsweep.space import Choice
from bitsweep.store.database import open_to_read
from bitsweep.store.reader import Reader
from bitsweep.sweep import Arm, Search

ADDED = """
[[objectives]]
metric = "size_bits"
at = "all"

[[constraints]]
metric = "size_bits"
at_most = 900
at = [2]
"""


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of a table of a search with two objectives and a limit."""
    folder = tmp_path_factory.mktemp("made")
    text = plugin.SWEEP.replace('name = "searched"\nmethod = "toy"', SEARCHED)
    text = text.replace("[confirm]", f"{ADDED}\n[confirm]\nbest_per_arm = 2")
    text = text.replace('sharing = { choice = ["off", "bitwise"] }', BRANCHES)
    text = text.replace("seeds = [1000]", f"seeds = [1000, 1001]\n{SCHEDULER}")
    plugin.install(folder, text)
    run_sweep(folder, "--set", "search.configurations_per_arm=6")
    return bitsweep(folder, "table", "toy").stdout


SEARCHED = 'name = "searched"\nmethod = "toy_branches"'
BRANCHES = "branches = { integer = [1, 4] }"
SCHEDULER = "scheduler = { asha = { grace_epochs = 1, reduction_factor = 2 } }"


def test_several_objectives_and_their_winners_are_told(notes: str) -> None:
    assert "Objectives: top1_percent, size_bits. Confirmed are the Pareto winners" in notes
    assert "at most 2 per search" in notes
    assert "winner searched w2a2, configuration" in notes


def test_early_stopping_with_several_objectives_is_told(notes: str) -> None:
    assert "Early stopping judged top1_percent on validation alone" in notes


def test_limits_are_told_with_what_they_refused(notes: str) -> None:
    assert "Limits of the search: size_bits <= 900; refused untrained: searched" in notes


def test_the_seeds_of_the_search_are_told(notes: str) -> None:
    assert "The search took the mean over 2 seeds." in notes


def test_the_cost_of_each_arm_is_told(notes: str) -> None:
    line = next(line for line in notes.splitlines() if line.startswith("CPU-hours of training"))

    assert all(name in line for name in ("start ", "fixed ", "searched ", " in all."))


def test_trials_dropped_with_one_that_failed_are_not_called_pruned(tmp_path: Path) -> None:
    bad = Arm(name="bad", method="toy", space={"act": Choice(values=("raise",))})
    report = run_toy(toy_sweep(bad, search=Search(configurations_per_arm=1)), tmp_path)
    reader = Reader(open_to_read(str(tmp_path / "store.db")))
    notes = sweep_table(reader, "toy").footnotes

    assert (report.trials_pruned, report.trials_failed, report.trials_dropped) == (0, 1, 1)
    assert "1 trial dropped: another of the same configuration failed." in notes
    assert not any("scheduler" in note for note in notes)
