"""The workers of one trial beyond the first: they step when rank 0 steps, and end with it.

Here is what each does, and a team of processes of this machine; the team of Ray's actors stands in
`ray_team`. How they compute together is the trainer's affair.
"""

import multiprocessing
import socket
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from bitsweep.execution.base import Job, job_document, parse_job
from bitsweep.execution.limits import OutOfMemory, limited, memory_text
from bitsweep.execution.remote import REMOTE_PATIENCE_SECONDS
from bitsweep.measurement import Evaluation
from bitsweep.trainer import Team, Trainer, Workspace, load_trainer

END_SECONDS = 10.0


class WorkerLost(Exception):
    """A worker of a trial died: the trial begins again from its workspace."""


class Followers(Protocol):
    """Ranks 1 and up of a trial. begin, then step and join by turns, then close.

    begin returns where the group meets. step lets each go to its next evaluation and returns at
    once. join waits for them; it raises WorkerLost for a dead one, RuntimeError for one that
    failed. close ends the trial for them.
    """

    def begin(self, job: Job) -> str: ...

    def step(self) -> None: ...

    def join(self) -> None: ...

    def close(self) -> None: ...


class FollowerRun:
    """What a follower does with a job: the same trainer, in a scratch folder of its own."""

    def __init__(
        self, job: Job, *, rank: int, meeting: str, trainer: Trainer | None = None
    ) -> None:
        self._limit_bytes = job.limit_bytes
        self._scratch = tempfile.TemporaryDirectory(prefix="bitsweep-rank-")
        start = None
        if job.start_checkpoint is not None:
            job.folders.bring_checkpoint(
                job.start_checkpoint, patience_seconds=REMOTE_PATIENCE_SECONDS
            )
            start = job.folders.checkpoint(job.start_checkpoint)
        team = Team(rank=rank, size=job.trial.world_size, meeting=meeting)
        workspace = Workspace(
            folder=Path(self._scratch.name),
            start_checkpoint=start,
            team=team,
            uses_gpu=job.gpus > 0,
        )
        chosen = trainer or load_trainer(job.trial.trainer)
        self._evaluations: Iterator[Evaluation] = iter(chosen(job.trial, workspace))

    def step(self) -> None:
        """Train to the next evaluation, or to the end; MemoryError over the limit."""
        try:
            with limited(seconds=None, limit_bytes=self._limit_bytes, note=None):
                next(self._evaluations, None)
        except OutOfMemory:
            raise MemoryError(memory_text(self._limit_bytes or 0)) from None

    def close(self) -> None:
        """Stop where it is."""
        closing = getattr(self._evaluations, "close", None)
        if closing is not None:
            closing()
        self._scratch.cleanup()


def meeting_at(host: str) -> str:
    """A place "host:port" where nothing listens yet."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return f"{host}:{probe.getsockname()[1]}"


class ProcessTeam:
    """Followers as processes of this machine, one set per trial."""

    def __init__(self, *, trainer: Trainer | None = None) -> None:
        self._trainer = trainer
        self._members: list[tuple[Any, Connection]] = []
        self._asked = False

    @property
    def processes(self) -> list[int]:
        """Their process ids, by rank from 1."""
        return [int(process.pid) for process, _ in self._members]

    def begin(self, job: Job) -> str:
        """Start them; they meet on loopback."""
        meeting = meeting_at("127.0.0.1")
        context = multiprocessing.get_context("spawn")
        for rank in range(1, job.trial.world_size):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve,
                args=(job_document(job), rank, meeting, self._trainer, theirs),
                daemon=True,
            )
            process.start()
            theirs.close()
            self._members.append((process, ours))
        self._asked = True
        self.join()  # rank 0 would wait for long where one of them cannot even start
        return meeting

    def step(self) -> None:
        """Tell each to go on."""
        self._asked = True
        for _, connection in self._members:
            try:
                connection.send("step")
            except OSError as error:
                raise WorkerLost("a worker of the trial died") from error

    def join(self) -> None:
        """Hear what each says of its step."""
        if not self._asked:
            return
        self._asked = False
        for rank, (_, connection) in enumerate(self._members, start=1):
            try:
                complaint = connection.recv()
            except (EOFError, OSError) as error:
                raise WorkerLost(f"worker {rank} of the trial died") from error
            if complaint is not None:
                raise RuntimeError(f"worker {rank}: {complaint}")

    def close(self) -> None:
        """End the processes; one inside a collective cannot listen, so none is asked for long."""
        for process, connection in self._members:
            connection.close()
            process.join(timeout=END_SECONDS if not self._asked else 0.1)
            if process.is_alive():
                process.kill()
                process.join()
        self._members = []
        self._asked = False


def _serve(
    document: dict[str, Any],
    rank: int,
    meeting: str,
    trainer: Trainer | None,
    connection: Connection,
) -> None:
    """A follower's process: a step per word, until the other end is closed."""
    run: FollowerRun | None = None
    connection.send(None)  # it has started
    while True:
        try:
            connection.recv()
        except (EOFError, OSError):
            break
        try:
            if run is None:
                job = parse_job(document)
                run = FollowerRun(job, rank=rank, meeting=meeting, trainer=trainer)
            run.step()
            said = None
        except Exception as error:  # whatever a trainer raises is told to rank 0
            said = f"{type(error).__name__}: {error}"
        try:
            connection.send(said)
        except OSError:
            break
    if run is not None:
        run.close()
