"""Jobs whose trials one worker trains as one network, each with its own outbox, log and end.

Each member is a `JobRun` whose trainer is a seat; what sits behind the seats is one group trainer.
It is resumed only when every member has told what it gave before, and that is committed: a member
that leaves against the trainer's word takes it down, and the others go on from their workspaces,
so that no state is ever ahead of an outbox.
"""

import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from time import monotonic
from types import TracebackType

from bitsweep import errors
from bitsweep.execution.base import Job
from bitsweep.execution.limits import OutOfMemory, OutOfTime, limited
from bitsweep.execution.worker import JobRun, NothingYet
from bitsweep.measurement import Evaluation
from bitsweep.trainer import GroupTrainer, Round, Workspace, load_group_trainer
from bitsweep.trial import Outcome, Trial


class Seat:
    """A member's place at the group trainer: what its JobRun takes for its trainer."""

    def __init__(self) -> None:
        self.workspace: Workspace | None = None
        self._evaluations: deque[Evaluation] = deque()
        self._end: BaseException | None = None
        self._traceback: TracebackType | None = None

    def __call__(self, trial: Trial, workspace: Workspace, /) -> Iterator[Evaluation]:
        """Take the seat: the workspace is ready."""
        self.workspace = workspace
        return self

    def __iter__(self) -> Iterator[Evaluation]:
        return self

    def __next__(self) -> Evaluation:
        """What was put here; NothingYet until something is."""
        if self._evaluations:
            return self._evaluations.popleft()
        if self._end is None:
            raise NothingYet
        raise self._end.with_traceback(self._traceback)  # several seats may raise the same

    def close(self) -> None:
        """Nothing to stop here: the trainer is that of all."""

    @property
    def has_end(self) -> bool:
        """The group trainer has said its last word on the member."""
        return self._end is not None

    def put(self, item: Evaluation | errors.Diverged | None) -> None:
        """The member's place in a round."""
        if isinstance(item, Evaluation):
            self._evaluations.append(item)
        elif item is not None:
            self.end(item)

    def end(self, reason: BaseException) -> None:
        """Let the member end by this; StopIteration: it is trained."""
        self._end, self._traceback = reason, reason.__traceback__


class _Member:
    def __init__(self, job: Job) -> None:
        self.seat = Seat()
        self.run = JobRun(job, trainer=self.seat)

    @property
    def trial(self) -> Trial:
        return self.run.job.trial


class Cohort:
    """Jobs in progress as one network: `step` until `is_over`; `close` stops it at any time.

    trainer: replaces the one that the trials name (tests). may_exit: as of a JobRun.
    """

    def __init__(
        self, jobs: Sequence[Job], *, trainer: GroupTrainer | None = None, may_exit: bool = False
    ) -> None:
        self._members = [_Member(job) for job in jobs]
        self._trainer = trainer
        self._may_exit = may_exit
        self._is_open = False
        self._rounds: Iterator[Round] | None = None
        self._seated: tuple[_Member, ...] = ()

    @property
    def is_over(self) -> bool:
        """Every member has ended."""
        return not self._members

    def step(self) -> list[tuple[str, Evaluation | Outcome]]:
        """By trial, what members have to tell, one thing each; [] once it is over.

        All of it must be committed before the next step. Raises nothing of the trainer's.
        """
        if not self._is_open:
            self._share_note()
            self._is_open = True
        while self._members:
            if told := self._told():
                return told
            self._advance()
        return []

    def close(self) -> None:
        """Stop the trainer where it is; the workspaces stay."""
        self._stop_trainer()
        for member in self._members:
            member.run.close()

    def _told(self) -> list[tuple[str, Evaluation | Outcome]]:
        """What each member has to tell without that the trainer goes on."""
        told: list[tuple[str, Evaluation | Outcome]] = []
        for member in list(self._members):
            try:
                step = member.run.step()
            except NothingYet:
                continue
            told.append((member.trial.id, step))
            if not isinstance(step, Evaluation):
                self._leave(member)
        return told

    def _leave(self, member: _Member) -> None:
        """A member has ended; where the trainer does not know that, it begins without it."""
        self._members.remove(member)
        if not member.seat.has_end:
            self._stop_trainer()
        member.run.close()

    def _advance(self) -> None:
        """One round of the trainer: every member waits for it, and has its workspace."""
        begin = monotonic()
        try:
            found = self._round()
            if found is None:
                self._end_all(StopIteration())
            else:
                for member, item in zip(self._seated, found, strict=True):
                    member.seat.put(item)
        except OutOfTime:
            self._stop_trainer()
            self._end_slowest(monotonic() - begin)
        except OutOfMemory:
            self._stop_trainer()
            self._end_all(OutOfMemory())  # not the one that holds what the trainer held
        except Exception as error:  # whatever a trainer raises becomes outcomes
            self._stop_trainer()
            self._end_all(error)
        seconds = monotonic() - begin
        for member in self._members:
            member.run.spend(seconds)

    def _round(self) -> Round | None:
        """What the trainer gives next, under the limits of the members; None at its end."""
        runs = [member.run for member in self._members]
        seconds = [one.seconds_left for one in runs if one.seconds_left is not None]
        most_bytes = [one.job.limit_bytes for one in runs if one.job.limit_bytes is not None]
        with ExitStack() as stack:
            for one in runs:
                stack.enter_context(one.log.listening())
            stack.enter_context(
                limited(
                    seconds=min(seconds, default=None),
                    limit_bytes=min(most_bytes, default=None),
                    note=runs[0].note if self._may_exit else None,
                )
            )
            if self._rounds is None:
                self._rounds = self._begin()
            return next(self._rounds, None)

    def _begin(self) -> Iterator[Round]:
        """Start the trainer with the members that there are."""
        self._seated = tuple(self._members)
        trials = [member.trial for member in self._seated]
        for place, member in enumerate(self._seated):
            others = [one.short_id for one in trials if one is not member.trial]
            member.run.log.write("grouped", place=place, others=" ".join(others) or "none")
        trainer = self._trainer or load_group_trainer(trials[0].trainer)
        workspaces = [member.seat.workspace for member in self._seated]
        return iter(trainer(trials, [one for one in workspaces if one is not None]))

    def _stop_trainer(self) -> None:
        closing = getattr(self._rounds, "close", None)
        self._rounds, self._seated = None, ()
        if closing is not None:
            closing()

    def _end_all(self, reason: BaseException) -> None:
        for member in self._members:
            member.seat.end(reason)

    def _end_slowest(self, seconds: float) -> None:
        """Out of time are those who had no more left than was spent, not who began later."""
        limits = [(member, member.run.seconds_left) for member in self._members]
        left = [(member, had) for member, had in limits if had is not None]
        for member, had in left:
            if had <= max(seconds, min(one for _, one in left)):
                member.seat.end(OutOfTime())

    def _share_note(self) -> None:
        """A process that ended itself left its note with the first member: it concerns all."""
        notes = [member.run.note for member in self._members]
        for other in notes[1:]:
            if notes[0].is_file() and other.parent.is_dir():
                shutil.copyfile(notes[0], other)
