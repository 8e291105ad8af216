"""A sweep's searches as they stand in the store, rebuilt without writing: for viewers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from bitsweep.bits import Bits
from bitsweep.execution.criteria import Criteria, make_criteria
from bitsweep.execution.roster import Configuration, Entry, values_at
from bitsweep.execution.studies import stage_trials
from bitsweep.plan import Plan
from bitsweep.search.base import Told
from bitsweep.store.reader import Reader
from bitsweep.store.records import Proposal
from bitsweep.sweep import Arm


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A proposal with what came of it so far; told None: not over.

    curve: by epoch, the mean of the judged objective over the trials. note: trial ids and ends.
    """

    configuration_id: int
    told: Told | None
    parameters: Mapping[str, object]
    curve: Mapping[int, float]
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenStudy:
    """One study of an arm: every proposal, repetitions included."""

    arm: Arm
    label: str
    criteria: Criteria
    seen: tuple[Seen, ...]


def look_back(plan: Plan, reader: Reader, sweep_id: int) -> list[SeenStudy]:
    """The studies of the current arms that have a space."""
    ids = {row.name: row.id for row in reader.arms(sweep_id)}
    found = []
    for arm in plan.sweep.arms:
        if not arm.space or arm.name not in ids:
            continue
        for label, at in plan.studies(arm).items():
            criteria = make_criteria(plan, arm, at)
            seen = tuple(
                _seen(plan, reader, arm, at, criteria=criteria, proposal=proposal)
                for proposal in reader.proposals(ids[arm.name], label)
            )
            found.append(SeenStudy(arm=arm, label=label, criteria=criteria, seen=seen))
    return found


def _seen(
    plan: Plan,
    reader: Reader,
    arm: Arm,
    at: Sequence[Bits],
    *,
    criteria: Criteria,
    proposal: Proposal,
) -> Seen:
    judged = plan.sweep.judged.metric
    fault = plan.fault(arm, proposal.parameters)
    excess = criteria.excess(proposal.parameters) if fault is None else {}
    is_refused = fault is not None or any(value > 0 for value in excess.values())
    trials = (
        stage_trials(plan, arm, tuple(at), proposal.parameters, "search") if not is_refused else []
    )
    ended = reader.ended([trial.id for trial in trials])
    entries, curve = [], dict[int, list[float]]()
    for trial in trials:
        entry = Entry(trial=trial, stage="search", group=(arm.name, trial.bits_label, trial.seed))
        entry.outcome = ended[trial.id].outcome if trial.id in ended else None
        scores = reader.scores(trial.id, split="validation")
        entry.note_scores(scores, plan.sweep.measured_metrics)
        entries.append(entry)
        for epoch in {score.epoch for score in scores}:
            at_epoch = values_at(trial, scores, epoch, [judged])[judged]
            curve.setdefault(epoch, []).extend(at_epoch.values())
    configuration = Configuration(
        id=proposal.id,
        parameters=proposal.parameters,
        entries=tuple(entries),
        excess=excess,
        fault=fault,
    )
    is_over = configuration.is_over
    return Seen(
        configuration_id=proposal.id,
        told=configuration.verdict(criteria) if is_over else None,
        parameters=proposal.parameters,
        curve={epoch: fmean(values) for epoch, values in sorted(curve.items())},
        note=", ".join(entry.trial.short_id for entry in entries) or "refused untrained",
    )
