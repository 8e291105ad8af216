"""The seam between who decides (the agenda) and who runs (an executor)."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any, Protocol

from bitsweep.measurement import Evaluation
from bitsweep.store.logs import log_name
from bitsweep.store.remote import Remote
from bitsweep.trial import OUTCOMES, Outcome, Trial, parse_trial, status_of, trial_document


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where trials keep state (`workspaces`), kept checkpoints by digest, and the trials' logs.

    `remote` is a URL that holds the same three folders: then these are this machine's copies, and
    `home` is what this machine keeps of its own.
    """

    workspaces: Path
    artifacts: Path
    logs: Path
    remote: str | None = None
    home: Path | None = None

    @property
    def journals(self) -> Path:
        """Where drivers keep what their store could not take: on this machine's disk, always."""
        return (self.home or self.workspaces.parent) / "journals"

    def workspace(self, trial_id: str) -> Path:
        """The folder of one trial."""
        return self.workspaces / trial_id

    def checkpoint(self, sha256: str) -> Path:
        """The file of a kept checkpoint."""
        return self.artifacts / f"{sha256}.pt"

    @property
    def checkpoints_place(self) -> str:
        """Where kept checkpoints lie for everybody: the URL, or else the folder."""
        if self.remote is None:
            return str(self.artifacts)
        return f"{self.remote.rstrip('/')}/{checkpoint_name('').rpartition('/')[0]}"

    def log(self, trial_id: str) -> Path:
        """The log of one trial."""
        return self.logs / f"{trial_id}.jsonl"

    def bring_checkpoint(self, sha256: str, *, patience_seconds: float = 0.0) -> bool:
        """Make a kept checkpoint readable here; False if it is gone, or not seen from here.

        UrlAway where nobody answers for `patience_seconds`.
        """
        path = self.checkpoint(sha256)
        if path.is_file():
            return True
        if self.remote is None:
            return False
        remote = Remote(self.remote, patience_seconds=patience_seconds)
        return remote.get(checkpoint_name(sha256), path)

    def find_checkpoint(self, sha256: str, *, patience_seconds: float = 0.0) -> Path | None:
        """The file of a kept checkpoint, brought here if need be; None if it is gone or damaged.

        Reads the whole file: what trains on another network than its identity says is worse than
        what does not train. A damaged copy of a URL's file is brought anew. UrlAway as above.
        """
        path = self.checkpoint(sha256)
        for _ in ("what is here", "what the URL has"):
            if not self.bring_checkpoint(sha256, patience_seconds=patience_seconds):
                return None
            if not self.is_damaged(sha256):
                return path
            if self.remote is None:
                return None
            path.unlink()
        return None

    def is_damaged(self, sha256: str) -> bool:
        """Whether the file that is here has another content than its name says."""
        try:
            with self.checkpoint(sha256).open("rb") as file:
                return file_digest(file, "sha256").hexdigest() != sha256
        except FileNotFoundError:
            return False

    def clear_workspace(self, trial_id: str) -> None:
        """Delete a trial's workspace here and at the URL."""
        shutil.rmtree(self.workspace(trial_id), ignore_errors=True)
        if self.remote is not None:
            Remote(self.remote).remove(workspace_name(trial_id))

    def log_text(self, trial_id: str) -> str | None:
        """What the log of a trial says; None if there is none, or it is not seen from here."""
        if self.remote is not None:
            return Remote(self.remote).read(log_name(trial_id))
        path = self.log(trial_id)
        return path.read_text(encoding="utf-8") if path.is_file() else None


def workspace_name(trial_id: str) -> str:
    """A workspace's name below the URL."""
    return f"workspaces/{trial_id}"


def checkpoint_name(sha256: str) -> str:
    """A kept checkpoint's name below the URL."""
    return f"artifacts/checkpoints/{sha256}.pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A trial to run now; `start_checkpoint` is the digest of what it starts from.

    limit_seconds: the training time after which it ends as Failed("timeout"). limit_bytes: the
    memory of each of its workers, over which it ends as Failed("memory"). gpus: of each worker,
    as the sweep asks for them.
    """

    trial: Trial
    folders: Folders
    start_checkpoint: str | None = None
    keeps_checkpoint: bool = False
    limit_seconds: float | None = None
    limit_bytes: int | None = None
    gpus: float = 0.0


class Agenda(Protocol):
    """Who decides. Every call is made in the driver, by one thread.

    next_job returns None when nothing can start at this moment; is_done says that nothing ever
    will again. companions gives the jobs that are trained as one network with that of a grouped
    trial: they have started as it has, and each has its own end. evaluated commits an evaluation
    and says whether the trial goes on: an executor calls it before the trainer resumes, so that a
    trainer's yield returns after the commit. When it says no, the agenda has written the outcome
    itself; a cohort may train such a member on, and tells nobody of it. ended is called for every
    other end. again says that a worker gets a running trial once more; remark is something to tell
    the user.
    """

    def next_job(self) -> Job | None: ...

    def companions(self, job: Job, /) -> tuple[Job, ...]: ...

    def is_done(self) -> bool: ...

    def evaluated(self, trial_id: str, evaluation: Evaluation, /) -> bool: ...

    def ended(self, trial_id: str, outcome: Outcome, /) -> None: ...

    def again(self, trial_id: str, /) -> None: ...

    def remark(self, text: str, /) -> None: ...


class Executor(Protocol):
    """Who runs: takes jobs until the agenda is done. An error of the agenda ends the run.

    close gives back what run took, such as a cluster that it started; call it once, at the end.
    place names the machines that it runs on, None before it has joined them: drivers with the same
    text compete for them.
    """

    @property
    def place(self) -> str | None: ...

    def run(self, agenda: Agenda, /) -> None: ...

    def close(self) -> None: ...


def job_document(job: Job) -> dict[str, Any]:
    """Plain JSON values, to send a job to a worker."""
    return {
        "trial": trial_document(job.trial),
        "workspaces": str(job.folders.workspaces),
        "artifacts": str(job.folders.artifacts),
        "logs": str(job.folders.logs),
        "remote": job.folders.remote,
        "start_checkpoint": job.start_checkpoint,
        "keeps_checkpoint": job.keeps_checkpoint,
        "limit_seconds": job.limit_seconds,
        "limit_bytes": job.limit_bytes,
        "gpus": job.gpus,
    }


def parse_job(document: Mapping[str, Any]) -> Job:
    """The inverse of `job_document`."""
    return Job(
        trial=parse_trial(document["trial"]),
        folders=Folders(
            workspaces=Path(document["workspaces"]),
            artifacts=Path(document["artifacts"]),
            logs=Path(document["logs"]),
            remote=document["remote"],
        ),
        start_checkpoint=document["start_checkpoint"],
        keeps_checkpoint=document["keeps_checkpoint"],
        limit_seconds=document["limit_seconds"],
        limit_bytes=document["limit_bytes"],
        gpus=document["gpus"],
    )


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """Plain JSON values of an outcome."""
    fields = {name: getattr(outcome, name) for name in type(outcome).__dataclass_fields__}
    return {"status": status_of(outcome), **fields}


def parse_outcome(document: Mapping[str, Any]) -> Outcome:
    """The inverse of `outcome_document`."""
    fields = {name: value for name, value in document.items() if name != "status"}
    return OUTCOMES[document["status"]](**fields)
