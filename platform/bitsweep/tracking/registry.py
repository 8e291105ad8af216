"""Entries in MLflow's model registry, on request: the confirmed networks of an arm."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException

from bitsweep.errors import InputError
from bitsweep.store.reader import Reader
from bitsweep.store.records import Score, TrialRow
from bitsweep.trial import Finished

_FOLDER = "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A version of a registered model; is_new: it was made by this call."""

    model: str
    version: str
    trial_id: str
    is_new: bool


def register_arm(
    client: MlflowClient,
    reader: Reader,
    sweep: str,
    arm: str,
    *,
    run_ids: dict[str, str],
    find: Callable[[str], Path | None],
) -> list[Registered]:
    """A version of the model `SWEEP.ARM` per confirmed trial with a checkpoint; again: nothing.

    The checkpoint goes along as a file of the trial's run. run_ids: by trial. find: the file of a
    kept checkpoint. Raises InputError where the arm has none, or one that is gone.
    """
    name = f"{sweep}.{arm}"
    rows = _confirmed(reader, sweep, arm)
    _make(client, name, f"Confirmed networks of arm {arm} of the sweep {sweep} (bitsweep)")
    known = {
        one.tags.get("bitsweep.trial"): str(one.version)
        for one in client.search_model_versions(f"name = '{name}'")
    }
    made = []
    for row, checkpoint in rows:
        is_new = row.trial_id not in known
        if is_new:
            path = find(checkpoint)
            if path is None:
                raise InputError(
                    f"the checkpoint of trial {row.trial_id[:12]} is not here: --workspaces says "
                    "where the run kept it"
                )
            known[row.trial_id] = _version(
                client, name, run_ids[row.trial_id], path, tags=_tags(reader, row, checkpoint)
            )
        made.append(
            Registered(
                model=name, version=known[row.trial_id], trial_id=row.trial_id, is_new=is_new
            )
        )
    return made


def _confirmed(reader: Reader, sweep: str, arm: str) -> list[tuple[TrialRow, str]]:
    """The finished trials of an arm that kept a checkpoint, in the order of the sweep."""
    found = []
    names = set()
    for row in reader.trial_rows(reader.sweep(sweep).id):
        names.add(row.arm or "start")
        if (row.arm or "start") != arm or row.stage == "search":
            continue
        ended = reader.ended([row.trial_id]).get(row.trial_id)
        outcome = None if ended is None else ended.outcome
        if isinstance(outcome, Finished) and outcome.checkpoint is not None:
            found.append((row, outcome.checkpoint))
    if arm not in names:
        raise InputError(f"{sweep} has no arm {arm!r}; it has: {', '.join(sorted(names))}")
    if not found:
        raise InputError(f"{sweep}: arm {arm} has no confirmed trial with a checkpoint yet")
    return found


def _make(client: MlflowClient, name: str, description: str) -> None:
    try:
        client.create_registered_model(name, description=description)
    except (MlflowException, RestException) as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _version(
    client: MlflowClient, name: str, run_id: str, path: Path, *, tags: dict[str, str]
) -> str:
    client.log_artifact(run_id, str(path), _FOLDER)
    source = f"{client.get_run(run_id).info.artifact_uri}/{_FOLDER}"
    made = client.create_model_version(name, source, run_id=run_id, tags=tags)
    return str(made.version)


def _tags(reader: Reader, row: TrialRow, checkpoint: str) -> dict[str, str]:
    """What tells the versions apart: bits, seed, and what was measured at the last epoch."""
    scores = reader.scores(row.trial_id)
    last = max((one.epoch for one in scores), default=0)
    newest = [one for one in scores if one.epoch == last and not one.is_listed]
    measured = {_key(one): str(one.metric(one.metrics[0])) for one in newest}
    return {
        "bitsweep.trial": row.trial_id,
        "bitsweep.method": row.method,
        "bitsweep.bits": row.bits,
        "bitsweep.seed": str(row.seed),
        "bitsweep.checkpoint": checkpoint,
        **measured,
    }


def _key(score: Score) -> str:
    return f"{score.split}.{score.metrics[0]}.{score.allocation}"[:250]
