"""MLflow as a view of the store: experiment = sweep, parent run = arm, child run = trial.

The mirror compares the store with what it has shown and logs the difference, so that it may start,
stop, lag or be repeated at any time. Runs are found again by their tags.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException
from sqlalchemy import Engine, event, make_url

from bitsweep.bits import LEARNED
from bitsweep.errors import BitsweepError
from bitsweep.recipe import recipe_document
from bitsweep.store.database import shown
from bitsweep.store.reader import Reader
from bitsweep.store.records import Score, SweepRow, TrialRow
from bitsweep.tracking.artifacts import log_documents, log_trial_files
from bitsweep.tracking.registry import Registered, register_arm
from bitsweep.trial import Trial

METRICS_PER_BATCH = 900
_PAGE = 1000
_SWEEP_RUN = "the sweep"
_KIND = "mlflow.experimentKind"  # else its pages are those of language models
_STATUS = {
    "finished": "FINISHED",
    "pruned": "FINISHED",
    "failed": "FAILED",
    "diverged": "FAILED",
    "interrupted": "KILLED",
}


@dataclass(slots=True, kw_only=True)
class _Shown:
    """What MLflow has of a trial; has_params: its first batch arrived."""

    run_id: str
    epoch: int
    status: str
    has_params: bool = True


class MlflowMirror:
    """Mirrors sweeps of one store to one tracking server; raises BitsweepError if it is down.

    checkpoints: the folder or URL of kept checkpoints, which runs then refer to.
    """

    def __init__(self, reader: Reader, uri: str, *, checkpoints: str | None = None) -> None:
        self._reader = reader
        self._uri = uri
        self._checkpoints = checkpoints
        if uri.startswith("sqlite:"):
            _spare_syncs(uri)
        self._client = MlflowClient(tracking_uri=uri)
        self._experiments: dict[str, str] = {}
        self._shown: dict[str, dict[str, _Shown]] = {}
        self._parents: dict[str, dict[str, str]] = {}

    def catch_up(self, sweep_name: str) -> int:
        """Log what the store has and MLflow has not; return the number of trials touched."""
        with self._told():
            return self._catch_up(self._reader.sweep(sweep_name))

    def rebuild(self, sweep_name: str) -> int:
        """Delete the sweep's runs and log everything anew."""
        with self._told():
            experiment = self._experiment(self._reader.sweep(sweep_name))
            for run in list(self._runs(experiment)):
                self._client.delete_run(run.info.run_id)
        self._shown.pop(sweep_name, None)
        self._parents.pop(sweep_name, None)
        return self.catch_up(sweep_name)

    def close(self, sweep_name: str, documents: Mapping[str, str] | None = None) -> None:
        """End the arms' runs; keep documents of the sweep (name: text) with a run of their own."""
        with self._told():
            if documents:
                sweep = self._reader.sweep(sweep_name)
                run_id = self._parent(sweep, self._experiment(sweep), _SWEEP_RUN)
                log_documents(self._client, run_id, documents)
            for run_id in self._parents.get(sweep_name, {}).values():
                self._client.set_terminated(run_id, status="FINISHED")

    def register(
        self, sweep_name: str, arm: str, *, find: Callable[[str], Path | None]
    ) -> list[Registered]:
        """Enter the confirmed networks of an arm into the model registry; see `register_arm`."""
        self.catch_up(sweep_name)
        run_ids = {
            key.partition("/")[0]: state.run_id
            for key, state in self._shown[sweep_name].items()
            if key.split("/")[1] == arm and not key.endswith("/search")
        }
        with self._told():
            return register_arm(
                self._client, self._reader, sweep_name, arm, run_ids=run_ids, find=find
            )

    @contextmanager
    def _told(self) -> Iterator[None]:
        """MLflow's errors in one line of ours."""
        try:
            yield
        except (MlflowException, RequestException) as error:
            raise BitsweepError(f"MLflow at {shown(self._uri)}: {_first_line(error)}") from error

    def _catch_up(self, sweep: SweepRow) -> int:
        experiment = self._experiment(sweep)
        known = self._known(sweep.name, experiment)
        touched = 0
        for row in self._reader.trial_rows(sweep.id):
            state = known.get(_key(row))
            epoch = -1 if row.last_epoch is None else row.last_epoch
            if row.status == "planned" and state is None:
                continue
            if state is None or state.epoch < epoch or state.status != row.status:
                known[_key(row)] = self._log(sweep, experiment, row, state)
                touched += 1
        return touched

    def _log(
        self, sweep: SweepRow, experiment: str, row: TrialRow, state: _Shown | None
    ) -> _Shown:
        params: list[Param] = []
        if state is None or not state.has_params:
            trial = self._reader.trial(row.trial_id)
            run_id = state.run_id if state else self._create(sweep, experiment, row, trial)
            params = [Param(name, str(value)) for name, value in _params(trial).items()]
            state = _Shown(run_id=run_id, epoch=-1, status="running")
        scores = [
            one
            for one in self._reader.scores(row.trial_id)
            if one.epoch > state.epoch and not one.is_listed
        ]
        newest = max((one.epoch for one in scores), default=state.epoch)
        tags = [
            RunTag("bitsweep.epoch", str(newest)),
            RunTag("bitsweep.status", row.status),
            RunTag("bitsweep.reason", row.reason[:4000]),
        ]
        metrics = _metrics(scores, bits=row.bits)
        starts = range(0, max(len(metrics), 1), METRICS_PER_BATCH)
        for start in starts:
            batch = metrics[start : start + METRICS_PER_BATCH]
            # The tags say how far the run is: they come with the last batch.
            ending = tags if start == starts[-1] else []
            self._client.log_batch(state.run_id, metrics=batch, params=params, tags=ending)
            params = []
        if row.status in _STATUS:
            place = self._checkpoints
            log_trial_files(self._client, state.run_id, self._reader, row, place=place)
            self._client.set_terminated(state.run_id, status=_STATUS[row.status])
        elif state.status in _STATUS:
            self._client.update_run(state.run_id, status="RUNNING")
        return _Shown(run_id=state.run_id, epoch=newest, status=row.status)

    def _create(self, sweep: SweepRow, experiment: str, row: TrialRow, trial: Trial) -> str:
        tags = {
            "bitsweep.trial": row.trial_id,
            "bitsweep.arm": row.arm or "start",
            "bitsweep.method": row.method,
            "bitsweep.bits": row.bits,
            "bitsweep.seed": str(row.seed),
            "bitsweep.stage": row.stage,
            "bitsweep.sweep_digest": sweep.text_sha256,
            "mlflow.parentRunId": self._parent(sweep, experiment, row.arm or "start"),
        }
        for attempt in self._reader.provenance(row.trial_id)[-1:]:
            if attempt["git_commit"]:
                tags["mlflow.source.git.commit"] = attempt["git_commit"]
        name = f"{row.arm or 'start'}/{trial.bits_label}/seed {row.seed}"
        run = self._client.create_run(experiment, tags=tags, run_name=name)
        return str(run.info.run_id)

    def _parent(self, sweep: SweepRow, experiment: str, arm: str) -> str:
        parents = self._parents.setdefault(sweep.name, {})
        if arm not in parents:
            tags = {"bitsweep.arm_run": arm, "bitsweep.sweep_digest": sweep.text_sha256}
            run = self._client.create_run(experiment, tags=tags, run_name=arm)
            parents[arm] = str(run.info.run_id)
        return parents[arm]

    def _experiment(self, sweep: SweepRow) -> str:
        if sweep.name not in self._experiments:
            found = self._client.get_experiment_by_name(sweep.name)
            if found is not None and found.lifecycle_stage == "deleted":
                self._client.restore_experiment(found.experiment_id)
            if found is None:
                tags = {"mlflow.note.content": sweep.question, _KIND: "custom_model_development"}
                identifier = self._client.create_experiment(
                    sweep.name, tags=tags, artifact_location=self._files_of(sweep.name)
                )
            else:
                identifier = found.experiment_id
            self._experiments[sweep.name] = str(identifier)
        return self._experiments[sweep.name]

    def _files_of(self, sweep_name: str) -> str | None:
        """Where files of an experiment go; a server knows it, a database file has them beside it.

        MLflow itself would make a folder `mlruns` wherever the command happens to run.
        """
        if not self._uri.startswith("sqlite:"):
            return None
        path = make_url(self._uri).database
        folder = Path(path).resolve().parent if path else Path("results").resolve()
        return (folder / "mlflow-artifacts" / sweep_name).as_uri()

    def _known(self, sweep_name: str, experiment: str) -> dict[str, _Shown]:
        """What an earlier mirror showed, read back once from the runs' tags."""
        if sweep_name not in self._shown:
            known: dict[str, _Shown] = {}
            parents: dict[str, str] = {}
            for run in self._runs(experiment):
                tags = run.data.tags
                if "bitsweep.arm_run" in tags:
                    parents[tags["bitsweep.arm_run"]] = run.info.run_id
                elif "bitsweep.trial" in tags:
                    key = _tags_key(tags)
                    epoch = int(tags.get("bitsweep.epoch", -1))
                    status = tags.get("bitsweep.status", "running")
                    if run.info.status == "RUNNING" and status in _STATUS:
                        status = "running"  # the server went away before the run was ended
                    known[key] = _Shown(
                        run_id=run.info.run_id,
                        epoch=epoch,
                        status=status,
                        has_params="bitsweep.epoch" in tags,
                    )
            self._shown[sweep_name] = known
            self._parents[sweep_name] = parents
        return self._shown[sweep_name]

    def _runs(self, experiment: str) -> Iterable[Any]:  # MLflow's Run
        token = None
        while True:
            page = self._client.search_runs(
                [experiment], max_results=_PAGE, page_token=token, order_by=["start_time ASC"]
            )
            yield from page
            token = page.token
            if not token:
                return


@cache
def _spare_syncs(uri: str) -> None:
    """Let MLflow's SQLite commit without waiting for the disk: it commits seven times a trial.

    A file that does not exist yet is made with a write-ahead log; there, a power cut may take the
    last commits (the store has them: the mirror logs them again) but never the file's consistency.
    Someone's own file keeps its journal, and with it every sync.
    """
    path = make_url(uri).database
    if not path or not Path(path).parent.is_dir():
        return
    file = Path(path).resolve()
    if not file.exists():
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")

    def spare(connection: object, _record: object) -> None:
        if not isinstance(connection, sqlite3.Connection):
            return
        opened = connection.execute("PRAGMA database_list").fetchone()[2]
        journal = connection.execute("PRAGMA journal_mode").fetchone()[0]
        if journal == "wal" and opened and Path(opened).resolve() == file:
            connection.execute("PRAGMA synchronous=NORMAL")

    event.listen(Engine, "connect", spare)


def _key(row: TrialRow) -> str:
    return f"{row.trial_id}/{row.arm or 'start'}/{row.stage}"


def _tags_key(tags: Mapping[str, str]) -> str:
    return f"{tags['bitsweep.trial']}/{tags['bitsweep.arm']}/{tags['bitsweep.stage']}"


def _params(trial: Trial) -> dict[str, object]:
    """Only what never changes."""
    fixed: dict[str, object] = {
        "method": trial.method,
        "model": trial.model,
        "data": trial.data,
        "bits": trial.bits_label,
        "seed": trial.seed,
        "epochs": trial.epochs,
        "batch_size": trial.batch_size,
    }
    if trial.precision != "fp32":
        fixed["precision"] = trial.precision
    if trial.backend != "eager":
        fixed["backend"] = trial.backend
    return fixed | recipe_document(trial.recipe) | dict(trial.parameters)


def _metrics(scores: Iterable[Score], *, bits: str) -> list[Metric]:
    """One metric per split, name and bits, at its epoch: test/top1_percent/w4a4.

    A trial with learned bits has one curve, whatever its allocation was at each epoch.
    """
    metrics = []
    for score in scores:
        milliseconds = int(datetime.fromisoformat(score.recorded_at).timestamp() * 1000)
        label = LEARNED if bits == LEARNED else score.allocation
        for name in score.metrics:
            key = f"{score.split}/{_safe(name)}/{_safe(label)}"
            metrics.append(Metric(key, score.metric(name), milliseconds, score.epoch))
    return metrics


def _safe(label: str) -> str:
    """MLflow allows letters, digits, _ - . / and spaces in a metric's name."""
    kept = "".join(one if one.isalnum() or one in "_-./ " else "_" for one in label)
    return kept[:150]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
