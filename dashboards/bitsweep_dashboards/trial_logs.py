"""The ends of trials' logs, in a folder or at a URL; a page never waits long for one."""

import threading
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from bitsweep.errors import InputError
from bitsweep.store.logs import TAIL_BYTES, log_name, log_path, log_tail, told_lines
from bitsweep.store.remote import Remote, is_url, shown_url

LOG_LINES = 60
WAIT_SECONDS = 1.5
_MOST_READINGS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEnd:
    """What is seen of a log: its last lines (None: there is no such log), or why it is not seen.

    `is_pending`: the place has not answered yet; asking again is worth it.
    """

    place: str
    lines: tuple[str, ...] | None = None
    problem: str = ""
    is_pending: bool = False


NOT_READ = LogEnd(place="", is_pending=True)


class _Reading:
    """One question to a URL, in a thread that nobody has to wait for."""

    def __init__(self, url: str, trial_id: str) -> None:
        self.asked_at = monotonic()
        self._is_done = threading.Event()
        self._end = LogEnd(place=shown_url(url), is_pending=True)
        threading.Thread(target=self._read, args=(url, trial_id), daemon=True).start()

    def _read(self, url: str, trial_id: str) -> None:
        place = shown_url(url)
        try:
            end = Remote(url).tail(log_name(trial_id), num_bytes=TAIL_BYTES)
            lines = None if end is None else told_lines(end, lines=LOG_LINES)
            self._end = LogEnd(place=place, lines=lines)
        except InputError as error:
            self._end = LogEnd(place=place, problem=str(error))
        finally:
            self._is_done.set()

    def end(self, wait_seconds: float) -> LogEnd:
        """What was found, if it is there within that time after the question."""
        self._is_done.wait(max(0.0, self.asked_at + wait_seconds - monotonic()))
        return self._end

    @property
    def is_done(self) -> bool:
        return self._is_done.is_set()


class TrialLogs:
    """Logs below one place. Threads may share it; at a URL, few questions are open at a time."""

    def __init__(self, work: str | Path, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._work = str(work) if is_url(str(work)) else str(Path(work).resolve())
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._readings: dict[str, _Reading] = {}

    def end(self, trial_id: str) -> LogEnd:
        """The end of a trial's log; at a URL, after at most `wait_seconds`."""
        if not is_url(self._work):
            path = log_path(Path(self._work), trial_id)
            return LogEnd(place=str(path.parent), lines=log_tail(path, lines=LOG_LINES))
        reading = self._asked(trial_id)
        if reading is None:
            return LogEnd(place=shown_url(self._work), is_pending=True)
        found = reading.end(self._wait_seconds)
        if reading.is_done:
            with self._lock:
                self._readings.pop(trial_id, None)
        return found

    def _asked(self, trial_id: str) -> _Reading | None:
        """The open question about a trial, or a new one; None while too many are open."""
        with self._lock:
            if trial_id not in self._readings:
                for known in [one for one, found in self._readings.items() if found.is_done]:
                    del self._readings[known]  # nobody came back for it
                if len(self._readings) >= _MOST_READINGS:
                    return None
                self._readings[trial_id] = _Reading(self._work, trial_id)
            return self._readings[trial_id]
