"""MLflow shows what the store holds: every trial a run, every measurement a metric."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from tests.bitsweep_suite.toys import FIXED, SEARCHED, acting, ask_store, run_toy, toy_sweep

from bitsweep.errors import BitsweepError
from bitsweep.store.database import open_to_read, open_to_write
from bitsweep.store.reader import Reader
from bitsweep.sweep import Search
from bitsweep.tracking.mlflow_mirror import MlflowMirror

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow warns of its own parts
SWEEP = toy_sweep(FIXED, SEARCHED, acting("raise"), search=Search(configurations_per_arm=2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that ran with a mirror beside it: the first database of MLflow takes seconds."""
    made = tmp_path_factory.mktemp("mirror")
    report = run_toy(SWEEP, made, mlflow=uri(made))
    assert report.mirror_lag is None
    return made


@pytest.fixture
def reader(folder: Path) -> Iterator[Reader]:
    """The store of that sweep."""
    opened = Reader(open_to_read(str(folder / "store.db")))
    yield opened
    opened.close()


def uri(folder: Path) -> str:
    """MLflow's own database beside the store."""
    return f"sqlite:///{folder / 'mlflow.db'}"


def runs(folder: Path, sweep: str = "toy") -> dict[str, Any]:
    """The runs of trials by trial and arm."""
    client = MlflowClient(tracking_uri=uri(folder))
    experiment = client.get_experiment_by_name(sweep)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    return {
        f"{run.data.tags['bitsweep.trial']}/{run.data.tags['bitsweep.stage']}": run
        for run in found
        if "bitsweep.trial" in run.data.tags
    }


def shown(folder: Path, sweep: str = "toy") -> dict[str, Any]:
    """What a reader of MLflow sees of each trial."""
    return {
        key: (run.info.status, run.data.metrics, run.data.params)
        for key, run in runs(folder, sweep).items()
    }


def test_every_trial_is_one_run(folder: Path) -> None:
    trials = ask_store(
        folder,
        "SELECT DISTINCT m.trial_id, m.stage FROM memberships m JOIN attempts a "
        "ON a.trial_id = m.trial_id",
    )

    assert set(runs(folder)) == {f"{trial}/{stage}" for trial, stage in trials}


def test_a_run_has_the_tags_by_which_it_is_found(folder: Path) -> None:
    rows = ask_store(
        folder,
        "SELECT t.id, m.stage, a.name, t.method, t.bits, t.seed FROM trials t "
        "JOIN memberships m ON m.trial_id = t.id JOIN arms a ON a.id = m.arm_id "
        "JOIN outcomes o ON o.trial_id = t.id",
    )
    found = runs(folder)

    for trial, stage, arm, method, bits, seed in rows:
        tags = found[f"{trial}/{stage}"].data.tags
        told = [tags[f"bitsweep.{name}"] for name in ("arm", "method", "bits", "seed")]
        assert told == [arm, method, bits, str(seed)]
        assert tags["bitsweep.sweep_digest"] and tags["mlflow.parentRunId"]


def test_a_metric_is_named_by_split_metric_and_bits(folder: Path) -> None:
    rows = ask_store(
        folder, "SELECT trial_id, stage, split, allocation, top1_percent FROM results"
    )
    found = runs(folder)

    assert rows
    for trial, stage, split, allocation, percent in rows:
        metrics = found[f"{trial}/{stage}"].data.metrics
        assert metrics[f"{split}/top1_percent/{allocation}"] == percent


def test_each_epoch_is_a_step_of_its_metric(folder: Path) -> None:
    run = next(one for one in runs(folder).values() if one.data.tags["bitsweep.arm"] == "fixed")
    bits = run.data.tags["bitsweep.bits"]
    history = MlflowClient(tracking_uri=uri(folder)).get_metric_history(
        run.info.run_id, f"validation/top1_percent/{bits}"
    )

    assert [point.step for point in history] == [1, 2, 3, 4]


def test_a_run_ends_as_its_trial_did(folder: Path) -> None:
    by_arm = {
        run.data.tags["bitsweep.arm"]: (run.info.status, run.data.tags["bitsweep.reason"])
        for run in runs(folder).values()
    }

    assert by_arm["fixed"] == ("FINISHED", "")
    assert by_arm["bad"] == ("FAILED", "RuntimeError: the toy was told to fail")


def test_only_what_never_changes_is_a_param(folder: Path) -> None:
    run = next(one for one in runs(folder).values() if one.data.tags["bitsweep.arm"] == "fixed")

    assert run.data.params["x"] == "0.25" and "epoch" not in run.data.params


def test_catching_up_again_changes_nothing(folder: Path, reader: Reader) -> None:
    before = shown(folder)
    touched = MlflowMirror(reader, uri(folder)).catch_up("toy")

    assert (touched, shown(folder)) == (0, before)


def test_a_mirror_that_was_dead_catches_up(folder: Path) -> None:
    run_toy(toy_sweep(FIXED, acting("well", name="more"), name="later"), folder, mlflow=None)
    reader = Reader(open_to_read(str(folder / "store.db")))
    mirror = MlflowMirror(reader, uri(folder))
    touched = mirror.catch_up("later")
    reader.close()

    assert touched == len(runs(folder, "later")) == 8


def test_a_rebuilt_mirror_shows_what_it_showed(folder: Path, reader: Reader) -> None:
    before = shown(folder)
    MlflowMirror(reader, uri(folder)).rebuild("toy")

    assert shown(folder) == before


def journal(connection: Any) -> tuple[str, int]:
    """How a SQLite connection commits: its journal, and 1 for NORMAL or 2 for FULL syncs."""
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    return str(mode), int(connection.execute("PRAGMA synchronous").fetchone()[0])


def test_only_a_database_that_the_mirror_made_spares_syncs(tmp_path: Path) -> None:
    own = tmp_path / "own.db"
    with closing(sqlite3.connect(own)) as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
    writer = open_to_write(str(tmp_path / "store.db"))
    for file, expected in ((tmp_path / "made.db", ("wal", 1)), (own, ("delete", 2))):
        mirror = MlflowMirror(
            Reader(open_to_read(str(tmp_path / "store.db"))), f"sqlite:///{file}"
        )
        with mirror._client._tracking_client.store.engine.connect() as mlflows:
            assert journal(mlflows.connection.driver_connection) == expected
    writer.dispose()
    with writer.connect() as ours:
        assert journal(ours.connection.driver_connection) == ("wal", 2)


def test_a_server_that_is_down_is_told_in_one_line(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    with pytest.raises(BitsweepError, match=r"MLflow at http://127\.0\.0\.1:1: ") as raised:
        MlflowMirror(reader, "http://127.0.0.1:1").catch_up("toy")
    assert "\n" not in str(raised.value)


def test_a_run_goes_on_without_its_mirror_and_says_so(tmp_path: Path) -> None:
    report = run_toy(toy_sweep(FIXED), tmp_path, mlflow="http://127.0.0.1:1")

    assert report.trials_failed == 0 and report.mirror_lag
