"""Running one known trial again, beside the store, to see whether its numbers repeat."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from bitsweep.errors import InputError
from bitsweep.execution.base import Folders, Job
from bitsweep.execution.team import ProcessTeam
from bitsweep.execution.worker import JobRun
from bitsweep.measurement import Evaluation
from bitsweep.run import folders_of
from bitsweep.store.database import open_to_read
from bitsweep.store.reader import Reader
from bitsweep.trial import Finished, Outcome, Trial

Counts = dict[tuple[int, str, str], tuple[int | None, int]]


def repeat_trial(store: str, prefix: str) -> dict[str, Any]:
    """Run the trial whose id begins so in a scratch folder; compare its counts with the store's.

    Writes nothing to the store. Where all numbers repeat, the network is kept under the trial's
    id, so that it can be exported. Raises InputError when its start's checkpoint is gone.
    """
    reader = Reader(open_to_read(store))
    trial = reader.trial(prefix)
    artifacts = folders_of(store).artifacts
    with tempfile.TemporaryDirectory(prefix="bitsweep-repeat-") as scratch:
        job = Job(
            trial=trial,
            folders=Folders(
                workspaces=Path(scratch), artifacts=artifacts, logs=Path(scratch) / "logs"
            ),
            start_checkpoint=_start_checkpoint(reader, trial),
        )
        team = ProcessTeam() if trial.world_size > 1 else None
        run = JobRun(job, followers=team)
        try:
            counted, outcome = _counts(run)
        finally:
            run.close()
        standing = _standing(reader, trial)
        is_identical = counted == standing and isinstance(outcome, Finished)
        if is_identical:
            _keep(job)
    lines = [
        f"epoch {epoch} {split} {allocation}: {correct} of {total} correct, "
        f"the store has {standing.get((epoch, split, allocation), ('nothing',))[0]}"
        for (epoch, split, allocation), (correct, total) in counted.items()
    ]
    return {
        "trial": trial.id,
        "is_identical": is_identical,
        "lines": lines,
    }


def _standing(reader: Reader, trial: Trial) -> Counts:
    return {
        (one.epoch, one.split, one.allocation): (one.correct, one.total)
        for one in reader.scores(trial.id)
    }


def _keep(job: Job) -> None:
    """Copy the network out of the scratch folder; a trainer may leave none."""
    final = job.folders.workspace(job.trial.id) / "final.pt"
    if final.is_file():
        target = job.folders.checkpoint(job.trial.id)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(final, target)


def _counts(
    run: JobRun,
) -> tuple[Counts, Outcome]:
    counted: Counts = {}
    while True:
        step = run.step()
        if not isinstance(step, Evaluation):
            return counted, step
        for one in step.measurements:
            key = (step.epoch, str(one.split), one.allocation.label)
            counted[key] = (one.correct, one.total)


def _start_checkpoint(reader: Reader, trial: Trial) -> str | None:
    if trial.start is None:
        return None
    ended = reader.ended([trial.start]).get(trial.start)
    kept = ended.outcome.checkpoint if ended and isinstance(ended.outcome, Finished) else None
    if kept is None:
        message = "the trial it starts from has no checkpoint: run the sweep first"
        raise InputError(f"trial {trial.short_id}: {message}")
    return kept
