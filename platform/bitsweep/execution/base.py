"""The seam between who decides (the agenda) and who runs (an executor)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bitsweep.measurement import Evaluation
from bitsweep.trial import OUTCOMES, Outcome, Trial, parse_trial, status_of, trial_document


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where trials keep state (`workspaces`) and where kept checkpoints lie by digest."""

    workspaces: Path
    artifacts: Path

    def workspace(self, trial_id: str) -> Path:
        """The folder of one trial."""
        return self.workspaces / trial_id

    def checkpoint(self, sha256: str) -> Path:
        """The file of a kept checkpoint."""
        return self.artifacts / f"{sha256}.pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A trial to run now; `start_checkpoint` is the digest of what it starts from.

    limit_seconds: the training time after which it ends as Failed("timeout").
    """

    trial: Trial
    folders: Folders
    start_checkpoint: str | None = None
    keeps_checkpoint: bool = False
    limit_seconds: float | None = None


class Agenda(Protocol):
    """Who decides. Every call is made in the driver, by one thread.

    next_job returns None when nothing can start at this moment; is_done says that nothing ever
    will again. evaluated commits an evaluation and says whether the trial goes on: an executor
    calls it before the trainer resumes, so that a trainer's yield returns after the commit. When
    it says no, the agenda has written the outcome itself. ended is called for every other end.
    """

    def next_job(self) -> Job | None: ...

    def is_done(self) -> bool: ...

    def evaluated(self, trial_id: str, evaluation: Evaluation, /) -> bool: ...

    def ended(self, trial_id: str, outcome: Outcome, /) -> None: ...


class Executor(Protocol):
    """Who runs: takes jobs until the agenda is done. An error of the agenda ends the run.

    close gives back what run took, such as a cluster that it started; call it once, at the end.
    """

    def run(self, agenda: Agenda, /) -> None: ...

    def close(self) -> None: ...


def job_document(job: Job) -> dict[str, Any]:
    """Plain JSON values, to send a job to a worker."""
    return {
        "trial": trial_document(job.trial),
        "workspaces": str(job.folders.workspaces),
        "artifacts": str(job.folders.artifacts),
        "start_checkpoint": job.start_checkpoint,
        "keeps_checkpoint": job.keeps_checkpoint,
        "limit_seconds": job.limit_seconds,
    }


def parse_job(document: Mapping[str, Any]) -> Job:
    """The inverse of `job_document`."""
    return Job(
        trial=parse_trial(document["trial"]),
        folders=Folders(
            workspaces=Path(document["workspaces"]), artifacts=Path(document["artifacts"])
        ),
        start_checkpoint=document["start_checkpoint"],
        keeps_checkpoint=document["keeps_checkpoint"],
        limit_seconds=document["limit_seconds"],
    )


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """Plain JSON values of an outcome."""
    fields = {name: getattr(outcome, name) for name in type(outcome).__dataclass_fields__}
    return {"status": status_of(outcome), **fields}


def parse_outcome(document: Mapping[str, Any]) -> Outcome:
    """The inverse of `outcome_document`."""
    fields = {name: value for name, value in document.items() if name != "status"}
    return OUTCOMES[document["status"]](**fields)
