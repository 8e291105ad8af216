"""Workspaces at a URL: two machines that share nothing but what fsspec carries."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.bitsweep_suite.test_worker import epochs, steps
from tests.bitsweep_suite.toys import (
    FIXED,
    STARTED,
    acting,
    ask_store,
    toy_plan,
    toy_sweep,
    toy_trial,
)

from bitsweep.errors import InputError
from bitsweep.execution.base import Folders, Job
from bitsweep.execution.worker import JobRun
from bitsweep.run import RunOptions, folders_of, run_sweep
from bitsweep.store.remote import Remote
from bitsweep.sweep import Confirm
from bitsweep.trial import Failed, Finished


def machine(folder: Path, name: str) -> Folders:
    """A machine's folders; the URL is the same for all."""
    here = folder / name
    return Folders(
        workspaces=here / "workspaces",
        artifacts=here / "artifacts" / "checkpoints",
        logs=here / "logs",
        remote=(folder / "there").as_uri(),
    )


def test_a_trial_goes_on_on_another_machine(tmp_path: Path) -> None:
    one = Job(trial=toy_trial(), folders=machine(tmp_path, "one"))
    first = JobRun(one)
    known = [first.step(), first.step()]
    other = JobRun(replace(one, folders=machine(tmp_path, "other")))
    found = steps(other)
    log = one.folders.log_text(one.trial.id)

    assert found[:2] == known and epochs(found) == [1, 2, 3, 4]
    assert found[-1] == Finished(epoch=4)
    assert log is not None and log.count('"event": "started"') == 2
    assert log.count('"event": "evaluated"') == 4


def test_what_lies_on_a_machine_from_before_does_not_count(tmp_path: Path) -> None:
    one = Job(trial=toy_trial(), folders=machine(tmp_path, "one"))
    JobRun(one).step()
    other = JobRun(replace(one, folders=machine(tmp_path, "other")))
    for _ in range(3):
        other.step()
    again = steps(JobRun(one))

    assert epochs(again) == [1, 2, 3, 4]
    assert (one.folders.workspace(one.trial.id) / "state.pt").is_file()


def test_a_checkpoint_that_one_machine_kept_starts_a_trial_on_another(tmp_path: Path) -> None:
    start = Job(trial=toy_trial(), folders=machine(tmp_path, "one"), keeps_checkpoint=True)
    ended = steps(JobRun(start))[-1]
    assert isinstance(ended, Finished)
    other = machine(tmp_path, "other")
    follower = Job(trial=toy_trial(seed=1), folders=other, start_checkpoint=ended.checkpoint)

    assert isinstance(steps(JobRun(follower))[-1], Finished)
    assert ended.checkpoint is not None and other.checkpoint(ended.checkpoint).is_file()


def test_a_checkpoint_that_a_machine_cannot_see_is_named_with_the_machine(tmp_path: Path) -> None:
    alone = replace(machine(tmp_path, "one"), remote=None)
    ended = JobRun(Job(trial=toy_trial(), folders=alone, start_checkpoint="a" * 64)).step()

    assert isinstance(ended, Failed)
    assert "not seen on" in ended.reason and "--workspaces" in ended.reason


def test_a_whole_sweep_leaves_its_checkpoints_and_logs_at_the_url(tmp_path: Path) -> None:
    url = (tmp_path / "there").as_uri()
    options = RunOptions(store=str(tmp_path / "store.db"), mlflow=None, executor="local", work=url)
    sweep = toy_sweep(FIXED, acting("well"), task=STARTED, confirm=Confirm(seeds=(0,)))
    report = run_sweep(toy_plan(sweep), options, observe=lambda progress: None)
    trials = ask_store(tmp_path, "SELECT id FROM trials")
    kept = list((tmp_path / "there" / "artifacts" / "checkpoints").iterdir())
    logs = list((tmp_path / "there" / "logs").iterdir())

    assert report.trials_failed == 0
    assert len(logs) == len(trials) and len(kept) == len(trials)
    assert list((tmp_path / "there" / "workspaces").iterdir()) == []
    assert not any(path.name.endswith(".part") for path in (tmp_path / "there").rglob("*"))


def test_half_a_file_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = Remote((tmp_path / "there").as_uri())
    (tmp_path / "whole").write_text("whole", encoding="utf-8")

    def break_off(*_: object) -> None:
        raise OSError("the line went dead")

    monkeypatch.setattr(remote._files, "mv", break_off)
    with pytest.raises(OSError, match="went dead"):
        remote.put(tmp_path / "whole", "a/b")

    assert not remote.has("a/b")
    remote.get_folder("a", tmp_path / "back")
    assert not (tmp_path / "back").exists() or list((tmp_path / "back").iterdir()) == []


def test_a_url_that_cannot_be_opened_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--workspaces nowhere://bucket"):
        folders_of(str(tmp_path / "store.db"), "nowhere://bucket")


def test_workspaces_that_cannot_be_written_are_said_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    options = RunOptions(
        store=str(tmp_path / "store.db"),
        mlflow=None,
        executor="local",
        work=str(tmp_path / "file"),
    )
    with pytest.raises(InputError, match="cannot be written"):
        run_sweep(toy_plan(toy_sweep(FIXED)), options, observe=lambda progress: None)
