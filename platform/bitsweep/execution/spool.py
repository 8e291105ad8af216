"""Writing through an outage of the store: into a journal meanwhile, into the store afterwards.

Only what workers wait to have acknowledged is spooled: evaluations and outcomes. Whatever needs an
answer of the store (a claim, what is known of a trial) waits for it.
"""

from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

from bitsweep.errors import Conflict, StoreAway, StoreLost
from bitsweep.execution.journal import Journal, Line, write_lines
from bitsweep.measurement import Evaluation
from bitsweep.store.writer import Writer, utc_now
from bitsweep.trial import Failed, Outcome

PATIENCE_SECONDS = 600.0
# An idle store is asked this often whether it is still there, before anything new starts.
_LOOK_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 15.0
_Answer = TypeVar("_Answer")


class Spool:
    """The one way of a driver to its store. All calls come from one thread.

    patience_seconds: how long a run that can do nothing else waits for its store. hook: called
    after an outcome stands in the store. back_hook: called when the store answers again.
    """

    def __init__(
        self,
        writer: Writer,
        journal: Journal | None,
        *,
        sweep_id: int,
        hook: Callable[[str, Outcome], None],
        back_hook: Callable[[], None] = lambda: None,
        patience_seconds: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.notes: list[str] = []
        self.say: Callable[[str], None] = lambda text: None
        self._writer = writer
        self._journal = journal
        self._sweep_id = sweep_id
        self._hook = hook
        self._back_hook = back_hook
        self._patience = patience_seconds
        self._clock = clock
        self._away: StoreAway | None = None
        self._away_since = self._idle_since = self._next_try = 0.0
        self._pause = _LOOK_SECONDS
        self._seen_at = clock()
        self._conflicts: dict[str, str] = {}

    def write(self, trial_id: str, step: Evaluation | Outcome) -> bool:
        """Into the store, or into the journal while it is away; False: it stood there already.

        Raises Conflict, as the writer does, and for each further evaluation of a trial that
        disagreed when the journal was written.
        """
        at = utc_now()
        if self._away is not None and self._is_due():
            self._catch_up()
        if isinstance(step, Evaluation):
            if trial_id in self._conflicts:
                raise Conflict(self._conflicts[trial_id])
        else:
            step = self.agreed_end(trial_id, step)
        line = Line(trial_id=trial_id, step=step, at=at)
        if self._away is None:
            try:
                return self._write(line)
            except StoreAway as error:
                self._lose(error)
        self._keep(line)
        return True

    def agreed_end(self, trial_id: str, outcome: Outcome) -> Outcome:
        """The outcome; Failed for a trial that disagreed when the journal was written."""
        told = self._conflicts.get(trial_id)
        return outcome if told is None else Failed(reason=told)

    def ask(self, verb: Callable[[], _Answer]) -> _Answer:
        """What the store answers; waits for a store that is away, StoreLost at the end of it."""
        begin = self._clock()
        while True:
            try:
                answer = verb()
            except StoreAway as error:
                if self._away is None:
                    self._lose(error)
                self._give_up_after(begin)
                sleep(min(self._pause, max(self._next_try - self._clock(), 0.0)))
                self._put_off()
                continue
            self._seen_at = self._clock()
            if self._away is not None:
                self._catch_up()
            return answer

    @property
    def is_down(self) -> bool:
        """What is known, without asking."""
        return self._away is not None

    def is_away(self, *, is_idle: bool) -> bool:
        """Whether the store is out of reach now; what was journalled is written once it is not.

        is_idle: nothing else can go on, so that patience ends with StoreLost.
        """
        if self._away is None:
            if self._clock() - self._seen_at < _LOOK_SECONDS:
                return False
            try:
                self._writer.ping()
                self._seen_at = self._clock()
                return False
            except StoreAway as error:
                self._lose(error)
                return True
        if self._is_due() and self._catch_up():
            return False
        if is_idle:
            self._idle_since = self._idle_since or self._clock()
            self._give_up_after(max(self._idle_since, self._away_since))
        else:
            self._idle_since = 0.0
        return True

    def finish(self, *, is_hasty: bool = False) -> None:
        """The run is over: wait until nothing is left in the journal; StoreLost if that fails.

        is_hasty: the user has interrupted and waits.
        """
        begin = self._clock()
        if is_hasty:
            self._patience = min(self._patience, _LOOK_SECONDS)
        while self._away is not None and not self._catch_up():
            self._give_up_after(begin)
            sleep(min(self._pause, self._patience))

    def close(self) -> None:
        """Let go of the journal's file; what is in it stays."""
        if self._journal is not None:
            self._journal.close()

    def _write(self, line: Line) -> bool:
        """Once more where the first try was quick to fail: a connection of before a restart."""
        begin = self._clock()
        try:
            is_new = self._to_store(line)
        except StoreAway:
            if self._clock() - begin > _LOOK_SECONDS:
                raise
            is_new = self._to_store(line)
        self._seen_at = self._clock()
        return is_new

    def _to_store(self, line: Line) -> bool:
        if isinstance(line.step, Evaluation):
            return self._writer.record(line.trial_id, line.step, at=line.at)
        self._writer.end(line.trial_id, line.step, sweep_id=self._sweep_id, at=line.at)
        self._hook(line.trial_id, line.step)
        return True

    def _keep(self, line: Line) -> None:
        if self._journal is None:
            assert self._away is not None
            raise StoreLost(str(self._away)) from self._away
        self._journal.append(line)

    def _lose(self, error: StoreAway) -> None:
        self._away, self._away_since, self._idle_since = error, self._clock(), 0.0
        self._pause = _LOOK_SECONDS / 2
        self._put_off()
        self._tell(f"{error}; what is measured goes to a journal until it can")

    def _is_due(self) -> bool:
        return self._clock() >= self._next_try

    def _put_off(self) -> None:
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        self._next_try = self._clock() + self._pause

    def _catch_up(self) -> bool:
        """Write what the journal holds; False if the store is still away."""
        lines = [] if self._journal is None else self._journal.lines
        try:
            self._writer.ping()
            self._back_hook()
            conflicts = write_lines(lines, self._writer, sweep_id=self._sweep_id, hook=self._hook)
        except StoreAway as error:
            self._away = error
            self._put_off()
            return False
        count = len(lines)
        if self._journal is not None:
            self._journal.clear()
        self._away, self._seen_at = None, self._clock()
        seconds = self._seen_at - self._away_since
        self._tell(f"the store is back after {seconds:.0f} s: {told(count)} written")
        self._conflicts |= conflicts
        for conflict in conflicts.values():
            self._tell(conflict)
        return True

    def _give_up_after(self, begin: float) -> None:
        if self._clock() - begin < self._patience:
            return
        assert self._away is not None
        count = 0 if self._journal is None else len(self._journal.lines)
        kept = ""
        if self._journal is not None and count:
            kept = (
                f" {told(count)} kept in {self._journal.path}: the next `bitsweep run` there "
                "writes them, or `bitsweep store catch-up`"
            )
        seconds = self._clock() - self._away_since
        message = f"{self._away}; it did not come back within {seconds:.0f} s."
        raise StoreLost(f"{message}{kept}")

    def _tell(self, text: str) -> None:
        self.notes.append(text)
        self.say(text)


def told(count: int) -> str:
    """So many lines of a journal, in words."""
    return f"{count} evaluation or outcome" if count == 1 else f"{count} evaluations and outcomes"
