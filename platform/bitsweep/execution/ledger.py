"""The trials of a run: each is entered once, and what the store knows of it is taken over."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from bitsweep.execution.base import Folders
from bitsweep.execution.pruning import Pruner
from bitsweep.execution.recorder import Recorder
from bitsweep.execution.roster import Entry, Study, values_at
from bitsweep.measurement import Evaluation
from bitsweep.plan import Plan
from bitsweep.store.records import Score
from bitsweep.sweep import Stage
from bitsweep.trial import Diverged, Failed, Finished, Interrupted, Outcome, Pruned, Trial


@dataclass(slots=True, kw_only=True)
class Counts:
    """How many entries stand how: kept as they change, since a run asks after every evaluation."""

    running: int = 0
    reused: int = 0
    finished: int = 0
    failed: int = 0
    pruned: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count an entry that ended."""
        self.finished += isinstance(outcome, Finished)
        self.failed += isinstance(outcome, Failed | Diverged)
        self.pruned += isinstance(outcome, Pruned)


class Ledger:
    """The entries of a run by trial id, and the queue of those that have to run, in order.

    is_giving: whether trials of other arms start from the checkpoints of this one's. notes: what
    the user should know of files that were found damaged.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        recorder: Recorder,
        pruner: Pruner,
        folders: Folders,
        retries_failed: bool,
        is_giving: Callable[[str], bool] = lambda arm: False,
    ) -> None:
        self.entries: dict[str, Entry] = {}
        self.queue: deque[str] = deque()
        self.counts = Counts()
        self.notes: list[str] = []
        self._plan = plan
        self._judged = plan.sweep.judged.metric
        self._metrics = plan.sweep.measured_metrics
        self._recorder = recorder
        self._pruner = pruner
        self._folders = folders
        self._retries_failed = retries_failed
        self._is_giving = is_giving

    def enter(
        self,
        trial: Trial,
        *,
        stage: Stage,
        arm: str,
        study: Study | None = None,
        configuration: int | None = None,
    ) -> Entry:
        """Write a trial into the sweep and, if it has not ended, into the queue.

        Its start comes before it, if it is one that nothing else needed yet.
        """
        start = self._plan.start_of(trial)
        if start is not None and start.id not in self.entries:
            self.enter(start, stage="start", arm="start")
        arm_id = None if study is None else study.arm_id
        self._recorder.add_trial(
            trial,
            layers=self._plan.layers(),
            stage=stage,
            arm_id=arm_id,
            configuration=configuration,
        )
        if trial.id in self.entries:
            return self.entries[trial.id]
        entry = Entry(
            trial=trial,
            stage=stage,
            group=(arm, trial.bits_label, trial.seed),
            judged_labels=study.criteria.judged_labels if study else frozenset(),
            is_taken_from=stage != "start" and self._is_giving(arm),
        )
        self.entries[trial.id] = entry
        self.take_over(entry)
        if not entry.is_over:
            self.queue.append(trial.id)
        return entry

    def take_over(self, entry: Entry) -> None:
        """Reuse what the store knows: an outcome that stands, and the newest validation."""
        ended = self._recorder.ended(entry.trial.id)
        if ended is None or isinstance(ended.outcome, Interrupted):
            return
        is_bad = isinstance(ended.outcome, Failed | Diverged) or (
            isinstance(ended.outcome, Pruned) and ended.outcome.is_dropped
        )
        if is_bad and self._retries_failed:
            return
        is_ours = entry.stage == "search" and ended.sweep_id == self._recorder.sweep_id
        if isinstance(ended.outcome, Pruned) and not is_ours:
            return
        if isinstance(ended.outcome, Finished) and not self._has_checkpoint(entry, ended.outcome):
            return
        entry.is_reused = True
        self.counts.reused += 1
        self.settle(entry, ended.outcome)
        scores = self._recorder.scores(entry.trial.id)
        entry.note_scores(scores, self._metrics)
        if entry.stage == "search":
            self._replay(entry, scores)

    def start(self, entry: Entry) -> None:
        """A worker gets the trial."""
        entry.is_running = True
        self.counts.running += 1

    def settle(self, entry: Entry, outcome: Outcome) -> None:
        """Nothing more will come of a trial."""
        self.counts.running -= entry.is_running
        entry.is_running = False
        entry.outcome = outcome
        self.counts.add(outcome)

    def goes_on(self, entry: Entry) -> bool:
        """What the scheduler says of a trial of the search at its newest epoch."""
        return self._judge(entry, entry.epoch, entry.validation.get(self._judged, {}))

    def note(self, entry: Entry, evaluation: Evaluation) -> None:
        """Keep what an evaluation says on validation."""
        entry.note(evaluation, self._metrics)

    def _has_checkpoint(self, entry: Entry, outcome: Finished) -> bool:
        """A start whose checkpoint is gone from this machine, or damaged, is trained again."""
        if entry.stage != "start" and not entry.is_taken_from:
            return True
        kept = outcome.checkpoint
        if kept is None:
            return False
        if self._folders.find_checkpoint(kept) is not None:
            return True
        if (path := self._folders.checkpoint(kept)).is_file():
            note = f"{path}: its content has another digest than its name, so trial "
            note += f"{entry.trial.short_id} is trained again"
            self.notes += [] if note in self.notes else [note]
        return False

    def _replay(self, entry: Entry, scores: Sequence[Score]) -> None:
        """Let the scheduler know what a known trial showed at each epoch."""
        for epoch in sorted({score.epoch for score in scores}):
            values = values_at(entry.trial, scores, epoch, [self._judged])
            self._judge(entry, epoch, values[self._judged])

    def _judge(self, entry: Entry, epoch: int, validation: Mapping[str, float]) -> bool:
        """The scheduler sees the mean over the bits that the judged objective is taken at."""
        values = [value for label, value in validation.items() if label in entry.judged_labels]
        if not values:
            return True
        return self._pruner.goes_on(entry.group, entry.trial.id, epoch=epoch, value=fmean(values))
