"""The mirror over HTTP: a real `mlflow server`, searched, with files, registry and outages."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from tests.bitsweep_suite import plugin
from tests.bitsweep_suite.toys import (
    FIXED,
    SEARCHED,
    STARTED,
    ask_store,
    counts,
    run_toy,
    toy_sweep,
)
from tests.mlflow_server import MlflowServer

from bitsweep.execution.progress import Progress
from bitsweep.sweep import Search

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore")]
SWEEP = toy_sweep(
    FIXED, SEARCHED, task=STARTED, search=Search(configurations_per_arm=2), name="served"
)
GUIDE = Path(__file__).parents[2] / "docs" / "user-guide.md"


@pytest.fixture(scope="module")
def server() -> Iterator[MlflowServer]:
    """A server that tests may stop, if they start it again."""
    started = MlflowServer()
    yield started
    started.close()


@pytest.fixture(scope="module")
def folder(server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that ran while the server was there."""
    made = tmp_path_factory.mktemp("served")
    report = run_toy(SWEEP, made, mlflow=server.url)
    assert report.mirror_lag is None and report.trials_failed == 0
    return made


def found(server: MlflowServer, sweep: str, filter_string: str = "") -> list[Any]:
    """The runs of an experiment."""
    client = MlflowClient(tracking_uri=server.url)
    experiment = client.get_experiment_by_name(sweep)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], filter_string, max_results=1000))


def trials(runs: list[Any]) -> dict[str, Any]:
    """Those of trials, by trial and stage."""
    return {
        f"{run.data.tags['bitsweep.trial']}/{run.data.tags['bitsweep.stage']}": run
        for run in runs
        if "bitsweep.trial" in run.data.tags
    }


def read(server: MlflowServer, run: Any, name: str, folder: Path) -> Any:
    """A file of a run, brought through the server."""
    client = MlflowClient(tracking_uri=server.url)
    path = client.download_artifacts(run.info.run_id, name, str(folder))
    text = Path(path).read_text(encoding="utf-8")
    return json.loads(text) if name.endswith(".json") else text


def assert_whole(server: MlflowServer, folder: Path, sweep: str) -> None:
    """Every trial is one run, ended as it should, with params and each epoch once."""
    runs = trials(found(server, sweep))
    rows = ask_store(
        folder,
        "SELECT m.trial_id, m.stage, t.epochs FROM memberships m JOIN trials t ON t.id = "
        f"m.trial_id JOIN sweeps s ON s.id = m.sweep_id WHERE s.name = '{sweep}'",
    )
    client = MlflowClient(tracking_uri=server.url)

    assert set(runs) == {f"{trial}/{stage}" for trial, stage, _ in rows}
    assert len(runs) == len([one for one in found(server, sweep) if one.data.params])
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for trial, stage, epochs in rows:
        run = runs[f"{trial}/{stage}"]
        (key,) = [one for one in run.data.metrics if one.startswith("validation/top1")]
        history = client.get_metric_history(run.info.run_id, key)
        assert [point.step for point in history] == list(range(1, epochs + 1))


def test_a_served_mirror_shows_every_trial_once(server: MlflowServer, folder: Path) -> None:
    assert_whole(server, folder, "served")


def documented() -> list[str]:
    """The filter strings of the user guide, for the toy instead of LSQ, which is less accurate."""
    section = GUIDE.read_text(encoding="utf-8").partition("**Finding runs.**")[2]
    block = section.partition("```text\n")[2].partition("```")[0]
    return [
        line.replace("'lsq'", "'toy'").replace("> 80", "> 61.5") for line in block.splitlines()
    ]


def test_the_documented_filters_find_what_the_store_would(
    server: MlflowServer, folder: Path
) -> None:
    by_method, by_bits, by_objective = documented()
    member = "SELECT DISTINCT m.trial_id || '/' || m.stage FROM memberships m JOIN trials t "
    member += "ON t.id = m.trial_id "
    score = "JOIN results r ON r.trial_id = t.id AND r.stage = m.stage "
    expected = {
        by_method: "WHERE t.method = 'toy' AND m.stage = 'confirm'",
        by_bits: "WHERE t.bits = 'w3a3' AND t.seed = 0",
        by_objective: f"{score} WHERE r.allocation = 'w3a3' AND r.split = 'validation' "
        "AND r.top1_percent > 61.5 AND m.stage = 'search'",
    }

    for filter_string, where in expected.items():
        wanted = {key for (key,) in ask_store(folder, member + where)}
        assert set(trials(found(server, "served", filter_string))) == wanted != set()


def test_files_of_the_sweep_lie_with_its_run(
    server: MlflowServer, folder: Path, tmp_path: Path
) -> None:
    (run,) = found(server, "served", "tags.\"bitsweep.arm_run\" = 'the sweep'")

    assert read(server, run, "sweep.toml", tmp_path) == SWEEP.text
    assert "w3a3" in read(server, run, "table.md", tmp_path)
    assert {row["arm"] for row in read(server, run, "table.json", tmp_path)} >= {"fixed", "a"}


def test_a_confirmed_trial_tells_its_layers_and_its_checkpoint(
    server: MlflowServer, folder: Path, tmp_path: Path
) -> None:
    runs = trials(found(server, "served", "tags.\"bitsweep.stage\" = 'confirm'"))
    checkpoints = counts(ask_store(folder, "SELECT trial_id, checkpoint FROM outcomes"))

    assert runs
    for key, run in runs.items():
        (one,) = read(server, run, "layers.json", tmp_path)
        assert one["allocation"] == run.data.tags["bitsweep.bits"]
        assert [layer["name"] for layer in one["layers"]] == ["stem", "body", "head"]
        told = read(server, run, "checkpoint.json", tmp_path)
        assert told["sha256"] == checkpoints[key.partition("/")[0]]
        assert Path(told["location"]).is_file()


def test_a_rebuild_over_http_shows_what_was_shown(server: MlflowServer, folder: Path) -> None:
    before = {key: run.data.metrics for key, run in trials(found(server, "served")).items()}
    old = {run.info.run_id for run in found(server, "served")}
    plugin.install(folder)
    where = ("--store", str(folder / "store.db"), "--mlflow", server.url)
    done = plugin.bitsweep(folder, "mirror", "served", "--rebuild", *where)
    runs = found(server, "served")

    assert done.returncode == 0, done.stderr
    assert {key: run.data.metrics for key, run in trials(runs).items()} == before
    assert old.isdisjoint(run.info.run_id for run in runs)
    assert_whole(server, folder, "served")


def test_confirmed_networks_are_registered_once_on_request(
    server: MlflowServer, folder: Path, tmp_path: Path
) -> None:
    where = ("--store", str(folder / "store.db"), "--mlflow", server.url)
    done = plugin.bitsweep(folder, "mirror", "served", "--register", "fixed", *where)
    again = plugin.bitsweep(folder, "mirror", "served", "--register", "fixed", *where)
    wrong = plugin.bitsweep(folder, "mirror", "served", "--register", "fixd", *where)
    client = MlflowClient(tracking_uri=server.url)
    versions = client.search_model_versions("name = 'served.fixed'")

    assert done.returncode == 0, done.stderr
    assert again.stdout.count("stands as") == len(versions) == 4
    assert {(one.tags["bitsweep.bits"], one.tags["bitsweep.seed"]) for one in versions} == {
        (bits, seed) for bits in ("w2a2", "w3a3") for seed in ("0", "1")
    }
    for one in versions:
        file = client.download_artifacts(one.run_id, "model", str(tmp_path))
        assert [path.stem for path in Path(file).iterdir() if path.stem in str(one.tags)]
    assert wrong.returncode == 2 and "it has: a, fixed, start" in wrong.stderr


def test_a_server_that_was_away_in_mid_sweep_is_caught_up(
    server: MlflowServer, tmp_path: Path
) -> None:
    sweep = toy_sweep(FIXED, task=STARTED, name="away")
    done: set[str] = set()

    def observe(progress: Progress) -> None:
        if progress.measurements >= 5 and "stopped" not in done:
            done.add("stopped")
            server.stop()
        if progress.measurements >= 12 and "started" not in done:
            done.add("started")
            server.start()

    report = run_toy(sweep, tmp_path, mlflow=server.url, observe=observe)

    assert done == {"stopped", "started"}
    assert (report.mirror_lag, report.trials_failed) == (None, 0)
    assert_whole(server, tmp_path, "away")


def test_a_server_that_stays_away_is_caught_up_by_the_command(
    server: MlflowServer, tmp_path: Path
) -> None:
    sweep = toy_sweep(FIXED, name="later")
    plugin.install(tmp_path)
    where = ("--store", str(tmp_path / "store.db"), "--mlflow", server.url)
    server.stop()
    try:
        report = run_toy(sweep, tmp_path, mlflow=server.url)
        down = plugin.bitsweep(tmp_path, "mirror", *where)
    finally:
        server.start()
    done = plugin.bitsweep(tmp_path, "mirror", *where)

    assert report.trials_failed == 0 and report.mirror_lag is not None
    assert (down.returncode, down.stderr.count("\n")) == (2, 1)
    assert done.returncode == 0, done.stderr
    assert_whole(server, tmp_path, "later")
