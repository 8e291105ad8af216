"""Workspaces at a URL: two machines that share nothing but what fsspec carries.

Each URL is a folder once, and once a bucket of a server that speaks S3 (moto), in a process of its
own.
"""

import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
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
from tests.object_store import ObjectStore, object_store

from bitsweep.errors import InputError, UrlAway
from bitsweep.execution.base import Folders, Job
from bitsweep.execution.cohort import Cohort
from bitsweep.execution.worker import JobRun
from bitsweep.run import RunOptions, folders_of, run_sweep
from bitsweep.store.remote import Remote
from bitsweep.sweep import Confirm
from bitsweep.trial import Failed, Finished, Interrupted


@pytest.fixture(scope="module")
def bucket() -> Iterator[ObjectStore]:
    with object_store() as found:
        yield found


@pytest.fixture(params=["file", "s3"])
def there(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A URL with nothing below it."""
    if request.param == "file":
        return (tmp_path / "there").as_uri()
    return f"{request.getfixturevalue('bucket').url}/{uuid4().hex}"


def files_at(url: str) -> list[str]:
    """Names of all files below a URL, relative to it, as another machine finds them."""
    files, root = elsewhere(url)
    return sorted(path[len(root) :].lstrip("/") for path in files.find(root))


def elsewhere(url: str) -> tuple[Any, str]:
    """What another machine has to read a URL with, and the URL's place in it."""
    return fsspec.url_to_fs(url, skip_instance_cache=True)  # type: ignore[no-any-return]


def machine(folder: Path, name: str, there: str) -> Folders:
    """A machine's folders; the URL is the same for all."""
    here = folder / name
    return Folders(
        workspaces=here / "workspaces",
        artifacts=here / "artifacts" / "checkpoints",
        logs=here / "logs",
        remote=there,
    )


def test_a_trial_goes_on_on_another_machine(tmp_path: Path, there: str) -> None:
    one = Job(trial=toy_trial(), folders=machine(tmp_path, "one", there))
    first = JobRun(one)
    known = [first.step(), first.step()]
    other = JobRun(replace(one, folders=machine(tmp_path, "other", there)))
    found = steps(other)
    log = one.folders.log_text(one.trial.id)

    assert found[:2] == known and epochs(found) == [1, 2, 3, 4]
    assert found[-1] == Finished(epoch=4)
    assert log is not None and log.count('"event": "started"') == 2
    assert log.count('"event": "evaluated"') == 4


def test_seeds_trained_together_go_on_on_another_machine(tmp_path: Path, there: str) -> None:
    trials = [toy_trial(seed=seed, is_grouped=True) for seed in range(2)]
    here, other = (machine(tmp_path, name, there) for name in ("one", "other"))
    first = Cohort([Job(trial=one, folders=here) for one in trials])
    known = [first.step(), first.step()]
    second = Cohort([Job(trial=one, folders=other) for one in trials])
    found = [second.step() for _ in range(5)]

    assert found[:2] == known and second.is_over
    assert [[getattr(step, "epoch", 0) for _, step in one] for one in found] == [
        [epoch, epoch] for epoch in (1, 2, 3, 4, 4)
    ]
    assert [step for _, step in found[-1]] == [Finished(epoch=4)] * 2


def test_what_lies_on_a_machine_from_before_does_not_count(tmp_path: Path, there: str) -> None:
    one = Job(trial=toy_trial(), folders=machine(tmp_path, "one", there))
    JobRun(one).step()
    other = JobRun(replace(one, folders=machine(tmp_path, "other", there)))
    for _ in range(3):
        other.step()
    again = steps(JobRun(one))

    assert epochs(again) == [1, 2, 3, 4]
    assert (one.folders.workspace(one.trial.id) / "state.pt").is_file()


def test_a_checkpoint_that_one_machine_kept_starts_a_trial_on_another(
    tmp_path: Path, there: str
) -> None:
    start = Job(trial=toy_trial(), folders=machine(tmp_path, "one", there), keeps_checkpoint=True)
    ended = steps(JobRun(start))[-1]
    assert isinstance(ended, Finished)
    other = machine(tmp_path, "other", there)
    follower = Job(trial=toy_trial(seed=1), folders=other, start_checkpoint=ended.checkpoint)

    assert isinstance(steps(JobRun(follower))[-1], Finished)
    assert ended.checkpoint is not None and other.checkpoint(ended.checkpoint).is_file()


def test_a_damaged_copy_of_a_checkpoint_is_brought_anew(tmp_path: Path, there: str) -> None:
    start = Job(trial=toy_trial(), folders=machine(tmp_path, "one", there), keeps_checkpoint=True)
    ended = steps(JobRun(start))[-1]
    assert isinstance(ended, Finished) and ended.checkpoint is not None
    path = start.folders.checkpoint(ended.checkpoint)
    path.write_bytes(b"damaged")

    assert start.folders.find_checkpoint(ended.checkpoint) == path
    assert not start.folders.is_damaged(ended.checkpoint)


def test_a_checkpoint_that_a_machine_cannot_see_is_named_with_the_machine(tmp_path: Path) -> None:
    alone = replace(machine(tmp_path, "one", "file:///nowhere"), remote=None)
    ended = JobRun(Job(trial=toy_trial(), folders=alone, start_checkpoint="a" * 64)).step()

    assert isinstance(ended, Failed)
    assert "not seen on" in ended.reason and "--workspaces" in ended.reason


def test_a_whole_sweep_leaves_its_checkpoints_and_logs_at_the_url(
    tmp_path: Path, there: str
) -> None:
    store = str(tmp_path / "store.db")
    options = RunOptions(store=store, mlflow=None, executor="local", work=there)
    sweep = toy_sweep(FIXED, acting("well"), task=STARTED, confirm=Confirm(seeds=(0,)))
    report = run_sweep(toy_plan(sweep), options, observe=lambda progress: None)
    trials = ask_store(tmp_path, "SELECT id FROM trials")
    found = files_at(there)
    kept = [name for name in found if name.startswith("artifacts/checkpoints/")]
    logs = [name for name in found if name.startswith("logs/")]

    assert report.trials_failed == 0
    assert len(logs) == len(trials) and len(kept) == len(trials)
    assert sorted(kept + logs) == found  # no workspace, no half of a file


def test_what_another_machine_left_since_is_seen(tmp_path: Path, there: str) -> None:
    remote, (files, root) = Remote(there), elsewhere(there)
    (tmp_path / "first").write_text("first", encoding="utf-8")
    remote.put(tmp_path / "first", "trial/first")
    remote.get_folder("trial", tmp_path / "here")
    files.pipe_file(f"{root}/trial/second", b"second")
    files.pipe_file(f"{root}/trial/first", b"first again")

    assert remote.read("trial/second") == "second"
    assert remote.get("trial/second", tmp_path / "second")
    assert remote.tail("trial/first", num_bytes=5) == b"again"
    remote.get_folder("trial", tmp_path / "here")
    assert (tmp_path / "here" / "second").read_text(encoding="utf-8") == "second"
    assert (tmp_path / "here" / "first").read_text(encoding="utf-8") == "first again"
    remote.remove("trial")
    assert files_at(there) == []
    assert remote.read("trial/second") is None
    assert not remote.get("trial/second", tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_half_a_file_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = Remote((tmp_path / "there").as_uri())
    (tmp_path / "whole").write_text("whole", encoding="utf-8")

    def break_off(*_: object) -> None:
        raise OSError("the line went dead")

    monkeypatch.setattr(remote._files, "mv", break_off)
    with pytest.raises(UrlAway, match="went dead"):
        remote.put(tmp_path / "whole", "a/b")

    assert remote.read("a/b") is None
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


@pytest.mark.parametrize("is_writable", [True, False])
def test_journals_are_kept_where_a_restart_leaves_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_writable: bool
) -> None:
    state = tmp_path / "state"
    if not is_writable:
        state.write_text("a file, no folder", encoding="utf-8")
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    url = (tmp_path / "there").as_uri()
    folders = folders_of(str(tmp_path / "store.db"), url)
    other = folders_of(str(tmp_path / "store.db"), f"{url}/else")

    assert folders.journals.is_relative_to(state if is_writable else tmp_path / "tmp")
    assert folders.workspaces.is_relative_to(tmp_path / "tmp")
    assert folders.journals != other.journals


def test_a_bucket_that_is_not_there_is_said_and_not_made(
    tmp_path: Path, bucket: ObjectStore
) -> None:
    options = RunOptions(
        store=str(tmp_path / "store.db"), mlflow=None, executor="local", work="s3://misspelt/here"
    )
    with pytest.raises(InputError, match="--workspaces: s3://misspelt/here cannot be reached"):
        run_sweep(toy_plan(toy_sweep(FIXED)), options, observe=lambda progress: None)

    assert elsewhere(bucket.url)[0].ls("") == [bucket.url.removeprefix("s3://")]


def test_a_short_outage_is_waited_for(tmp_path: Path, bucket: ObjectStore) -> None:
    job = Job(trial=toy_trial(), folders=machine(tmp_path, "one", f"{bucket.url}/short"))
    run = JobRun(job)
    known = run.step()
    bucket.cut()
    threading.Timer(2.0, bucket.mend).start()
    found = [known, *steps(run)]

    assert epochs(found) == [1, 2, 3, 4] and isinstance(found[-1], Finished)
    assert epochs(steps(JobRun(job))) == [1, 2, 3, 4]


def test_a_long_outage_interrupts_a_trial_that_goes_on_later(
    tmp_path: Path, bucket: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitsweep.execution.worker.REMOTE_PATIENCE_SECONDS", 0.5)
    url = f"{bucket.url}/long"
    job = Job(trial=toy_trial(), folders=machine(tmp_path, "one", url))
    run = JobRun(job)
    run.step()
    bucket.cut()
    ended, at_once = run.step(), JobRun(job).step()
    bucket.mend()

    for step in (ended, at_once):
        assert isinstance(step, Interrupted) and f"{url} cannot be reached" in step.reason
    assert epochs(steps(JobRun(job))) == [1, 2, 3, 4]
