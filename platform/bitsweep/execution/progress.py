"""How far a run is, as numbers and as one line per trial; nothing here decides anything."""

from collections.abc import Iterable
from dataclasses import dataclass

from bitsweep.execution.ledger import Counts
from bitsweep.execution.roster import Entry, Study
from bitsweep.measurement import Goal
from bitsweep.sweep import Objective
from bitsweep.trial import Diverged, Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is: counts of trials, and the best validation value per arm."""

    planned: int
    finished: int
    reused: int
    running: int
    failed: int
    pruned: int
    measurements: int
    best: tuple[tuple[str, float], ...]
    event: str = ""
    goal: Goal = "maximize"


def progress_of(
    counts: Counts,
    studies: Iterable[Study],
    *,
    judged: Objective,
    planned: int,
    measurements: int,
    event: str,
) -> Progress:
    """The counts of a run and its best values: no loop over trials, since it is asked so often."""
    return Progress(
        planned=planned,
        finished=counts.finished,
        reused=counts.reused,
        running=counts.running,
        failed=counts.failed,
        pruned=counts.pruned,
        measurements=measurements,
        best=_best(studies, judged),
        event=event,
        goal=judged.goal,
    )


def _best(studies: Iterable[Study], judged: Objective) -> tuple[tuple[str, float], ...]:
    """The best validation value of each searched arm."""
    found: dict[str, float] = {}
    choose = max if judged.goal == "maximize" else min
    for study in studies:
        if study.best_judged is not None:
            value = study.best_judged
            found[study.arm.name] = choose(value, found.get(study.arm.name, value))
    return tuple(found.items())


def describe(entry: Entry, metric: str) -> str:
    """One line for people: arm, bits, seed, stage, id, and what came of it."""
    arm, bits, seed = entry.group
    text = f"{arm} {bits} seed {seed} ({entry.stage}, {entry.trial.short_id})"
    if isinstance(entry.outcome, Failed | Diverged):
        return f"{text}: {entry.outcome.reason}"
    values = entry.validation.get(metric, {})
    if not values or entry.outcome is None:
        return text
    shown = ", ".join(f"{label} {value:.4g}" for label, value in values.items())
    return f"{text}: validation {metric} {shown}"
