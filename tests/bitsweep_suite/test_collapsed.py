"""Two arms that are one trial for some seeds: said under the table and in its JSON."""

import json
from dataclasses import replace

from tests.bitsweep_suite.tables import cell, table

from bitsweep.analysis.cell import Cell
from bitsweep.analysis.collapsed import shared_counts, shared_notes, shared_seeds
from bitsweep.analysis.render import render


def learned(arm: str, correct: list[int], trials: list[str]) -> Cell:
    """An arm's cell at learned bits; `trials` names that of each seed."""
    measured = {seed: (one, "w=[2,2]") for seed, one in enumerate(trials)}
    return replace(cell(arm, "learned", correct), measured_by_seed=measured)


RETRAINED = learned("retrained", [80, 82, 84], ["a", "b", "c"])
UNIFORM = learned("uniform", [80, 81, 82], ["a", "d", "e"])
SHUFFLED = learned("shuffled", [90, 91, 92], ["f", "g", "h"])
CELLS = {(one.arm, one.allocation): one for one in (RETRAINED, UNIFORM, SHUFFLED)}


def test_a_seed_is_shared_where_trial_and_allocation_are_the_same() -> None:
    assert shared_seeds(RETRAINED, UNIFORM) == (0,)
    assert shared_seeds(RETRAINED, SHUFFLED) == ()


def test_the_note_counts_shared_seeds_and_tells_the_difference_without_them() -> None:
    (note,) = shared_notes(CELLS, metric="top1_percent")

    assert note == (
        "retrained - uniform at learned: in 1 of 3 seeds both arms are one trial, whose "
        "difference is 0 by construction; without them +0.15 \u00b1 0.07 points (n = 2, "
        "exact paired p = 0.5)."
    )


def test_arms_that_are_one_trial_for_all_seeds_leave_none() -> None:
    same = replace(RETRAINED, arm="again")
    cells = {("retrained", "learned"): RETRAINED, ("again", "learned"): same}
    (note,) = shared_notes(cells, metric="top1_percent")

    assert "in 3 of 3 seeds" in note and note.endswith("no seed is left without them.")


def test_json_names_the_arms_a_row_shares_trials_with() -> None:
    rows = json.loads(render(table(RETRAINED, UNIFORM, SHUFFLED), "json"))

    assert shared_counts("retrained", "learned", CELLS) == {"uniform": 1}
    assert {row["arm"]: row["one_trial_with"] for row in rows} == {
        "retrained": {"uniform": 1},
        "uniform": {"retrained": 1},
        "shuffled": {},
    }
