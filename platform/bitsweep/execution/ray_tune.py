"""Ray Tune as the executor: a class trainable whose step is one evaluation, actors reused.

Tune's own loggers, snapshots and restore are off: the recorder writes, and a run resumes from the
store. Committing happens in the scheduler's callback, in the driver, before the worker goes on.
"""

import json
import logging
import os
import signal
import tempfile
import threading
from pathlib import Path
from typing import Any

# Read once, when ray.tune is imported.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray import tune
from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayError
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from bitsweep.errors import InputError
from bitsweep.execution.base import Agenda, job_document, parse_job, parse_outcome
from bitsweep.execution.placement import bundles_of, check_fits
from bitsweep.execution.ray_metrics import Metered
from bitsweep.execution.ray_team import RayTeam
from bitsweep.execution.shipping import stage
from bitsweep.execution.worker import JobRun, step_document
from bitsweep.measurement import parse_evaluation
from bitsweep.sweep import Resources
from bitsweep.trial import Failed

# Ray sets it for the driver of a submitted job.
JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"


class RayTuneExecutor:
    """Runs jobs as Tune trials; joins the cluster at `address`, or starts one on this machine."""

    def __init__(
        self,
        *,
        resources: Resources,
        retries: int,
        trainer: str,
        sweep: str = "",
        address: str | None = None,
        waits_for_nodes: bool = False,
    ) -> None:
        """waits_for_nodes: the cluster can grow; its autoscaler is told what the sweep wants.

        sweep: what metrics are labelled with.
        """
        self._sweep = sweep
        self._waits_for_nodes = waits_for_nodes
        self._resources = resources
        self._retries = retries
        self._trainer = trainer
        self._address = address
        self._is_ours = False

    def close(self) -> None:
        """Leave the cluster that `run` joined; a local one ends."""
        if self._is_ours:
            disconnect()

    def run(self, agenda: Agenda, /) -> None:
        """Take jobs until the agenda is done; raise what the agenda raised."""
        self._is_ours = connect(self._address, trainer=self._trainer) or self._is_ours
        bundles = bundles_of(self._resources)
        strategy = self._resources.placement.upper()
        if self._waits_for_nodes:
            request_resources(bundles=bundles * (self._resources.max_concurrent or 1))
        else:
            check_fits(bundles, nodes_alive(), strategy=strategy)
        errors: list[BaseException] = []
        agenda = Metered(agenda, sweep=self._sweep)
        with tempfile.TemporaryDirectory(prefix="bitsweep-tune-") as folder:
            _quiet_tune()
            tuner = tune.Tuner(
                tune.with_resources(
                    _JobTrainable, tune.PlacementGroupFactory(bundles, strategy=strategy)
                ),
                tune_config=tune.TuneConfig(
                    search_alg=_JobSource(agenda, errors, bundle=bundles[0]),
                    scheduler=_Recording(agenda, errors),
                    num_samples=-1,
                    max_concurrent_trials=self._resources.max_concurrent,
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: str(trial.trial_id),
                ),
                run_config=tune.RunConfig(
                    name="sweep",
                    storage_path=folder,
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=self._retries),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    callbacks=[_Deaths(agenda, errors)],
                ),
            )
            try:
                tuner.fit()
            except Exception:
                if not errors:
                    raise
            if errors:
                raise errors[0]


def connect(address: str | None, *, trainer: str = "") -> bool:
    """Join a cluster or start a local one; False if this process is connected already.

    A bare ray.init() would join any cluster it finds on the machine, so that "local" is said. A
    cluster gets our code with the connection; a submitted job brought it. Raises InputError when
    none answers.
    """
    if ray.is_initialized():
        return False
    wanted = address or os.environ.get("RAY_ADDRESS") or "local"
    before = signal.getsignal(signal.SIGTERM)
    with tempfile.TemporaryDirectory(prefix="bitsweep-ship-") as folder:
        options: dict[str, Any] = {}
        if wanted == "local":
            options = {"include_dashboard": False}
        elif JOB_VARIABLE not in os.environ:
            options = {"runtime_env": {"py_modules": stage(Path(folder), trainer=trainer)}}
        try:
            ray.init(address=wanted, log_to_driver=False, logging_level=logging.ERROR, **options)
        except (ConnectionError, ValueError, RuntimeError, RayError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"no Ray cluster answers at {wanted!r}: {reason}") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)  # ray.init takes it, to leave without a word
    return True


def nodes_alive() -> list[dict[str, float]]:
    """The resources of each node of the cluster, whoever uses them at this moment."""
    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def disconnect() -> None:
    """Leave the cluster; one that this process started ends."""
    ray.shutdown()


def _quiet_tune() -> None:
    for name in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)


class _JobTrainable(tune.Trainable):  # type: ignore[misc]  # Ray has no types here
    """One job after the other in one actor."""

    _team: RayTeam | None = None

    def setup(self, config: dict[str, Any]) -> None:
        job = parse_job(json.loads(config["job"]))
        if job.trial.world_size > 1 and self._team is None:
            self._team = RayTeam(config["bundle"])
        self._run = JobRun(job, followers=self._team)

    def step(self) -> dict[str, Any]:
        document = step_document(self._run.step())
        return {"step": json.dumps(document), "done": "outcome" in document}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._run.close()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        self._run.close()


class _NotPickled:
    """Tune pickles searchers and callbacks for a restore that this executor never does."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _JobSource(_NotPickled, Searcher):  # type: ignore[misc]  # Ray has no types here
    """Hands the agenda's jobs to Tune."""

    def __init__(
        self, agenda: Agenda, errors: list[BaseException], *, bundle: dict[str, float]
    ) -> None:
        super().__init__()
        self._bundle = bundle
        self._agenda = agenda
        self._errors = errors

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._errors:
            return str(Searcher.FINISHED)
        try:
            job = self._agenda.next_job()
            if job is not None:
                document = json.dumps(job_document(job))
                return {"trial_id": job.trial.id, "job": document, "bundle": self._bundle}
            return str(Searcher.FINISHED) if self._agenda.is_done() else None
        except BaseException as error:
            self._errors.append(error)
            raise

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: the scheduler's callbacks tell the agenda."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the store is what a run resumes from."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


class _Recording(_NotPickled, FIFOScheduler):  # type: ignore[misc]  # Ray has no types here
    """Commits every result before the worker goes on, and stops what the agenda stops."""

    def __init__(self, agenda: Agenda, errors: list[BaseException]) -> None:
        super().__init__()
        self._agenda = agenda
        self._errors = errors

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        try:
            document = json.loads(result["step"])
            evaluation = parse_evaluation(document["evaluation"])
            goes_on = self._agenda.evaluated(_trial_id(trial), evaluation)
        except BaseException as error:
            self._errors.append(error)
            raise
        return str(self.CONTINUE if goes_on else self.STOP)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        try:
            document = json.loads(result["step"])
            if "outcome" in document:
                self._agenda.ended(_trial_id(trial), parse_outcome(document["outcome"]))
        except BaseException as error:
            self._errors.append(error)
            raise


class _Deaths(_NotPickled, tune.Callback):  # type: ignore[misc]  # Ray has no types here
    """A worker that died more often than the budget's retries fails its trial."""

    def __init__(self, agenda: Agenda, errors: list[BaseException]) -> None:
        self._agenda = agenda
        self._errors = errors

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        lives = trial.num_failures
        reason = f"its worker process died {lives} times" if lives > 1 else "its worker died"
        self._agenda.ended(_trial_id(trial), Failed(reason=reason))


def _trial_id(trial: Any) -> str:
    return str(trial.config["trial_id"])
