"""A user's folder with the faulty plug-in and a sweep, and the processes started in it."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from tests.bitsweep_suite.clusters import LoopbackCluster
from tests.bitsweep_suite.plugin import BITSWEEP
from tests.faults.ledger import Line, Verdict, ask, began, finished, judge, read_ledger, running

SWEEP = """# bitsweep run toy.toml
schema = 1
name = "toy"
question = "Does it survive?"
reproduces = "nothing"
expects = "it does"
cost = "seconds"

[task]
data = "toy-data"
model = "toy-net"
trainer = "faulty:train"
start = { method = "toy_fp32", epochs = 1 }
epochs = 4
bits = [3]

[[arms]]
name = "fixed"
method = "toy"

[[arms]]
name = "searched"
method = "toy"
[arms.space]
x = { uniform = [0.0, 1.0] }

[search]
sampler = "tpe"
configurations_per_arm = 6
seeds = [1000]

[[objectives]]

[confirm]
seeds = [0, 1, 2]

[resources]
max_concurrent = 3
"""
SEARCHED = "SELECT COUNT(*) FROM configurations WHERE study <> 'fixed'"
WAIT_SECONDS = 150.0
Words = tuple[str, ...]


class NotReached(Exception):
    """A scenario waited for something that never came."""


class Site:
    """One folder, one sweep, one seed; `cluster` None: the local executor runs the trials."""

    def __init__(
        self,
        folder: Path,
        *,
        random: Random,
        cluster: LoopbackCluster | None,
        text: str = SWEEP,
        seconds_per_epoch: float = 0.25,
        at_once: int = 3,
        **setting: Any,  # JSON values that the plug-in reads
    ) -> None:
        self.folder, self.random, self.cluster = folder, random, cluster
        self.store = str(folder / "results" / "bitsweep.db")
        self.mlflow = "none"
        self.words: Words = ()
        self.environment: dict[str, str] = {}
        self._ledger = folder / "ledger.jsonl"
        self._orders = folder / "orders"
        self._orders.mkdir(parents=True)
        self._processes: list[subprocess.Popen[str]] = []
        self._began_again = 0
        _install(
            folder / "site" / "faulty",
            ledger=str(self._ledger),
            orders=str(self._orders),
            seconds_per_epoch=seconds_per_epoch,
            at_once=at_once,
            **setting,
        )
        (folder / "toy.toml").write_text(text, encoding="utf-8")

    # Starting and ending.

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """A driver of the sweep."""
        process = subprocess.Popen(
            self._command(*words),
            cwd=self.folder,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def bitsweep(self, *words: str, timeout: float = 2 * WAIT_SECONDS) -> Any:  # CompletedProcess
        """A command that is run to its end."""
        return subprocess.run(
            [*BITSWEEP, *words],
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def complete(self, *words: str) -> Verdict:
        """The same command again; then what the ledger and the store say of the whole."""
        return self._complete(lambda: self.finish(self.start(*words)))

    def complete_by_submit(self) -> Verdict:
        """The same as a job of the cluster."""

        def submit() -> tuple[int, str]:
            done = self.bitsweep(*self.submission())
            return done.returncode, done.stdout + done.stderr

        return self._complete(submit)

    def submission(self) -> Words:
        """The command that sends the sweep to the cluster."""
        assert self.cluster is not None  # there must be one
        where = ("--address", self.cluster.address, "--store", self.store, "--persistent")
        return ("submit", "toy.toml", *where)

    def _complete(self, again: Callable[[], tuple[int, str]]) -> Verdict:
        before, known = len(self.ledger()), finished(self.store)
        code, said = again()
        self._began_again += began(self.ledger()[before:], known)
        if code != 0:
            print(f"exit code {code}: {said[-3000:]}")
        return self.verdict(is_complete=code == 0)

    def verdict(self, *, is_complete: bool) -> Verdict:
        """What the ledger and the store say so far."""
        lines = self.ledger()
        return judge(self.store, lines, again=self._began_again, is_complete=is_complete)

    def finish(self, process: "subprocess.Popen[str]") -> tuple[int, str]:
        """Wait for a driver; its exit code and all it said."""
        out, complaints = process.communicate(timeout=WAIT_SECONDS)
        return process.returncode, out + complaints

    def close(self) -> None:
        """End what is left of the drivers."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.communicate()

    # The moment.

    def ledger(self) -> list[Line]:
        """What the trainers told so far."""
        return read_ledger(self._ledger)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of the store."""
        return ask(self.store, sql)

    def order(self, act: str) -> None:
        """Tell the trainers, or the platform around them, to do something from now on."""
        (self._orders / act).touch()

    def withdraw(self, act: str) -> None:
        """An order that stands no more."""
        (self._orders / act).unlink(missing_ok=True)

    def is_done(self, act: str) -> bool:
        """Whether somebody took the order."""
        return (self._orders / act).with_suffix(".done").exists()

    def wait_for(self, happened: Callable[[], object], what: str) -> None:
        """Until something is true; NotReached if it never is."""
        end = time.monotonic() + WAIT_SECONDS
        while not happened():
            over = [one.poll() is not None for one in self._processes]
            is_idle = bool(over) and all(over)
            if time.monotonic() > end or (is_idle and not happened()):
                raise NotReached(f"never: {what}; {self._complaints()}")
            time.sleep(0.05)

    def wait_for_moment(self, *, stage: str | None = None, has_measured: bool = False) -> str:
        """A random moment while two trials run (of the stage); says which one it is.

        has_measured: one of them has something to lose.
        """
        self.wait_for(lambda: self._acknowledged(), "a first evaluation")

        def is_now() -> bool:
            trials = self.running(stage)
            has_some = any(line["trial"] in trials for line in self._acknowledged())
            return len(trials) >= 2 and (has_some or not has_measured)

        begin = time.monotonic()
        self.wait_for(is_now, f"two trials of {stage or 'any stage'}")
        time.sleep(self.random.uniform(0.0, 1.5))
        self.wait_for(is_now, f"two trials of {stage or 'any stage'}")
        after = time.monotonic() - begin
        told = len(self._acknowledged())
        return f"{after:.1f} s, {len(self.running())} running, {told} acknowledged"

    def node_of(self, trial: str) -> str:
        """The address of the node where a trial began last."""
        lines = [line for line in self.ledger() if line["trial"] == trial and "node" in line]
        return str(lines[-1]["node"])

    def running(self, stage: str | None = None) -> list[str]:
        """The trials that run."""
        return running(self.ledger(), stage=stage)

    def worker_of(self, trial: str) -> int:
        """The process that works on a trial."""
        return int([line["process"] for line in self.ledger() if line["trial"] == trial][-1])

    def kill_driver(self, process: "subprocess.Popen[str]") -> None:
        """kill -9."""
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def _acknowledged(self) -> list[Line]:
        return [line for line in self.ledger() if line["event"] == "acknowledged"]

    def _complaints(self) -> str:
        """What a driver that ended early said."""
        over = [one for one in self._processes if one.poll() is not None]
        said = [f"{one.returncode}: {''.join(one.communicate())[-1500:]}" for one in over]
        return f"drivers that ended: {said}, running: {self.running()}"

    def _command(self, *words: str) -> list[str]:
        where = ["--executor", "local"]
        if self.cluster is not None:
            where = ["--address", self.cluster.gcs_address]
        fixed = ["run", "toy.toml", *where, "--mlflow", self.mlflow, "--store", self.store]
        return [*BITSWEEP, *fixed, *self.words, *words]

    def _environment(self) -> Mapping[str, str]:
        kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        settings = self.cluster.environment if self.cluster is not None else {}
        path = {"PYTHONPATH": str(self.folder / "site"), "OMP_NUM_THREADS": "1"}
        return {**kept, **settings, **path, **self.environment}


def _install(package: Path, **setting: Any) -> None:  # JSON values
    """The plug-in as pip leaves it: a package and its entry points."""
    package.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("faulty.py"), package / "__init__.py")
    (package / "setting.json").write_text(json.dumps(setting), encoding="utf-8")
    info = package.parent / "faulty-1.0.dist-info"
    info.mkdir()
    metadata = "Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    entry = "[bitsweep.declarations]\nfaulty = faulty\n"
    (info / "entry_points.txt").write_text(entry, encoding="utf-8")
