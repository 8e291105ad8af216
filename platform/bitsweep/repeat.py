"""Running one known trial again, beside the store, to see whether its numbers repeat."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bitsweep.bits import one_name
from bitsweep.errors import InputError
from bitsweep.execution.base import Folders, Job
from bitsweep.execution.cohort import Cohort
from bitsweep.execution.team import ProcessTeam
from bitsweep.execution.worker import JobRun
from bitsweep.measurement import Evaluation
from bitsweep.run import folders_of
from bitsweep.store.database import open_to_read
from bitsweep.store.logs import read_lines
from bitsweep.store.reader import Reader
from bitsweep.trial import Finished, Outcome, Trial

TRAINED_TOGETHER = (
    "It was trained together with other seeds (seeds_together), and with which of them all the "
    "time is not known here: alone its last digits differ, and training carries them on. That "
    "says nothing against what the store holds."
)
# By epoch, split and allocation: (right answers, samples, sums of metrics) of each measurement.
Facts = tuple[int | None, int, tuple[tuple[str, float], ...]]
Counts = dict[tuple[int, str, str], list[Facts]]


def repeat_trial(
    store: str, prefix: str, work: str | None = None, *, gpus: float = 0.0
) -> dict[str, Any]:
    """Run the trial whose id begins so in a scratch folder; compare its numbers with the store's.

    Counts and sums are compared bit for bit. Writes nothing to the store. Where all numbers
    repeat, the network is kept under the trial's id, so that it can be exported. A trial that was
    trained with others is trained with them again; where its log does not tell with whom, it is
    alone and its last digits may differ, as on another device.
    work: where the run kept its files; None: beside the store. gpus: of each worker. Raises
    InputError when its start's checkpoint is gone.
    """
    reader = Reader(open_to_read(store))
    trial = reader.trial(prefix)
    kept = folders_of(store, work)
    group = _group(reader, trial, kept)
    starts = [_start_checkpoint(reader, one, kept) for one in group]
    with tempfile.TemporaryDirectory(prefix="bitsweep-repeat-") as scratch:
        folders = Folders(
            workspaces=Path(scratch), artifacts=kept.artifacts, logs=Path(scratch) / "logs"
        )
        jobs = {
            one.id: Job(trial=one, folders=folders, start_checkpoint=start, gpus=gpus)
            for one, start in zip(group, starts, strict=True)
        }
        job = jobs[trial.id]
        team = ProcessTeam() if trial.world_size > 1 else None
        is_grouped = trial.is_grouped
        run = Cohort(list(jobs.values())) if is_grouped else JobRun(job, followers=team)
        try:
            counted, outcome = _counts(_steps(run, trial.id))
        finally:
            run.close()
        standing = _standing(reader, trial)
        is_identical = counted == standing and isinstance(outcome, Finished)
        if is_identical:
            _keep(job)
    lines = [
        f"epoch {epoch} {split} {allocation}: {_told(facts)}, the store has "
        + ("the same" if standing.get((epoch, split, allocation)) == facts else "other numbers: ")
        + _difference(facts, standing.get((epoch, split, allocation), []))
        for (epoch, split, allocation), facts in counted.items()
    ]
    return {
        "trial": trial.id,
        "is_identical": is_identical,
        "lines": lines,
        "note": TRAINED_TOGETHER if is_grouped and len(jobs) == 1 and not is_identical else None,
    }


def _group(reader: Reader, trial: Trial, kept: Folders) -> list[Trial]:
    """The trials that it was trained with, itself among them, in the order of their network."""
    if not trial.is_grouped:
        return [trial]
    members = group_members(kept.log_text(trial.id) or "", trial.short_id)
    return [trial if one == trial.short_id else reader.trial(one) for one in members]


def group_members(log: str, short_id: str) -> tuple[str, ...]:
    """The short ids of a group's trials in order, from a member's log.

    Only its own where the log does not tell the order, and where the trial was in one group first
    and in another later.
    """
    events = [one for one in read_lines(log) if one.get("event") == "grouped"]
    told = {(one.get("place"), str(one.get("others", "none"))) for one in events}
    if len(told) != 1:
        return (short_id,)
    ((place, names),) = told
    if place is None or names == "none":
        return (short_id,)
    others = names.split()
    return (*others[:place], short_id, *others[place:])


def _standing(reader: Reader, trial: Trial) -> Counts:
    counts: Counts = {}
    for one in reader.scores(trial.id):
        sums = dict(one.metric_sums) | ({} if one.loss_sum is None else {"loss": one.loss_sum})
        facts = (one.correct, one.total, tuple(sorted(sums.items())))
        counts.setdefault((one.epoch, one.split, one_name(one.allocation)), []).append(facts)
    return _sorted(counts)


def _sorted(counts: Counts) -> Counts:
    """Several measurements may share a key (allocators, protocols): their order is no fact."""
    return {key: sorted(facts, key=repr) for key, facts in counts.items()}


def _told(facts: list[Facts]) -> str:
    return "; ".join(
        f"{correct} of {total} correct" if correct is not None else f"{total} samples"
        for correct, total, _ in facts
    )


def _difference(facts: list[Facts], standing: list[Facts]) -> str:
    """What the store has instead; empty where it is the same."""
    if facts == standing:
        return ""
    if _told(facts) == _told(standing):
        return f"sums {[dict(sums) for *_, sums in standing]}"
    return _told(standing) or "nothing"


def _keep(job: Job) -> None:
    """Copy the network out of the scratch folder; a trainer may leave none."""
    final = job.folders.workspace(job.trial.id) / "final.pt"
    if final.is_file():
        target = job.folders.checkpoint(job.trial.id)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(final, target)


def _steps(run: JobRun | Cohort, trial_id: str) -> Iterator[Evaluation | Outcome]:
    """All steps of the one trial, up to its outcome."""
    while True:
        if isinstance(run, Cohort):
            yield from (step for one, step in run.step() if one == trial_id)
        else:
            yield run.step()


def _counts(steps: Iterator[Evaluation | Outcome]) -> tuple[Counts, Outcome]:
    counted: Counts = {}
    while isinstance(step := next(steps), Evaluation):
        for one in step.measurements:
            sums = tuple(sorted((name, float(value)) for name, value in one.sums.items()))
            key = (step.epoch, str(one.split), one_name(one.allocation.label))
            counted.setdefault(key, []).append((one.correct, one.total, sums))
    return _sorted(counted), step


def _start_checkpoint(reader: Reader, trial: Trial, kept_in: Folders) -> str | None:
    if trial.start is None:
        return None
    ended = reader.ended([trial.start]).get(trial.start)
    kept = ended.outcome.checkpoint if ended and isinstance(ended.outcome, Finished) else None
    if kept is None:
        message = "the trial it starts from has no checkpoint: run the sweep first"
        raise InputError(f"trial {trial.short_id}: {message}")
    if kept_in.find_checkpoint(kept) is None:
        place = kept_in.remote or kept_in.artifacts
        if (path := kept_in.checkpoint(kept)).is_file():
            raise InputError(
                f"trial {trial.short_id}: the content of the checkpoint that it starts from "
                f"({path}) has another digest than its name: run the sweep, which trains it again"
            )
        raise InputError(
            f"trial {trial.short_id}: the checkpoint that it starts from is not in {place}: "
            "--workspaces names the folder that the run was given"
        )
    return kept
