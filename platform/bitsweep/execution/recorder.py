"""The one recorder of a run: what the driver writes, and what it may ask back.

While the store is out of reach, evaluations and outcomes go to a journal (`spool`); every other
verb waits for it.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from bitsweep.cost import Layer
from bitsweep.errors import StoreAway
from bitsweep.execution.journal import Journal
from bitsweep.execution.spool import PATIENCE_SECONDS, Spool
from bitsweep.measurement import Evaluation
from bitsweep.space import Parameters
from bitsweep.store import history
from bitsweep.store.reader import Reader
from bitsweep.store.records import Ended, Proposal, Score
from bitsweep.store.writer import CLAIM_SECONDS, Writer, utc_now
from bitsweep.sweep import Stage
from bitsweep.trial import Outcome, Trial


class Recorder:
    """Binds the store to one sweep and one driver.

    owner names the driver; clock is Unix time, stopwatch never goes back; `is_dead` tells of
    another driver whether it is gone; `ended_hook` is called after an outcome stands (to clear a
    workspace). journal: what takes evaluations and outcomes while the store is away; None: such a
    run ends at once. `keeps_answers`: also which samples of test were right.
    """

    def __init__(
        self,
        writer: Writer,
        reader: Reader,
        *,
        sweep_id: int,
        arm_ids: Mapping[str, int],
        owner: str,
        provenance: Mapping[str, Any],
        clock: Callable[[], float],
        stopwatch: Callable[[], float] = monotonic,
        is_dead: Callable[[str], bool] = lambda owner: False,
        ended_hook: Callable[[str, Outcome], None] = lambda trial_id, outcome: None,
        journal: Journal | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        keeps_answers: bool = False,
    ) -> None:
        self.sweep_id = sweep_id
        self._writer = writer
        self._reader = reader
        self._arm_ids = dict(arm_ids)
        self._owner = owner
        self._provenance = dict(provenance)
        self._clock = clock
        self._stopwatch = stopwatch
        self._seen: dict[str, tuple[tuple[str, float], float]] = {}
        self._is_dead = is_dead
        self._claimed: set[str] = set()
        self._keeps_answers = keeps_answers
        self._spool = Spool(
            writer,
            journal,
            sweep_id=sweep_id,
            hook=ended_hook,
            back_hook=self._claim_again,
            patience_seconds=patience_seconds,
        )

    def arm_id(self, name: str) -> int:
        """The id of a current arm."""
        return self._arm_ids[name]

    def add_configuration(
        self,
        arm_id: int,
        study: str,
        parameters: Parameters,
        *,
        is_repeat: bool = False,
        after: int | None = None,
    ) -> int:
        """Write a proposal; return its id; raise Overtaken where there are not `after` others."""
        return self._spool.ask(
            lambda: self._writer.add_configuration(
                arm_id, study, parameters, is_repeat=is_repeat, after=after
            )
        )

    def add_trial(
        self,
        trial: Trial,
        *,
        layers: tuple[Layer, ...],
        stage: Stage,
        arm_id: int | None,
        configuration: int | None,
    ) -> None:
        """Write a trial and its place in this sweep."""
        self._spool.ask(
            lambda: self._writer.add_trial(
                trial,
                layers=layers,
                sweep_id=self.sweep_id,
                stage=stage,
                arm_id=arm_id,
                configuration_id=configuration,
            )
        )

    def forget(self, trial_id: str, *, arm_id: int) -> None:
        """Take a trial out of an arm of this sweep: what it stood for is known by now."""
        self._spool.ask(
            lambda: self._writer.forget(trial_id, sweep_id=self.sweep_id, arm_id=arm_id)
        )

    def proposals(self, arm_id: int, study: str, *, after: int = 0) -> list[Proposal]:
        """The configurations that stand in the store, from this number on."""
        return self._spool.ask(lambda: self._reader.proposals(arm_id, study, after=after))

    def finished_in(self, sweep: str) -> dict[int, list[Trial]]:
        """The finished search trials of another sweep; UnknownName if there is none."""
        return self._spool.ask(
            lambda: history.finished_in_search(self._reader, self._reader.sweep(sweep).id)
        )

    def spent_seconds(self) -> float:
        """The training time of the trials that this sweep ran so far, each once."""
        own = self._spool.ask(lambda: history.spent(self._reader, self.sweep_id, is_own=True))
        return sum({one.trial_id: one.seconds for one in own}.values())

    def ended(self, trial_id: str) -> Ended | None:
        """The outcome that stands in the store."""
        return self._spool.ask(lambda: self._reader.ended([trial_id])).get(trial_id)

    def scores(self, trial_id: str) -> Sequence[Score]:
        """The validation measurements that stand in the store."""
        return self._spool.ask(lambda: self._reader.scores(trial_id, split="validation"))

    def claim(self, trial_id: str) -> bool:
        """Take a trial for this driver; False while another one that is alive has it."""
        is_ours = self._spool.ask(lambda: self._claim(trial_id))
        if is_ours:
            self._claimed.add(trial_id)
        return is_ours

    def _claim(self, trial_id: str) -> bool:
        if self._take(trial_id):
            return True
        other = self._reader.claimant(trial_id)
        if other is None or not (self._is_dead(other[0]) or self._is_silent(trial_id, other)):
            return False
        self._writer.release(other[0])
        return self._take(trial_id)

    def _take(self, trial_id: str) -> bool:
        return self._writer.claim(trial_id, self._owner, at=self._clock())

    def _claim_again(self) -> None:
        """After an outage: what runs is ours, unless another driver has taken it over."""
        self._seen.clear()  # no driver could give a sign of life meanwhile
        for trial_id in sorted(self._claimed):
            if not self._take(trial_id):
                self._claimed.discard(trial_id)
                self._spool.notes.append(
                    f"trial {trial_id[:12]}: another driver took it over while the store was out "
                    "of reach; both measure it, the store keeps it once"
                )

    def _is_silent(self, trial_id: str, claim: tuple[str, float]) -> bool:
        """Whether the driver that has a trial gave no sign of life, by the stopwatch of this one.

        Clocks of two machines differ, and any of them may be set back: its time is never compared
        with ours, only whether it changes.
        """
        last, since = self._seen.get(trial_id, (None, 0.0))
        if last != claim:
            self._seen[trial_id] = (claim, self._stopwatch())
            return False
        return self._stopwatch() - since > CLAIM_SECONDS

    def give_back(self, trial_id: str) -> None:
        """Claim a trial no longer."""
        self._writer.release(self._owner, trial_id=trial_id)

    def start_attempt(self, trial_id: str) -> None:
        """Note that a worker gets the trial."""
        at = utc_now()
        self._spool.ask(
            lambda: self._writer.start_attempt(
                trial_id,
                sweep_id=self.sweep_id,
                owner=self._owner,
                provenance=self._provenance,
                at=at,
            )
        )

    def record(self, trial_id: str, evaluation: Evaluation) -> bool:
        """Commit an evaluation, if need be to the journal; False if it stood already."""
        kept = evaluation if self._keeps_answers else evaluation.without_answers()
        return self._spool.write(trial_id, kept)

    def end(self, trial_id: str, outcome: Outcome) -> Outcome:
        """Commit an outcome, if need be to the journal; return what the trial came to.

        That is Failed where its measurements disagreed when the journal was written.
        """
        self._claimed.discard(trial_id)
        self._spool.write(trial_id, outcome)
        return self._spool.agreed_end(trial_id, outcome)

    def is_away(self, *, is_idle: bool) -> bool:
        """Whether the store is out of reach, so that nothing can start; see `Spool.is_away`."""
        return self._spool.is_away(is_idle=is_idle)

    @property
    def is_down(self) -> bool:
        """The same as far as it is known, without asking."""
        return self._spool.is_down

    @property
    def notes(self) -> tuple[str, ...]:
        """Outages of the store, in words."""
        return tuple(self._spool.notes)

    def tell(self, say: Callable[[str], None]) -> None:
        """Have outages told at once."""
        self._spool.say = say

    def finish(self, *, is_hasty: bool = False) -> None:
        """At the end of a run: wait until the store has everything; StoreLost if it has not."""
        self._spool.finish(is_hasty=is_hasty)

    def close(self) -> None:
        """Give back the claims of this driver; claims that cannot be reached grow old."""
        with suppress(StoreAway):
            self._writer.release(self._owner)
        self._spool.close()
