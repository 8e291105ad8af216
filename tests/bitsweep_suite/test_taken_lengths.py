"""A real sweep in which other methods train and round at the bit-lengths that CPQ has learned."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.bitsweep_suite.plugin import bitsweep, run_text

SWEEP = """
schema = 1
name = "lengths"
question = "Are lengths that one method learned of use to another?"
reproduces = "no paper's table"
expects = "yes"
cost = "seconds"

[task]
data = "fashion-mnist-6k"
model = "small-cnn"
start = { method = "fp32", epochs = 1 }
epochs = 1
bits = [4]
batch_size = 100

[[arms]]
name = "learned"
method = "cpq_dropbits"
[arms.parameters]
task = "hetero"
lambda = 0.3
reg_weight = "size"
keep_learning_rate = 0.1
keep_probability = 0.5
activation_bits = 8

[[arms]]
name = "lsq"
method = "lsq"
from = { arm = "learned", take = "allocation" }

[[arms]]
name = "rounded"
method = "ptq"
from = { arm = "learned", take = "allocation", as = "shuffled" }

[[arms]]
name = "float-inputs"
method = "dorefa"
parameters = { activation_bits = 32 }
from = { arm = "learned", take = "allocation" }

[[objectives]]
at = "all"

[confirm]
seeds = [0]
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the sweep ran."""
    folder = tmp_path_factory.mktemp("ran")
    run_text(folder, "lengths", SWEEP)
    return folder


def rows(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / "results" / "bitsweep.db") as store:
        return store.execute(sql).fetchall()


def test_every_arm_ran_at_the_lengths_that_were_learned(ran: Path) -> None:
    found = dict(
        rows(ran, "SELECT arm, allocation FROM results WHERE split = 'test' AND stage = 'confirm'")
    )
    learned = found["learned"]
    weights = json.loads(learned.split()[0].removeprefix("w="))
    turned = "w=[{1},{0}]".format(*weights)

    assert weights[0] != weights[1]
    assert found == {
        "learned": f"w=[{weights[0]},{weights[1]}] a=[8,8]",
        "lsq": learned,
        "rounded": f"{turned} a=[8,8]",
        "float-inputs": learned.replace("[8,8]", "[32,32]"),
    }


def test_json_tells_of_each_row_with_which_arms_it_shares_trials(ran: Path) -> None:
    said = json.loads(bitsweep(ran, "table", "lengths", "--format", "json").stdout)

    assert [row["arm"] for row in said] == ["learned", "lsq", "rounded", "float-inputs"]
    assert all(row["one_trial_with"] == {} for row in said)


def test_a_second_run_would_train_nothing(ran: Path) -> None:
    done = bitsweep(ran, "run", "lengths.toml", "--dry-run", "--json")
    said = json.loads(done.stdout)

    assert (said["trials_total"], said["trials_to_run"]) == (5, 0)
