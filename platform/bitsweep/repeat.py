"""Running one known trial again, beside the store, to see whether its numbers repeat."""

import tempfile
from pathlib import Path
from typing import Any

from bitsweep.errors import InputError
from bitsweep.execution.base import Folders, Job
from bitsweep.execution.worker import JobRun
from bitsweep.measurement import Evaluation
from bitsweep.run import folders_of
from bitsweep.store.database import open_to_read
from bitsweep.store.reader import Reader
from bitsweep.trial import Finished, Outcome, Trial


def repeat_trial(store: str, prefix: str) -> dict[str, Any]:
    """Run the trial whose id begins so in a scratch folder; compare its counts with the store's.

    Writes nothing to the store. Raises InputError when its start's checkpoint is gone.
    """
    reader = Reader(open_to_read(store))
    trial = reader.trial(prefix)
    artifacts = folders_of(store).artifacts
    with tempfile.TemporaryDirectory(prefix="bitsweep-repeat-") as scratch:
        job = Job(
            trial=trial,
            folders=Folders(workspaces=Path(scratch), artifacts=artifacts),
            start_checkpoint=_start_checkpoint(reader, trial),
        )
        counted, outcome = _counts(JobRun(job))
    standing = {
        (one.epoch, one.split, one.allocation): (one.correct, one.total)
        for one in reader.scores(trial.id)
    }
    lines = [
        f"epoch {epoch} {split} {allocation}: {correct} of {total} correct, "
        f"the store has {standing.get((epoch, split, allocation), ('nothing',))[0]}"
        for (epoch, split, allocation), (correct, total) in counted.items()
    ]
    return {
        "trial": trial.id,
        "is_identical": counted == standing and isinstance(outcome, Finished),
        "lines": lines,
    }


def _counts(
    run: JobRun,
) -> tuple[dict[tuple[int, str, str], tuple[int | None, int]], Outcome]:
    counted: dict[tuple[int, str, str], tuple[int | None, int]] = {}
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
