"""What ends a run early: a request in the store, SIGTERM; and the driver's sign of life.

A *stop* lets running trials end and starts none; a *cancel* interrupts them, as Ctrl-C does.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic, time
from types import FrameType

from sqlalchemy.exc import SQLAlchemyError

from bitsweep.errors import StoreError
from bitsweep.execution.base import Agenda, Job
from bitsweep.execution.precedence import Standing, Turn
from bitsweep.execution.provenance import is_dead
from bitsweep.measurement import Evaluation
from bitsweep.store.database import open_to_read, open_to_write
from bitsweep.store.requests import last_request, requested
from bitsweep.store.writer import CLAIM_SECONDS, Writer
from bitsweep.trial import Outcome

LOOK_SECONDS = 2.0


class Stoppable:
    """An agenda that starts nothing more once it was told to stop, and is done when all ended.

    done_hook: called when the last trial has ended, before the executor cleans up. turn: while
    another driver goes first, nothing starts either.
    """

    def __init__(
        self,
        agenda: Agenda,
        stop: threading.Event,
        *,
        done_hook: Callable[[], None] = lambda: None,
        turn: Turn | None = None,
    ) -> None:
        self._agenda = agenda
        self._stop = stop
        self._turn = turn or Turn()
        self._gave_way_to: set[str] = set()
        self._done_hook = done_hook
        self._running: dict[str, str] = {}  # by trial, the first of those that share its worker

    def next_job(self) -> Job | None:
        """The next job of the agenda; none after the stop, or while another driver goes first."""
        if self._stop.is_set():
            self._turn.wants = False
            return None
        if (above := self._turn.above) is not None:
            if above.sweep not in self._gave_way_to:
                self._gave_way_to.add(above.sweep)
                self._agenda.remark(f"gave way to {above.sweep}, priority {above.priority}")
            return None
        job = self._agenda.next_job()
        if job is not None:
            self._running[job.trial.id] = job.trial.id
        self._turn.asked(got_one=job is not None, running=len(set(self._running.values())))
        return job

    def companions(self, job: Job, /) -> tuple[Job, ...]:
        """As the agenda."""
        found = self._agenda.companions(job)
        self._running |= {one.trial.id: job.trial.id for one in found}
        return found

    def is_done(self) -> bool:
        """Nothing runs and nothing will."""
        return self._agenda.is_done() or (self._stop.is_set() and not self._running)

    def evaluated(self, trial_id: str, evaluation: Evaluation, /) -> bool:
        """As the agenda; an end that it decides is an end here too."""
        goes_on = self._agenda.evaluated(trial_id, evaluation)
        if not goes_on:
            self._running.pop(trial_id, None)
            self._tell_if_done()
        return goes_on

    def ended(self, trial_id: str, outcome: Outcome, /) -> None:
        """As the agenda."""
        self._running.pop(trial_id, None)
        self._agenda.ended(trial_id, outcome)
        self._tell_if_done()

    def again(self, trial_id: str, /) -> None:
        """As the agenda."""
        self._agenda.again(trial_id)

    def remark(self, text: str, /) -> None:
        """As the agenda."""
        self._agenda.remark(text)

    def _tell_if_done(self) -> None:
        if self.is_done():
            self._done_hook()


@contextmanager
def watch(
    store: str,
    *,
    sweep_id: int,
    owner: str,
    turn: Turn | None = None,
    answer_seconds: float | None = None,
) -> Iterator[threading.Event]:
    """Beat for this driver and heed requests to it, from a thread with its own connections.

    Gives the event that a stop sets; a cancel interrupts the main thread. In `turn` stands whether
    another driver goes first. answer_seconds: how long a beat may take on a server.
    """
    to_write = open_to_write(store, answer_seconds=answer_seconds)
    to_read = open_to_read(store)
    standing = Standing(
        to_write, to_read, turn or Turn(), sweep_id=sweep_id, owner=owner, is_dead=is_dead
    )
    known = last_request(to_read, sweep_id)
    stop, over = threading.Event(), threading.Event()

    def look_on() -> None:
        writer = Writer(to_write)
        beat_at = monotonic()
        while not over.wait(LOOK_SECONDS):
            try:
                if monotonic() - beat_at >= CLAIM_SECONDS / 4:
                    writer.heartbeat(owner, at=time())
                    beat_at = monotonic()
                request = requested(to_read, sweep_id, after=known)
                standing.look()
            except (StoreError, SQLAlchemyError):
                # The store may come back; the recorder says it if it does not. Then beat at once:
                # others must not take this driver for dead.
                beat_at = -CLAIM_SECONDS
                continue
            if request is not None:
                stop.set()
            if request == "cancel":
                _interrupt()
                break

    thread = threading.Thread(target=look_on, name="watch", daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        over.set()
        thread.join(timeout=5)
        with suppress(StoreError, SQLAlchemyError):
            standing.leave()
        to_write.dispose()
        to_read.dispose()


def _interrupt() -> None:
    """Wake the main thread wherever it waits. A shell may have made it deaf to SIGINT."""
    is_ours = callable(signal.getsignal(signal.SIGTERM))
    os.kill(os.getpid(), signal.SIGTERM if is_ours else signal.SIGINT)


@contextmanager
def ends_cleanly() -> Iterator[None]:
    """Make SIGTERM an interrupt in this block; handlers belong to the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
