"""Sweeps submitted to a real Ray cluster of three nodes on loopback, with token authentication."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.bitsweep_suite import plugin
from tests.bitsweep_suite.clusters import LoopbackCluster
from tests.bitsweep_suite.toys import ask_store

from bitsweep.errors import StoreError

pytestmark = pytest.mark.real
SLOW = plugin.fixed_that("slow")
OVER_TWO_NODES = """schema = 1
name = "over-two-nodes"
question = "Does a trial train over two nodes?"
reproduces = "nothing"
expects = "it does"
cost = "a minute"

[task]
data = "fashion-mnist-6k"
model = "lenet5"
epochs = 1
bits = [4]
batch_size = 512

[[arms]]
name = "lsq"
method = "lsq"

[[objectives]]
at = "all"

[confirm]
seeds = [0]

[resources]
workers_per_trial = 2
placement = "strict_spread"
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[LoopbackCluster]:
    """Three nodes of one CPU each."""
    started = LoopbackCluster()
    try:
        started.add_node()
        started.add_node()
        yield started
    finally:
        started.close()


class User:
    """Somebody with a folder, a plug-in, a sweep file and an account on the cluster."""

    def __init__(self, folder: Path, cluster: LoopbackCluster, *, text: str) -> None:
        plugin.install(folder, text)
        self.folder, self.cluster = folder, cluster
        self.store = folder / "kept" / "store.db"

    def run(self, *arguments: str, shows_logs: bool = False, **changes: str) -> Any:
        """A command; the cluster in its environment."""
        settings: Any = {
            "RAY_API_SERVER_ADDRESS": self.cluster.address,
            **self.cluster.environment,
            **changes,
        }
        return plugin.bitsweep(
            self.folder,
            *arguments,
            timeout=300,
            shows_logs=shows_logs,
            **settings,
        )

    def submit(self, *arguments: str, **changes: str) -> Any:
        """Submit the sweep with the store in a folder that stays."""
        kept = ("--store", str(self.store), "--persistent")
        words = ("submit", "toy.toml", *kept, *arguments)
        return self.run(*words, shows_logs=False, **changes)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of the job's store; none while it is being made."""
        try:
            return ask_store(self.store.parent, sql)
        except StoreError:
            return []

    def wait_for(self, sql: str, *, seconds: float = 120) -> None:
        """Until the query has an answer."""
        end = time.monotonic() + seconds
        while not self.ask(sql):
            assert time.monotonic() < end, f"never true: {sql}"
            time.sleep(0.2)

    def assert_whole(self) -> None:
        """Every trial finished, every evaluation once, nothing claimed or in conflict."""
        assert self.ask("SELECT DISTINCT status FROM outcomes") == [("finished",)]
        doubled = "SELECT trial_id, epoch FROM evaluations GROUP BY 1, 2 HAVING COUNT(*) > 1"
        missing = (
            "SELECT t.id FROM trials t WHERE t.epochs <> "
            "(SELECT COUNT(*) FROM evaluations e WHERE e.trial_id = t.id)"
        )
        left = [self.ask(f"SELECT * FROM {name}") for name in ("claims", "conflicts")]
        assert (self.ask(doubled), self.ask(missing), left) == ([], [], [[], []])


@pytest.fixture
def user(tmp_path: Path, cluster: LoopbackCluster) -> User:
    """A user with the quick toy sweep."""
    return User(tmp_path, cluster, text=plugin.SWEEP)


@pytest.fixture
def patient(tmp_path: Path, cluster: LoopbackCluster) -> User:
    """A user whose trials take seconds."""
    return User(tmp_path, cluster, text=SLOW)


def job_of(done: Any) -> str:
    """The id that a submission printed."""
    found = re.search(r"submitted as (\S+)", done.stderr)
    assert found is not None, done.stderr
    return found.group(1)


def test_a_submitted_sweep_runs_to_its_end_and_its_log_is_followed(user: User) -> None:
    done = user.submit()
    job = job_of(done)
    row = json.loads(user.run("status", job, "--json").stdout)
    again = user.run("logs", job)

    assert done.returncode == 0, done.stderr + done.stdout
    user.assert_whole()
    assert "measurements written" in done.stdout and again.stdout in done.stdout
    assert (row["sweep"], row["status"], row["exit_code"]) == ("toy", "succeeded", 0)
    trial = user.ask("SELECT id FROM trials LIMIT 1")[0][0]
    told = user.run("logs", trial[:12], "--store", str(user.store)).stdout
    assert "started: host" in told and "ended: status finished" in told
    assert job in user.run("status").stdout


def test_the_end_of_a_job_is_told_and_whom_to_tell_is_not_kept(user: User) -> None:
    told = user.folder / "told.json"
    done = user.submit("--on-completion", f"cat > {told}")
    summary = json.loads(told.read_text(encoding="utf-8"))
    ((command,),) = user.ask("SELECT command FROM sweeps")

    assert done.returncode == summary["exit_code"] == 0, done.stderr
    assert (summary["sweep"], summary["status"]) == ("toy", "finished")
    assert command.startswith("bitsweep submit toy.toml") and "told.json" not in command


def test_a_trial_over_two_workers_trains_over_two_nodes(
    tmp_path: Path, cluster: LoopbackCluster
) -> None:
    """No node of this cluster holds two workers: gloo meets across two of them."""
    user = User(tmp_path, cluster, text=OVER_TWO_NODES)
    packed = user.submit("--set", "resources.placement=strict_pack")
    spread = user.submit()

    assert packed.returncode == 2 and "ask for less in [resources]" in packed.stdout
    assert spread.returncode == 0, spread.stderr + spread.stdout
    user.assert_whole()
    attempts = "SELECT COUNT(*) FROM attempts"
    assert user.ask(attempts) == [(1,)]


def test_a_node_that_dies_in_mid_sweep_costs_nothing_that_was_measured(patient: User) -> None:
    number = patient.cluster.add_node()
    job = job_of(patient.submit("--no-wait"))
    patient.wait_for("SELECT 1 WHERE (SELECT COUNT(*) FROM evaluations) >= 9")
    patient.cluster.kill_node(number)
    done = patient.run("logs", job, "--follow", shows_logs=True)  # Ray tells of the node at length

    assert done.returncode == 0, done.stdout + done.stderr
    patient.assert_whole()


def test_stop_lets_running_trials_end_and_a_second_submission_goes_on(patient: User) -> None:
    job = job_of(patient.submit("--no-wait"))
    patient.wait_for("SELECT 1 WHERE (SELECT COUNT(*) FROM evaluations) >= 4")
    said = patient.run("stop", job)
    followed = patient.run("logs", job, "--follow")
    ended = patient.ask("SELECT DISTINCT status FROM outcomes")
    claims = patient.ask("SELECT * FROM claims")
    again = patient.submit()

    assert said.returncode == 0 and "asked 1 driver to stop" in said.stdout, said.stderr
    assert followed.returncode == 130 and "Go on: bitsweep submit" in followed.stdout
    assert (ended, claims) == ([("finished",)], [])
    assert again.returncode == 0, again.stdout + again.stderr
    patient.assert_whole()


def test_cancel_ends_running_trials_and_gives_back_their_claims(patient: User) -> None:
    job = job_of(patient.submit("--no-wait"))
    patient.wait_for("SELECT 1 FROM claims JOIN evaluations USING (trial_id)")
    said = patient.run("cancel", job)

    assert said.returncode == 0 and "stopped" in said.stdout, said.stderr
    assert patient.ask("SELECT 1 FROM outcomes WHERE status = 'interrupted'")
    assert patient.ask("SELECT * FROM claims") == []


def test_a_request_that_no_node_can_satisfy_is_said_at_once(user: User) -> None:
    begin = time.monotonic()
    done = user.submit("--set", "resources.cpus_per_worker=64")

    assert done.returncode == 2
    assert "64 CPU" in done.stdout and "largest" in done.stdout
    assert time.monotonic() - begin < 60


def test_a_driver_on_a_laptop_sends_its_code_along(user: User) -> None:
    store = ("--store", str(user.store), "--mlflow", "none")
    done = user.run("run", "toy.toml", "--address", user.cluster.gcs_address, *store)

    assert done.returncode == 0, done.stderr
    user.assert_whole()


def test_a_wrong_token_is_one_line(user: User) -> None:
    done = user.run("status", RAY_AUTH_TOKEN="0" * 48)

    assert done.returncode == 2
    assert "refuses the token" in done.stderr


def test_an_unknown_job_is_one_line(user: User) -> None:
    name = "toy-20200101-000000-0000"
    answers = [user.run(verb, name) for verb in ("status", "logs", "stop", "cancel")]

    assert [one.returncode for one in answers] == [2, 2, 2, 2]
    assert all(f"knows no job '{name}'" in one.stderr for one in answers)
