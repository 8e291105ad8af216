"""`show TRIAL --command` prints what runs exactly this trial again, wherever its files lie."""

import json
import shlex
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.bitsweep_suite import plugin
from tests.bitsweep_suite.toys import SEARCHED, toy_sweep, toy_task
from tests.trainers_suite.path_trials import write_series

from bitsweep.plan import Plan
from bitsweep.repeat import group_members
from bitsweep.run import arm_digests
from bitsweep.testing import toy_declarations

PAIR = """
schema = 1
name = "pair"
question = "Do two seeds as one network repeat?"
reproduces = "no paper's table"
expects = "yes"
cost = "seconds"

[task]
data = "./series.csv"
trainer = "series"
model = "signal-cnn"
epochs = 2
bits = [4]
batch_size = 8

[[arms]]
name = "lsq"
method = "lsq"

[[objectives]]
metric = "top1_percent"

[confirm]
seeds = [0, 1]

[resources]
seeds_together = 2
"""
ELSEWHERE = ("--store", "kept/results.db", "--workspaces", "kept/work")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose sweep ran with its store and its workspaces apart from each other."""
    folder = tmp_path_factory.mktemp("made")
    plugin.install(folder)
    assert plugin.run_sweep(folder, *ELSEWHERE)["trials_failed"] == 0
    return folder


def a_trial(folder: Path, stage: str) -> str:
    """The last trial of a stage, which starts from another trial's checkpoint."""
    shown = plugin.bitsweep(folder, "show", "toy", "--json", "--store", ELSEWHERE[1])
    rows = json.loads(shown.stdout)["trials"]
    return str([row["trial_id"] for row in rows if row["stage"] == stage][-1])


def printed(folder: Path, trial: str, *options: str) -> str:
    """The command that `show` prints."""
    places = ("--store", ELSEWHERE[1], *options)
    done = plugin.bitsweep(folder, "show", trial[:12], "--command", *places)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def ran(folder: Path, command: str) -> "subprocess.CompletedProcess[str]":
    """Run a printed command as a shell would."""
    program, *words = shlex.split(command)
    assert program == "bitsweep"
    return subprocess.run(
        [*plugin.BITSWEEP, *words],
        cwd=folder,
        env=plugin.environment(folder),
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(("stage", "count"), [("search", 3), ("confirm", 4)])
def test_the_printed_command_gives_the_same_numbers(stage: str, count: int, made: Path) -> None:
    trial = a_trial(made, stage)
    command = printed(made, trial)
    done = ran(made, command)

    assert "--workspaces kept/work" in command and f"--trial {trial[:12]}" in command
    assert (done.returncode, "identical" in done.stdout) == (0, True), done.stdout + done.stderr
    assert done.stdout.count("the store has the same") == count  # 3 epochs, confirmed on test


def test_a_trial_that_was_trained_with_others_is_repeated_with_them(tmp_path: Path) -> None:
    plugin.install(tmp_path, plugin.TOGETHER)
    assert plugin.run_sweep(tmp_path, *ELSEWHERE)["trials_failed"] == 0
    trial = a_trial(tmp_path, "confirm")
    done = ran(tmp_path, printed(tmp_path, trial))
    dry = plugin.bitsweep(tmp_path, *plugin.RUN, "--dry-run", "--json", *ELSEWHERE)
    with closing(sqlite3.connect(tmp_path / ELSEWHERE[1])) as connection:
        connection.execute(
            "UPDATE measurements SET loss_sum = loss_sum + 1e-9 WHERE trial_id = ?", (trial,)
        )
        connection.commit()
    other = ran(tmp_path, printed(tmp_path, trial))
    for log in tmp_path.glob(f"kept/work/logs/{trial}.jsonl"):
        log.unlink()
    alone = ran(tmp_path, printed(tmp_path, trial))

    assert (done.returncode, "identical" in done.stdout) == (0, True), done.stdout + done.stderr
    assert json.loads(dry.stdout)["trials_to_run"] == 0
    assert "together with other seeds" not in done.stdout
    assert (other.returncode, "together with other seeds" in other.stdout) == (1, False)
    assert (alone.returncode, "together with other seeds" in alone.stdout) == (1, True)


def event(place: int, *others: str) -> str:
    """A line of a log."""
    return json.dumps({"event": "grouped", "place": place, "others": " ".join(others) or "none"})


@pytest.mark.parametrize(
    ("lines", "members"),
    [
        ([event(1, "a", "b")], ("a", "own", "b")),
        ([event(0, "a"), event(0, "a")], ("own", "a")),
        ([event(0)], ("own",)),
        ([event(0, "a"), event(0, "b")], ("own",)),
        (['{"event": "grouped", "others": "a"}'], ("own",)),
        (["{cut"], ("own",)),
        ([], ("own",)),
    ],
)
def test_a_log_tells_with_whom_a_trial_was_trained(
    lines: list[str], members: tuple[str, ...]
) -> None:
    assert group_members("\n".join(lines), "own") == members


def test_real_networks_that_were_trained_together_repeat_to_the_last_bit(tmp_path: Path) -> None:
    (tmp_path / "pair.toml").write_text(PAIR, encoding="utf-8")
    write_series(tmp_path)
    run = ("run", "pair.toml", "--executor", "local", "--mlflow", "none")
    done = plugin.bitsweep(tmp_path, *run)
    assert done.returncode == 0, done.stderr
    shown = plugin.bitsweep(tmp_path, "show", "pair", "--json")
    trials = [one["trial_id"] for one in json.loads(shown.stdout)["trials"]]
    repeated = [plugin.bitsweep(tmp_path, *run, "--trial", one[:12]) for one in trials]

    assert [one.returncode for one in repeated] == [0, 0], repeated[0].stdout


def test_the_smallest_difference_of_a_sum_is_seen(made: Path) -> None:
    trial = a_trial(made, "confirm")
    change = "UPDATE measurements SET loss_sum = loss_sum {} 1e-9 WHERE trial_id = ? AND epoch = 2"
    with closing(sqlite3.connect(made / ELSEWHERE[1])) as connection:
        connection.execute(change.format("+"), (trial,))
        connection.commit()
        done = ran(made, printed(made, trial))
        connection.execute(change.format("-"), (trial,))
        connection.commit()

    assert done.returncode == 1
    assert "other numbers: sums" in done.stdout and "DIFFERENT" in done.stdout
    assert "together with other seeds" not in done.stdout


def test_a_moved_folder_is_named_to_show(made: Path) -> None:
    trial = a_trial(made, "confirm")
    (made / "kept" / "work").rename(made / "kept" / "moved")
    try:
        lost = ran(made, printed(made, trial))
        found = ran(made, printed(made, trial, "--workspaces", "kept/moved"))
    finally:
        (made / "kept" / "moved").rename(made / "kept" / "work")

    assert lost.returncode == 2 and "--workspaces names the folder" in lost.stderr
    assert found.returncode == 0, found.stderr


def test_a_trial_of_a_submitted_sweep_is_run_again_here(made: Path) -> None:
    submitted = "bitsweep submit toy.toml --address http://head:8265 --store x --set task.epochs=3"
    change = "UPDATE sweeps SET command = ?"
    trial = a_trial(made, "confirm")
    with closing(sqlite3.connect(made / ELSEWHERE[1])) as connection:
        (before,) = connection.execute("SELECT command FROM sweeps").fetchone()
        connection.execute(change, (submitted,))
        connection.commit()
        command = printed(made, trial, "--workspaces", "kept/work")
        connection.execute(change, (before,))
        connection.commit()

    expected = "bitsweep run toy.toml --store kept/results.db --set task.epochs=3"
    assert command == f"{expected} --workspaces kept/work --trial {trial[:12]}"
    assert ran(made, command).returncode == 0


def digests(weights: Path, data_path: str | None, content: str = "0" * 64) -> list[str]:
    """Of a sweep whose data and weights are files."""
    declarations = toy_declarations()
    data = declarations.data["toy-data"]
    if data_path is not None:
        data = replace(data, path=data_path, sha256=content)
    name = data_path or "toy-data"
    plan = Plan(
        sweep=toy_sweep(SEARCHED, task=toy_task(data=name, weights=str(weights))),
        declarations=replace(declarations, data={name: data}),
    )
    return [digest for _, digest in arm_digests(plan)]


def test_a_search_keeps_its_digest_in_another_folder(tmp_path: Path) -> None:
    here, there = tmp_path / "here.pt", tmp_path / "there.pt"
    here.write_bytes(b"weights")
    there.write_bytes(b"weights")
    first = digests(here, "/here/data.csv")
    moved = digests(there, "/there/data.csv")
    other = digests(here, "/here/data.csv", content="1" * 64)
    (tmp_path / "other.pt").write_bytes(b"others")

    assert moved == first
    assert other != first and digests(tmp_path / "other.pt", "/there/data.csv") != first
