"""Writes cluster.md: a sweep submitted to a real three-node cluster that loses a node on its way.

Three Ray nodes, a PostgreSQL and an MLflow server, all on loopback, started and ended here. While
the sweep runs one node is killed (kill -9) and PostgreSQL is stopped and started again. Every
command is run as it is printed; only addresses and folders are replaced by names.

    python docs/examples/cluster.py [--sweep sweeps/quickstart.toml]
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bitsweep_suite.clusters import LoopbackCluster
from tests.mlflow_server import MlflowServer
from tests.postgres import PostgresServer

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SHOWN_LINES = 40
LONGEST_SECONDS = 1200
RUNS = "from mlflow import MlflowClient as C; from collections import Counter; c = C(); " + (
    "e = [one.experiment_id for one in c.search_experiments()]; "
    "print(Counter((r.data.tags.get('bitsweep.method', 'the sweep itself'), r.info.status) "
    "for r in c.search_runs(e, max_results=5000)))"
)


class Transcript:
    """What was typed and what came back, with names for the addresses of this machine."""

    def __init__(self, names: dict[str, str], environment: dict[str, str]) -> None:
        self.lines: list[str] = []
        self._names = names
        self._environment = {**os.environ, **environment, "COLUMNS": "110", "NO_COLOR": "1"}

    def say(self, *lines: str) -> None:
        """A line of prose."""
        self.lines += [*lines, ""]

    def type(self, command: str, *, told: str | None = None) -> str:
        """Run a command of the shell, keep it with its output, return that."""
        done = subprocess.run(
            ["bash", "-c", f"PATH={shlex.quote(str(BIN))}:$PATH; {self._real(command)}"],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        text = done.stdout + done.stderr
        if done.returncode:
            raise SystemExit(f"{command}: exit code {done.returncode}\n{text}")
        shown = self._named(text).rstrip().splitlines()
        if len(shown) > SHOWN_LINES:
            shown = ["...", *shown[-SHOWN_LINES:]]
        self.lines += ["```console", f"$ {told or command}", *shown, "```", ""]
        return text

    def ask(self, command: str) -> str:
        """Run a command that is not shown; "" where it fails."""
        kept = list(self.lines)
        try:
            return self.type(command)
        except SystemExit:
            return ""
        finally:
            self.lines = kept

    def _real(self, text: str) -> str:
        for real, name in self._names.items():
            text = text.replace(name, real)
        return text

    def _named(self, text: str) -> str:
        for real, name in self._names.items():
            text = text.replace(real, name)
        return re.sub(r"\x1b\[[0-9;]*m", "", text)


def finished(transcript: Transcript) -> int:
    """How many trials have ended well so far; 0 while the store is being made."""
    counted = "SELECT COUNT(*) AS n FROM outcomes WHERE status = 'finished'"
    answer = transcript.ask(f"bitsweep query {shlex.quote(counted)} --format json")
    return int(json.loads(answer)[0]["n"]) if answer else 0


def wait_for(transcript: Transcript, count: int) -> None:
    """Until so many trials have finished."""
    end = time.monotonic() + LONGEST_SECONDS
    while finished(transcript) < count:
        if time.monotonic() > end:
            raise SystemExit(f"{count} trials had not finished after {LONGEST_SECONDS} s")
        time.sleep(2)


def play(sweep: str, cluster: LoopbackCluster, postgres: PostgresServer, t: Transcript) -> None:
    """The whole story, in the order in which a user meets it."""
    t.say(
        "# A sweep on a cluster that loses a node",
        "",
        "Written by [cluster.py](cluster.py), which ran every command below against three Ray "
        "nodes, a PostgreSQL and an MLflow server on one machine. `head`, `database` and `mlflow` "
        "stand for their addresses, `/shared` for a folder that all nodes see.",
    )
    t.lines += [
        "```sh",
        "export RAY_API_SERVER_ADDRESS=http://head:8265 RAY_AUTH_MODE=token RAY_AUTH_TOKEN=...",
        "export BITSWEEP_STORE=postgresql://postgres@database/postgres",
        "export BITSWEEP_WORKSPACES=/shared MLFLOW_TRACKING_URI=http://mlflow:5000",
        "```",
        "",
    ]
    t.type("ray list nodes 2>/dev/null | grep -E 'NODE_IP|ALIVE' | cut -c 61-110")
    submitted = t.type(f"bitsweep submit {sweep} --mlflow http://mlflow:5000 --no-wait")
    found = re.search(r"submitted as (\S+)", submitted)
    if found is None:
        raise SystemExit(f"no job in: {submitted}")
    job = found.group(1)
    wait_for(t, 6)
    t.type("bitsweep status")
    t.say("A node is lost: `kill -9` of what ran on it.")
    cluster.kill_node(2)
    wait_for(t, 12)
    t.say("PostgreSQL is stopped as by a crash and started again twenty seconds later.")
    postgres.stop()
    time.sleep(20)
    postgres.start()
    t.type(f"bitsweep logs {job} --follow | tail -n 25")
    t.type(f"bitsweep status {job}")
    t.type(f"bitsweep table {Path(sweep).stem}")
    t.say("Trials by how they ended, and those that were begun more than once:")
    t.type(
        'bitsweep query "SELECT status, COUNT(*) AS trials FROM outcomes GROUP BY 1 ORDER BY 1"'
    )
    t.type(
        'bitsweep query "SELECT trial_id, COUNT(*) AS attempts FROM attempts GROUP BY 1 '
        'HAVING COUNT(*) > 1 ORDER BY 1"'
    )
    t.say("MLflow's runs, by method and status:")
    t.type(f'python -c "{RUNS}"', told="python count_runs.py")
    t.say("Every measurement that a trial's outbox holds is in the store once:")
    t.type("bitsweep store check")


def main() -> None:
    """Start the parts, play, write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sweep", default="sweeps/quickstart.toml")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("cluster.md"))
    given = parser.parse_args()
    shared = Path(tempfile.mkdtemp(prefix="bs-shared-"))
    postgres, mlflow, cluster = PostgresServer(), MlflowServer(), LoopbackCluster()
    try:
        for _ in range(2):
            cluster.add_node()
        names = {
            cluster.address: "http://head:8265",
            mlflow.url: "http://mlflow:5000",
            postgres.url: "postgresql://postgres@database/postgres",
            str(shared): "/shared",
        }
        environment = {
            "RAY_API_SERVER_ADDRESS": cluster.address,
            "RAY_ADDRESS": cluster.address,
            "BITSWEEP_STORE": postgres.url,
            "BITSWEEP_WORKSPACES": str(shared),
            "MLFLOW_TRACKING_URI": mlflow.url,
            **cluster.environment,
        }
        transcript = Transcript(names, environment)
        try:
            play(given.sweep, cluster, postgres, transcript)
        finally:
            given.output.write_text("\n".join(transcript.lines).rstrip() + "\n", encoding="utf-8")
    finally:
        cluster.close()
        mlflow.close()
        postgres.close()


if __name__ == "__main__":
    main()
