"""Ray Tune as the executor: a class trainable whose step is one evaluation, actors reused.

Tune's own loggers, snapshots and restore are off: the recorder writes, and a run resumes from the
store. Committing happens in the scheduler's callback, in the driver, before the worker goes on.
"""

import json
import logging
import tempfile
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from typing import Any

# First: it sets what Ray Tune reads once, when it is imported.
from bitsweep.execution import ray_connection  # isort: skip

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from bitsweep.execution.base import Agenda, parse_outcome
from bitsweep.execution.cohort import Cohort
from bitsweep.execution.nodes import Nodes
from bitsweep.execution.placement import bundles_of, check_fits, holds
from bitsweep.execution.ray_config import (
    Config,
    alone,
    cohort_in,
    config_of,
    job_in,
    members_of,
    name_of,
)
from bitsweep.execution.ray_metrics import Metered
from bitsweep.execution.ray_team import RayTeam
from bitsweep.execution.worker import JobRun, step_document
from bitsweep.measurement import parse_evaluation
from bitsweep.sweep import Resources
from bitsweep.trial import Failed, Interrupted, Outcome

# A worker that fails to start so often is no accident.
MOST_STARTS = 5


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
        self._place: str | None = None

    @property
    def place(self) -> str | None:
        """The cluster's head node; this machine, where Ray was started for this run alone."""
        return self._place

    def close(self) -> None:
        """Leave the cluster that `run` joined; a local one ends."""
        if self._is_ours:
            ray_connection.disconnect()

    def run(self, agenda: Agenda, /) -> None:
        """Take jobs until the agenda is done; raise what the agenda raised."""
        joined = ray_connection.connect(self._address, trainer=self._trainer)
        self._is_ours = joined or self._is_ours
        self._place = ray_connection.place_of(self._address)
        bundles = bundles_of(self._resources)
        strategy = self._resources.placement.upper()
        wanted: AbstractContextManager[None] = nullcontext()
        if self._waits_for_nodes:
            wanted = ray_connection.requested(bundles * (self._resources.max_concurrent or 1))
        else:
            check_fits(bundles, ray_connection.nodes_alive(), strategy=strategy)
        errors: list[BaseException] = []
        agenda = Metered(agenda, sweep=self._sweep)
        source = _JobSource(agenda, errors, bundle=bundles[0])
        second = _SecondChances(agenda, source, bundles=bundles, strategy=strategy)
        with wanted, tempfile.TemporaryDirectory(prefix="bitsweep-tune-") as folder:
            _quiet_tune()
            tuner = tune.Tuner(
                tune.with_resources(
                    _JobTrainable, tune.PlacementGroupFactory(bundles, strategy=strategy)
                ),
                tune_config=tune.TuneConfig(
                    search_alg=source,
                    scheduler=_Recording(agenda, errors, second),
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
                    callbacks=[_Deaths(agenda, errors, source, retries=self._retries)],
                ),
            )
            try:
                tuner.fit()
            except Exception:
                if not errors:
                    raise
            if errors:
                raise errors[0]


def _quiet_tune() -> None:
    """We tell how each trial ended, a death of its worker too; Tune would print tracebacks."""
    for name in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class _JobTrainable(tune.Trainable):  # type: ignore[misc]  # Ray has no types here
    """One job, or cohort, after the other in one actor."""

    _run: JobRun | Cohort
    _team: RayTeam | None = None

    def setup(self, config: dict[str, Any]) -> None:
        if (jobs := cohort_in(config)) is not None:
            self._run = Cohort(jobs, may_exit=True)
            return
        job = job_in(config)
        if job.trial.world_size > 1 and self._team is None:
            self._team = RayTeam(config["bundle"])
        self._run = JobRun(job, followers=self._team, may_exit=True)

    def step(self) -> dict[str, Any]:
        node = ray.get_runtime_context().get_node_id()
        if isinstance(self._run, Cohort):
            told = [[member, step_document(one)] for member, one in self._run.step()]
            return {"steps": json.dumps(told), "done": self._run.is_over, "node": node}
        document = step_document(self._run.step())
        return {"step": json.dumps(document), "done": "outcome" in document, "node": node}

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
        self.again: list[dict[str, Any]] = []

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._errors:
            return str(Searcher.FINISHED)
        if self.again:
            return self.again.pop(0)
        try:
            job = self._agenda.next_job()
            if job is not None:
                others = self._agenda.companions(job) if job.trial.is_grouped else ()
                return config_of((job, *others), bundle=self._bundle)
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


class _SecondChances:
    """A trial that failed on one node is tried on another one before its failure is believed."""

    def __init__(
        self,
        agenda: Agenda,
        source: _JobSource,
        *,
        bundles: list[dict[str, float]],
        strategy: str,
    ) -> None:
        self._agenda = agenda
        self._source = source
        self._bundles = bundles
        self._strategy = strategy
        self._nodes = Nodes()

    def place(self, trial: Any) -> None:  # Ray's trial, about to be queued
        """Keep a trial from the nodes where it must not run."""
        avoided = self._nodes.avoided_by(name_of(trial.config))
        if avoided:
            elsewhere = {"ray.io/node-id": f"!in({','.join(sorted(avoided))})"}
            trial.update_resources(
                tune.PlacementGroupFactory(
                    self._bundles,
                    strategy=self._strategy,
                    bundle_label_selector=[elsewhere for _ in self._bundles],
                )
            )

    def ended(self, config: Config, outcome: Outcome, *, node: str) -> None:
        """Tell the agenda, unless the trial is tried again elsewhere, with this config."""
        ended = name_of(config)
        if len(self._bundles) == 1:  # of several workers, nobody knows whose node it was
            others = self._others() if isinstance(outcome, Failed | Interrupted) else []
            if self._nodes.wants_another(ended, outcome, node=node, others=others):
                self._source.again.append(dict(config))
                self._agenda.again(ended)
                return
            aside = self._nodes.ended(ended, outcome, node=node)
            if aside is not None:
                self._agenda.remark(aside.text(_address_of(aside.node)))
        self._agenda.ended(ended, outcome)

    def _others(self) -> list[str]:
        """The nodes that could run a trial."""
        return [
            str(node["NodeID"])
            for node in ray.nodes()
            if node["Alive"] and holds(node["Resources"], self._bundles[0])
        ]


def _address_of(node_id: str) -> str:
    for node in ray.nodes():
        if node["NodeID"] == node_id:
            return str(node["NodeManagerAddress"])
    return node_id


class _Recording(_NotPickled, FIFOScheduler):  # type: ignore[misc]  # Ray has no types here
    """Commits every result before the worker goes on, and stops what the agenda stops."""

    def __init__(
        self, agenda: Agenda, errors: list[BaseException], second: _SecondChances
    ) -> None:
        super().__init__()
        self._agenda = agenda
        self._errors = errors
        self._second = second
        self._places: dict[str, int] = {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._places[trial.trial_id] = len(self._places)
        self._second.place(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any | None:
        """The first in the queue. Tune's own looks at every trial there was, at every event."""
        live = tune_controller.get_live_trials()
        for status in (Trial.PENDING, Trial.PAUSED):
            waiting = [trial for trial in live if trial.status == status]
            if waiting:
                return min(waiting, key=lambda trial: self._places[trial.trial_id])
        return None

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        try:
            if "steps" in result:
                return str(self.CONTINUE if self._told(trial, result) else self.STOP)
            document = json.loads(result["step"])
            evaluation = parse_evaluation(document["evaluation"])
            goes_on = self._agenda.evaluated(name_of(trial.config), evaluation)
        except BaseException as error:
            self._errors.append(error)
            raise
        return str(self.CONTINUE if goes_on else self.STOP)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        try:
            if "steps" in result:
                self._told(trial, result)
                return
            document = json.loads(result["step"])
            if "outcome" in document:
                outcome = parse_outcome(document["outcome"])
                self._second.ended(trial.config, outcome, node=result["node"])
        except BaseException as error:
            self._errors.append(error)
            raise

    def _told(self, trial: Any, result: dict[str, Any]) -> bool:
        """Commit what the members of a cohort had to tell; False where none of them goes on.

        A member that has ended leaves the config, so that no later life of the worker begins it
        again. What the agenda has ended is told to it no more.
        """
        cohort = trial.config["cohort"]
        for member, document in json.loads(result["steps"]):
            if member not in cohort:
                continue
            if "evaluation" in document:
                if not self._agenda.evaluated(member, parse_evaluation(document["evaluation"])):
                    del cohort[member]
                continue
            config = alone(trial.config, member)
            del cohort[member]
            self._second.ended(config, parse_outcome(document["outcome"]), node=result["node"])
        return bool(cohort)


class _Deaths(_NotPickled, tune.Callback):  # type: ignore[misc]  # Ray has no types here
    """A worker that died more often than the budget's retries fails its trial.

    Tune tries running trials again, but gives up one whose worker cannot even start, as after the
    loss of a node whose idle workers it still counts on: that one is handed out anew. Nobody knows
    which member of a cohort ended its worker again and again: each is tried once more, alone.
    """

    def __init__(
        self, agenda: Agenda, errors: list[BaseException], source: _JobSource, *, retries: int
    ) -> None:
        self._agenda = agenda
        self._errors = errors
        self._source = source
        self._retries = retries
        self._lives: Counter[str] = Counter()
        self._starts: Counter[str] = Counter()

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        for member in members_of(trial.config):
            self._lives[member] += 1
            self._agenda.again(member)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        first, members = name_of(trial.config), members_of(trial.config)
        if trial.num_failures <= self._retries and self._starts[first] < MOST_STARTS:
            self._starts[first] += 1
            self._source.again.append(dict(trial.config))
            for member in members:
                self._agenda.again(member)
            return
        for member in members:
            self._lives[member] += 1
            if len(members) > 1:
                self._source.again.append(alone(trial.config, member))
                self._agenda.again(member)
                continue
            lives = self._lives[member]
            reason = f"its worker process died {lives} times" if lives > 1 else "its worker died"
            self._agenda.ended(member, Failed(reason=reason))
