"""What a worker does with a job: turn the trainer's generator into steps, through an outbox.

Each evaluation is appended to the outbox (and synced) before it is sent; a restarted job sends its
outbox again. With idempotent inserts at the other end, every evaluation is recorded exactly once.
"""

import errno
import json
import os
import shutil
import socket
import traceback
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any

from bitsweep import errors
from bitsweep.execution.base import (
    Job,
    checkpoint_name,
    outcome_document,
    workspace_name,
)
from bitsweep.execution.limits import (
    OutOfMemory,
    OutOfTime,
    give_back_memory,
    limited,
    memory_text,
    minutes_text,
    read_note,
)
from bitsweep.execution.remote import REMOTE_PATIENCE_SECONDS, Synchronised
from bitsweep.execution.team import Followers, WorkerLost
from bitsweep.execution.trial_log import TrialLog
from bitsweep.measurement import Evaluation, evaluation_document, parse_evaluation
from bitsweep.store.logs import log_name
from bitsweep.store.remote import Remote
from bitsweep.trainer import Team, Trainer, Workspace, load_trainer
from bitsweep.trial import Diverged, Failed, Finished, Interrupted, Outcome

# So little is left where a write has just failed for want of space.
FULL_BYTES = 64 * 1024


class NothingYet(Exception):
    """Raised by a trainer's iterator inside a cohort: nothing is there for this member so far."""


class JobRun:
    """One job in progress: `step` until it returns an outcome; `close` stops it at any time."""

    def __init__(
        self,
        job: Job,
        *,
        trainer: Trainer | None = None,
        followers: Followers | None = None,
        may_exit: bool = False,
    ) -> None:
        """may_exit: this process serves the job alone, and is started again when it ends."""
        self._followers = followers
        self._job = job
        self._folder = job.folders.workspace(job.trial.id)
        self._outbox = self._folder / "outbox.jsonl"
        self._overrun = self._folder / "overrun.txt"
        self._overran: tuple[str, str] | None = None
        self._may_exit = may_exit
        self._has_to_tidy = False
        self._resend: Iterator[Evaluation] | None = None
        self._known_epochs: set[int] = set()
        self._seconds = 0.0
        self._trainer = trainer
        self._evaluations: Iterator[Evaluation] | None = None
        self._log = TrialLog(job.folders.log(job.trial.id))
        self._remote = None
        if job.folders.remote is not None:
            self._remote = Remote(job.folders.remote, patience_seconds=REMOTE_PATIENCE_SECONDS)
        self._copies: Synchronised | None = None
        self._is_over = False

    def _open(self) -> Iterator[Evaluation]:
        """Read the outbox at the first step: an actor that never steps must leave no trace."""
        self._overran = read_note(self._overrun, limit_seconds=self._job.limit_seconds)
        if self._remote is not None:
            name = workspace_name(self._job.trial.id)
            shutil.rmtree(self._folder, ignore_errors=True)  # may be older than the copy there
            self._copies = Synchronised(self._remote, name, self._folder)
            self._copies.pull()
            self._remote.get(log_name(self._job.trial.id), self._log.path)
        self._folder.mkdir(parents=True, exist_ok=True)
        sent = _read_outbox(self._outbox)
        self._log.started(epochs_known=len(sent), gpus=self._job.gpus)
        self._known_epochs = {evaluation.epoch for evaluation in sent}
        self._seconds = max((evaluation.seconds for evaluation in sent), default=0.0)
        return iter(sent)

    def step(self) -> Evaluation | Outcome:
        """The next evaluation, or how the trial ended. Raises nothing of the trainer's.

        WorkerLost where another worker of the trial died: then it begins again elsewhere. Inside
        a cohort NothingYet, where what the trainer of all gave was for others.
        """
        if self._resend is None:
            try:
                self._resend = self._open()
            except OSError as error:
                if _is_full(self._folder, error):
                    return self._no_space()
                where = socket.gethostname()
                return Failed(reason=f"no workspace on {where}: {_one_line(error)}")
            except errors.UrlAway as error:
                return _waits(error)
        again = next(self._resend, None)
        if again is not None:
            return again
        with self._log.listening():
            step = self._try_next()
        if isinstance(step, Evaluation):
            self._log.evaluated(step)
        else:
            self._is_over = True
            if self._has_to_tidy:
                self._evaluations = None
                give_back_memory()
            self._log.ended(step)
        try:
            self._push()
        except errors.UrlAway as error:
            step = _waits(error)
        except OSError as error:
            if not _is_full(self._folder, error):
                raise
            step = self._no_space()
        return step

    def _push(self) -> None:
        """Send what changed before the step is sent: what was acknowledged is never lost."""
        if self._copies is not None and self._remote is not None:
            self._copies.push()
            if self._log.path.is_file():
                self._remote.put(self._log.path, log_name(self._job.trial.id))

    def _try_next(self) -> Evaluation | Outcome:
        try:
            return self._next()
        except errors.Diverged as error:
            return Diverged(reason=str(error))
        except OutOfTime:
            return Failed(reason=minutes_text(self._job.limit_seconds or 0.0))
        except OutOfMemory:
            self._has_to_tidy = True  # not here: the traceback holds what the trainer held
            return Failed(reason=memory_text(self._job.limit_bytes or 0))
        except (WorkerLost, NothingYet):
            raise
        except errors.UrlAway as error:
            return _waits(error)
        except Exception as error:  # whatever a trainer raises becomes an outcome, not a crash
            error = self._cause(error)
            if _is_full(self._folder, error):
                return self._no_space()
            self._log.write("raised", traceback=traceback.format_exc())
            return Failed(reason=_one_line(error))

    def _no_space(self) -> Interrupted:
        """Not the trial's fault: it goes on once there is space."""
        place = self._folder.parent
        return Interrupted(reason=f"no space left for {place} on {socket.gethostname()}")

    def _cause(self, error: Exception) -> Exception:
        """What a follower says outweighs what rank 0 saw of it; WorkerLost if one died."""
        if self._evaluations is None or self._followers is None:
            return error
        try:
            self._followers.join()
        except RuntimeError as told:
            return told
        return error

    def _next(self) -> Evaluation | Outcome:
        finished = self._folder / "finished.json"
        if finished.exists():
            return Finished(**json.loads(finished.read_text(encoding="utf-8")))
        if self._evaluations is None:
            if self._overran is not None:
                self._log.write("raised", traceback=self._overran[1])
                return Failed(reason=self._overran[0])
            self._evaluations = self._start()
        while True:
            begin = monotonic()
            with limited(
                seconds=self._seconds_left(),
                limit_bytes=self._job.limit_bytes,
                note=self._overrun if self._may_exit else None,
            ):
                evaluation = self._advance(self._evaluations)
            self._seconds += monotonic() - begin
            if evaluation is None:
                return self._finish(finished)
            if evaluation.epoch not in self._known_epochs:
                break
        self._known_epochs.add(evaluation.epoch)
        _append(self._outbox, evaluation)
        return evaluation

    def _advance(self, evaluations: Iterator[Evaluation]) -> Evaluation | None:
        """One step of every worker."""
        if self._followers is None or self._job.trial.world_size == 1:
            return next(evaluations, None)
        self._followers.step()
        evaluation = next(evaluations, None)
        self._followers.join()
        return evaluation

    def _start(self) -> Iterator[Evaluation]:
        job = self._job
        start = None if job.start_checkpoint is None else _start_of(job, job.start_checkpoint)
        if job.trial.is_grouped and self._trainer is None:
            raise ValueError("a grouped trial is trained in a cohort, also where it is alone")
        trainer = self._trainer or load_trainer(job.trial.trainer)
        workspace = Workspace(
            folder=self._folder,
            start_checkpoint=start,
            team=self._team(),
            uses_gpu=job.gpus > 0,
        )
        return iter(trainer(job.trial, workspace))

    def _team(self) -> Team | None:
        """Bring the other workers of the trial together."""
        size = self._job.trial.world_size
        if size == 1:
            return None
        if self._followers is None:
            raise ValueError(f"the trial runs over {size} workers, and there is one")
        return Team(rank=0, size=size, meeting=self._followers.begin(self._job))

    def _seconds_left(self) -> float | None:
        if self._job.limit_seconds is None:
            return None
        return max(self._job.limit_seconds - self._seconds, 0.001)

    # What a cohort has to know of a member, and tell it.

    @property
    def job(self) -> Job:
        """What it runs."""
        return self._job

    @property
    def log(self) -> TrialLog:
        """Of its trial."""
        return self._log

    @property
    def note(self) -> Path:
        """Where a process that ends itself leaves word of why."""
        return self._overrun

    @property
    def seconds_left(self) -> float | None:
        """Of its training time; None without a limit."""
        return self._seconds_left()

    def spend(self, seconds: float) -> None:
        """Count time that all members were trained for."""
        self._seconds += seconds

    def _finish(self, marker: Path) -> Finished:
        """Keep the checkpoint under its digest; the marker makes the end repeatable."""
        final = self._folder / "final.pt"
        kept = None
        if self._job.keeps_checkpoint and final.is_file():
            kept = sha256(final.read_bytes()).hexdigest()
            target = self._job.folders.checkpoint(kept)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(f".{os.getpid()}.part")
            shutil.copyfile(final, partial)
            partial.replace(target)
            if self._remote is not None:
                self._remote.put(target, checkpoint_name(kept))
        outcome = Finished(epoch=max(self._known_epochs, default=0), checkpoint=kept)
        fields = {"epoch": outcome.epoch, "checkpoint": outcome.checkpoint}
        _write_synced(marker, json.dumps(fields), mode="w")
        return outcome

    def close(self) -> None:
        """Stop the trainer where it is; its workspace stays."""
        closing = getattr(self._evaluations, "close", None)
        self._evaluations = None
        if closing is not None:
            if not self._is_over:
                self._log.write("closed")
            closing()
        if self._followers is not None:
            self._followers.close()


def step_document(step: Evaluation | Outcome) -> dict[str, Any]:
    """What travels from a worker to the driver."""
    if isinstance(step, Evaluation):
        return {"evaluation": evaluation_document(step)}
    return {"outcome": outcome_document(step)}


def _start_of(job: Job, sha256: str) -> Path:
    """The file of the network it starts from; an error where that is gone or is another one."""
    found = job.folders.find_checkpoint(sha256, patience_seconds=REMOTE_PATIENCE_SECONDS)
    if found is not None:
        return found
    path, host = job.folders.checkpoint(sha256), socket.gethostname()
    if path.is_file():
        raise ValueError(
            f"the checkpoint it starts from is damaged on {host}: the content of {path} has "
            "another digest than its name; --retry failed trains it again"
        )
    raise FileNotFoundError(
        f"the checkpoint it starts from is gone, or not seen on {host}: {path}; give "
        "--workspaces a folder that every node sees, or a URL"
    )


def _waits(error: errors.UrlAway) -> Interrupted:
    """Not the trial's fault: it goes on once its files can be reached again."""
    return Interrupted(reason=f"{error} (on {socket.gethostname()})")


def _read_outbox(path: Path) -> list[Evaluation]:
    """The evaluations of earlier lives; a line cut by a crash was never sent and is dropped."""
    if not path.exists():
        return []
    evaluations = []
    whole = b""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            evaluations.append(parse_evaluation(json.loads(line)))
        except (ValueError, KeyError):
            break
        if not line.endswith(b"\n"):
            break
        whole += line
    evaluations = evaluations[: whole.count(b"\n")]
    path.write_bytes(whole)
    return evaluations


def _is_full(folder: Path, error: BaseException) -> bool:
    """Whether an error comes of a full disk. torch.save hides the reason: then the disk tells."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT}:
            return True
        cause = cause.__cause__ or cause.__context__
    try:
        return shutil.disk_usage(folder.parent).free < FULL_BYTES
    except OSError:
        return False


def _append(path: Path, evaluation: Evaluation) -> None:
    _write_synced(path, json.dumps(evaluation_document(evaluation)) + "\n", mode="a")


def _write_synced(path: Path, text: str, *, mode: str) -> None:
    with path.open(mode, encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _one_line(error: Exception) -> str:
    text = str(error).strip()
    first = text.splitlines()[0] if text else "no message"
    return f"{type(error).__name__}: {first}"[:500]
