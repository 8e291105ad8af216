"""Faults of servers: PostgreSQL restarted or standing still, MLflow stopped, S3 out of reach."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psycopg
from mlflow import MlflowClient
from tests.bitsweep_suite.clusters import free_ports
from tests.faults.scene import Fault, Result, Scene, Unavailable
from tests.faults.site import Site
from tests.object_store import object_store
from tests.postgres import NoPostgres, processes_of, running_server

from bitsweep.run import ANSWER_SECONDS

START_SECONDS = 180.0  # of an MLflow server on a busy machine


def postgres(scene: Scene) -> Result:
    """PostgreSQL is restarted: the driver keeps a journal meanwhile and goes on."""
    site, url = _on_postgres(scene)
    driver = site.start()
    moment = site.wait_for_moment()
    _restart(url)
    code, said = site.finish(driver)
    assert code == 0, (code, said[-2000:])
    return Result(moment=moment, verdict=site.complete(), note="went on by itself")


def postgres_frozen(scene: Scene) -> Result:
    """Every process of PostgreSQL stands still for a while: connections stay, no answer comes."""
    site, url = _on_postgres(scene)
    data = _data_of(url)
    driver = site.start()
    moment = site.wait_for_moment()
    scene.closing.callback(_signal, data, signal.SIGCONT)
    _signal(data, signal.SIGSTOP)
    seconds = ANSWER_SECONDS + scene.random.uniform(2.0, 10.0)
    time.sleep(seconds)
    _signal(data, signal.SIGCONT)
    code, said = site.finish(driver)
    found = ["the server has been silent" in said, "the store is back" in said]
    assert (code, found) == (0, [True, True]), (code, said[-2000:])
    note = f"went on by itself after {seconds:.0f} s"
    return Result(moment=moment, verdict=site.complete(), note=note)


def object_store_away(scene: Scene) -> Result:
    """The line to the object store of the workspaces is cut for a while: trials wait."""
    bucket = scene.closing.enter_context(object_store())  # nodes that start now know its address
    site = scene.site(cluster=scene.own_cluster())
    site.words = ("--workspaces", f"{bucket.url}/sweep")
    driver = site.start()
    moment = site.wait_for_moment()
    seconds = scene.random.uniform(2.0, 10.0)
    bucket.cut()
    time.sleep(seconds)
    bucket.mend()
    code, said = site.finish(driver)
    assert code == 0, (code, said[-2000:])
    note = f"went on by itself after {seconds:.0f} s"
    return Result(moment=moment, verdict=site.complete(), note=note)


def _on_postgres(scene: Scene) -> tuple[Site, str]:
    """A site whose store is a server; its address."""
    try:
        url = scene.closing.enter_context(running_server())
    except NoPostgres as reason:
        raise Unavailable(str(reason)) from reason
    site = scene.site()
    site.store = url
    return site, url


def _data_of(url: str) -> Path:
    with psycopg.connect(url) as connection:
        found = connection.execute("SHOW data_directory").fetchone()
        assert found is not None  # SHOW has an answer
    data = Path(str(found[0]))
    if not data.is_dir():
        raise Unavailable("the PostgreSQL server that was given is not of this machine")
    return data


def _signal(data: Path, number: int) -> None:
    for process in processes_of(data):
        os.kill(process, number)


def _restart(url: str) -> None:
    data = _data_of(url)
    tools = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not tools:
        raise Unavailable("the PostgreSQL server that was given cannot be restarted from here")
    restart = [str(tools[-1]), "-D", str(data), "-w", "-m", "immediate", "restart"]
    prefix = ["runuser", "-u", data.owner(), "--"] if os.getuid() == 0 else []
    quiet = subprocess.DEVNULL
    subprocess.run([*prefix, *restart], check=True, cwd=data, stdout=quiet, stderr=quiet)


def mlflow(scene: Scene) -> Result:
    """The tracking server is killed: the sweep is unharmed, and the mirror catches up later."""
    port = free_ports(1)[0]
    uri = f"http://127.0.0.1:{port}"
    site = scene.site()
    site.mlflow = uri
    with _tracking_server(scene.folder / "mlflow.db", port):
        driver = site.start()
        moment = site.wait_for_moment()
    code, said = site.finish(driver)
    assert code == 0 and "MLflow lags behind" in said, (code, said[-2000:])
    with _tracking_server(scene.folder / "mlflow.db", port):
        caught_up = site.bitsweep("mirror", "toy", "--store", site.store, "--mlflow", uri)
        assert caught_up.returncode == 0, caught_up.stderr
        verdict = site.complete()
        runs = _runs(uri)
    assert sorted(runs.values()) == ["FINISHED"] * verdict.trials, runs
    return Result(moment=moment, verdict=verdict, note=f"{len(runs)} runs in MLflow")


@contextmanager
def _tracking_server(database: Path, port: int) -> Iterator[None]:
    """MLflow's server over HTTP, killed at the end."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--backend-store-uri", f"sqlite:///{database}"]
    command += ["--workers", "1"]
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(
        command, stdout=quiet, stderr=quiet, start_new_session=True, cwd=database.parent
    )
    try:
        _wait_until_up(f"http://127.0.0.1:{port}/health", server)
        yield
    finally:
        _kill_group(server)


def _wait_until_up(url: str, server: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            with urlopen(url, timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"MLflow's server did not come up: {server.poll()}")


def _kill_group(server: "subprocess.Popen[bytes]") -> None:
    """The server with its workers; they are in a session that was made for them."""
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def _runs(uri: str) -> dict[str, str]:
    """The status of each run of a trial, by the trial; a second run of one is an error."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("toy")
    assert experiment is not None  # the mirror made it
    found: dict[str, str] = {}
    for run in client.search_runs([experiment.experiment_id], max_results=1000):
        trial = run.data.tags.get("bitsweep.trial")
        assert trial not in found, f"two runs of trial {trial}"
        if trial is not None:
            found[trial] = run.info.status
    return found


FAULTS = (
    Fault(name="postgres", means="PostgreSQL restarted in mid-sweep", strikes=postgres),
    Fault(
        name="postgres-frozen",
        means="PostgreSQL stands still, with its connections open",
        strikes=postgres_frozen,
    ),
    Fault(name="mlflow", means="MLflow server killed in mid-sweep", strikes=mlflow),
    Fault(
        name="object-store",
        means="S3 with the workspaces out of reach in mid-sweep",
        strikes=object_store_away,
    ),
)
