"""kill -9 of the driver of twelve trials: ours, and the sweep one writes by hand with Tune."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

from mlflow import MlflowClient
from tests.faults import by_hand
from tests.faults.ledger import Line, read_ledger
from tests.faults.scene import Grounds, Scene
from tests.faults.site import SWEEP, NotReached

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 200.0
FIXED_ARM = '[[arms]]\nname = "fixed"\nmethod = "toy"\n\n'
CONFIRM = "[confirm]\nseeds = [0, 1, 2]\n\n"
START = 'start = { method = "toy_fp32", epochs = 1 }\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """What a sweep of twelve trials came to. executions: how often a first step was measured."""

    executions: int
    runs: int
    left_running: int
    in_store: int | None = None

    @property
    def is_exact(self) -> bool:
        """Twelve of everything, and nothing left open."""
        counts = {self.executions, self.runs, self.in_store}
        return counts == {by_hand.TRIALS} and self.left_running == 0


def ours(seed: int, grounds: Grounds) -> Count:
    """A search of twelve configurations, killed and started again."""
    text = SWEEP.replace(
        "configurations_per_arm = 6", f"configurations_per_arm = {by_hand.TRIALS}"
    )
    for left_out in (FIXED_ARM, CONFIRM, START):
        assert left_out in text, left_out
        text = text.replace(left_out, "")
    text = text.replace("max_concurrent = 3", "max_concurrent = 2")
    with tempfile.TemporaryDirectory(prefix="bs-fault-", ignore_cleanup_errors=True) as folder:
        scene = Scene(Path(folder), random=Random(f"against {seed}"), grounds=grounds)
        with scene.closing:
            site = scene.site(text=text, at_once=2, seconds_per_epoch=by_hand.SECONDS_PER_STEP)
            site.mlflow = f"sqlite:///{folder}/mlflow.db"
            driver = site.start()
            site.wait_for_moment()
            site.kill_driver(driver)
            verdict = site.complete()
            runs, left = _runs(site.mlflow, "toy", tag="bitsweep.trial")
            return Count(
                executions=_executions(site.ledger()),
                runs=runs,
                left_running=left,
                in_store=verdict.trials,
            )


def tune(seed: int) -> Count:
    """The hand-written sweep, killed and restored."""
    random = Random(f"against {seed}")
    with tempfile.TemporaryDirectory(prefix="bs-tune-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        first = _start(folder, "run")
        try:
            _wait_for_two(folder, first)
            time.sleep(random.uniform(0.0, by_hand.SECONDS_PER_STEP))
            _wait_for_two(folder, first)
        finally:
            _kill_group(first)
        again = _start(folder, "restore")
        try:
            again.wait(timeout=WAIT_SECONDS)
        finally:
            _kill_group(again)
        runs, left = _runs(f"sqlite:///{folder}/mlflow.db", by_hand.EXPERIMENT)
        return Count(
            executions=_executions(read_ledger(folder / "ledger.jsonl")),
            runs=runs,
            left_running=left,
        )


def _start(folder: Path, verb: str) -> "subprocess.Popen[bytes]":
    """The driver in a session of its own, with the Ray that it starts."""
    with (folder / f"{verb}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.faults.by_hand", str(folder), verb],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(folder / "ray")},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait_for_two(folder: Path, driver: "subprocess.Popen[bytes]") -> None:
    """Until two trials have measured something and not all."""
    end = time.monotonic() + WAIT_SECONDS
    while sum(0 < count < by_hand.STEPS for count in _steps(folder).values()) < 2:
        if time.monotonic() > end or driver.poll() is not None:
            raise NotReached((folder / "run.log").read_text(errors="replace")[-2000:])
        time.sleep(0.05)


def _steps(folder: Path) -> Counter[str]:
    return Counter(line["trial"] for line in read_ledger(folder / "ledger.jsonl"))


def _kill_group(driver: "subprocess.Popen[bytes]") -> None:
    """kill -9 of the driver first, then of what it started, which would die with it anyway."""
    driver.kill()
    driver.wait()
    try:
        os.killpg(driver.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _executions(lines: list[Line]) -> int:
    return sum(line["event"] == "measured" and line["epoch"] == 1 for line in lines)


def _runs(uri: str, experiment: str, *, tag: str | None = None) -> tuple[int, int]:
    """MLflow's runs of trials, and how many of them are left RUNNING."""
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None  # the sweep made it
    runs = client.search_runs([found.experiment_id], max_results=1000)
    mine = [run for run in runs if tag is None or tag in run.data.tags]
    return len(mine), sum(run.info.status == "RUNNING" for run in mine)
