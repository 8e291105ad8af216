"""What a step of a trial may take, in time and memory, enforced inside the worker that takes it.

Python code is interrupted by a signal. Where no signal gets through (a deadlock in a driver or a
collective), a worker that serves one trial at a time ends itself, and leaves a note for its next
life; the executor starts it again, and the note becomes the trial's outcome.
"""

import ctypes
import faulthandler
import gc
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

# How long Python code has to come back to itself once a limit is passed.
GRACE_SECONDS = 5.0
LOOK_SECONDS = 0.1
BYTES_PER_GIB = 2**30


class OutOfTime(BaseException):
    """Raised inside a trainer; not an Exception, so that no trainer swallows it."""


class OutOfMemory(BaseException):
    """Raised inside a trainer, as OutOfTime is."""


def minutes_text(limit_seconds: float) -> str:
    """Why a trial failed that ran out of time."""
    return f"timeout: over {limit_seconds / 60:g} minutes"


def memory_text(limit_bytes: int) -> str:
    """Why a trial failed that took too much memory."""
    return f"memory: over {limit_bytes / BYTES_PER_GIB:g} GiB (resources.memory_gib_per_worker)"


def resident_bytes() -> int | None:
    """The memory that this process alone keeps; None where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return None


def give_back_memory() -> None:
    """Return what a trial left behind to the system, as far as the allocator can."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def limited(
    *, seconds: float | None, limit_bytes: int | None, note: Path | None
) -> Iterator[None]:
    """Raise OutOfTime or OutOfMemory in the block; signals reach the main thread alone.

    note: where this process may be ended, the file that tells its next life why.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or (seconds is None and limit_bytes is None):
        yield
        return
    watch = _MemoryWatch(limit_bytes, note)

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise OutOfMemory if watch.is_over else OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    if seconds is not None:
        signal.setitimer(signal.ITIMER_REAL, seconds)
    with _ended_after(None if seconds is None else seconds + GRACE_SECONDS, note):
        watch.start()
        try:
            yield
        finally:
            watch.stop()
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


@contextmanager
def _ended_after(seconds: float | None, note: Path | None) -> Iterator[None]:
    """End the process from a thread of C's, with every thread's place written to the note."""
    if seconds is None or note is None:
        yield
        return
    with note.open("w", encoding="utf-8") as file:
        faulthandler.dump_traceback_later(seconds, exit=True, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
    note.unlink(missing_ok=True)


class _MemoryWatch:
    """Looks at the memory of this process from a thread; wakes the main one where it is over."""

    def __init__(self, limit_bytes: int | None, note: Path | None) -> None:
        self.is_over = False
        self._limit = limit_bytes
        self._note = note
        self._stop = threading.Event()
        self._signals = threading.Lock()

    def start(self) -> None:
        if self._limit is not None:
            threading.Thread(target=self._look, daemon=True).start()

    def stop(self) -> None:
        with self._signals:
            self._stop.set()

    def _look(self) -> None:
        assert self._limit is not None  # else it is not started
        while not self._stop.wait(LOOK_SECONDS):
            if (resident_bytes() or 0) > self._limit:
                break
        with self._signals:
            if self._stop.is_set():
                return
            self.is_over = True
            main = threading.main_thread().ident
            assert main is not None  # it runs
            signal.pthread_kill(main, signal.SIGALRM)
        if not self._stop.wait(GRACE_SECONDS) and self._note is not None:
            self._note.write_text(f"{memory_text(self._limit)}\n", encoding="utf-8")
            os._exit(1)


def read_note(note: Path, *, limit_seconds: float | None) -> tuple[str, str] | None:
    """Why an earlier life was ended, and what it left to read; None if it was not. Read once."""
    try:
        text = note.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    note.unlink(missing_ok=True)
    if not text:
        return None  # killed inside a step: nothing of ours ended it
    first = text.splitlines()[0]
    if first.startswith("memory:"):
        return first, text
    return f"{minutes_text(limit_seconds or 0.0)}, and no signal got through", text
