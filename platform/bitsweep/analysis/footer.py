"""What stands under a table about its search: configurations, objectives, limits, cost."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from bitsweep.analysis.shown import shown
from bitsweep.errors import InputError
from bitsweep.measurement import OWN_ALLOCATORS
from bitsweep.store.history import refused_counts, spent
from bitsweep.store.reader import Reader
from bitsweep.store.records import ArmRow, ResultRow, SweepRow, TrialRow
from bitsweep.sweep import COST_METRICS
from bitsweep.toml_document import stored_document
from bitsweep.trial import SIBLING_FAILED

SECONDS_PER_HOUR = 3600.0
PRUNED = "pruned by the scheduler"
DROPPED = "dropped: another of the same configuration failed"


def footnotes(arms: Sequence[ArmRow], trials: Sequence[TrialRow], *, stage: str) -> Iterable[str]:
    """What was searched, and what did not finish."""
    if stage != "confirm":
        yield "Nothing is confirmed: validation of the search itself, which flatters the winner."
    searched = [f"{arm.name} {arm.configurations}" for arm in arms if arm.configurations]
    if searched:
        yield f"Configurations searched per arm: {', '.join(searched)}."
    for status in ("failed", "diverged"):
        for row in trials:
            if row.status == status:
                name = f"{row.arm or 'start'} {row.bits} seed {row.seed}"
                yield f"{status}: {name} ({row.stage}, {row.trial_id[:12]}): {row.reason}"
    told = Counter(_given_up(row) for row in trials)
    for verb in (PRUNED, DROPPED, "interrupted"):
        if count := told[verb]:
            yield f"{count} trial{'s' if count > 1 else ''} {verb}."


def _given_up(row: TrialRow) -> str:
    """In the words of a table; other ends are told by their status."""
    if row.status != "pruned":
        return row.status
    return DROPPED if row.reason == SIBLING_FAILED else PRUNED


def search_notes(reader: Reader, sweep: SweepRow) -> Iterable[str]:
    """How several objectives, limits and early stopping shaped the search."""
    document = _document(sweep)
    objectives = [dict(one) for one in document.get("objectives", [])]
    search = document.get("search", {})
    names = _metrics(objectives, sweep)
    if len(names) > 1:
        count = document.get("confirm", {}).get("best_per_arm", 1)
        yield (
            f"Objectives: {', '.join(names)}. Confirmed are the Pareto winners on validation, at "
            f"most {count} per search, the least crowded; a row shows the winner that is best on "
            "validation at its bits."
        )
        if search.get("scheduler"):
            yield (
                f"Early stopping judged {sweep.metric} on validation alone; costs are known "
                "before training."
            )
    limits = [f"{one['metric']} <= {one['at_most']:,}" for one in document.get("constraints", [])]
    if limits:
        refused = refused_counts(reader, sweep.id)
        told = ", ".join(f"{name} {count}" for name, count in refused.items()) or "none"
        yield f"Limits of the search: {', '.join(limits)}; refused untrained: {told}."
    if len(search.get("seeds", [])) > 1:
        yield f"The search took the mean over {len(search['seeds'])} seeds."


def _metrics(objectives: Sequence[Mapping[str, Any]], sweep: SweepRow) -> list[str]:
    """The metric of each objective; the sweep's is that of the first one that is no cost."""
    names = [one.get("metric", "") for one in objectives]
    measured = [index for index, name in enumerate(names) if name not in COST_METRICS]
    return [
        sweep.metric if measured[:1] == [index] else name or "the trainer's first metric"
        for index, name in enumerate(names)
    ]


def winner_notes(rows: Sequence[ResultRow], sweep: SweepRow) -> Iterable[str]:
    """Every confirmed winner of a sweep with several objectives, on test."""
    if len(_document(sweep).get("objectives", [])) < 2:
        return
    metric = shown(sweep.metric)
    winners: dict[tuple[str, str, int], list[ResultRow]] = {}
    for row in rows:
        is_test = row.stage == "confirm" and row.split == "test" and row.status == "finished"
        is_own = row.allocator in OWN_ALLOCATORS
        if is_test and is_own and row.value is not None and row.configuration_id is not None:
            key = (row.arm or "", row.column, row.configuration_id)
            winners.setdefault(key, []).append(row)
    for (arm, allocation, number), mine in sorted(winners.items()):
        values = [row.value for row in mine if row.value is not None]
        sd = f" \u00b1 {metric.number(stdev(values))}" if len(values) > 1 else ""
        value = f"{metric.title} {metric.number(fmean(values))}{sd} {metric.unit}".rstrip()
        yield (
            f"winner {arm} {allocation}, configuration {number}: {value} "
            f"(n = {len(values)}), {mine[0].size_bits:,} bits, "
            f"{fmean(row.bitops for row in mine):.4g} BitOps."
        )


def cost_notes(reader: Reader, sweep: SweepRow) -> Iterable[str]:
    """Device time per arm: training seconds times devices, trials reused from others included."""
    resources = _document(sweep).get("resources", {})
    gpus = resources.get("gpus_per_worker", 0)
    hours: dict[str, float] = {}
    for one in spent(reader, sweep.id):
        devices = one.workers * (gpus or one.threads)
        name = one.arm or "start"
        hours[name] = hours.get(name, 0.0) + one.seconds * devices / SECONDS_PER_HOUR
    if hours:
        told = ", ".join(f"{name} {value:.3g}" for name, value in hours.items())
        kind = "GPU" if gpus else "CPU"
        yield f"{kind}-hours of training: {told}; {sum(hours.values()):.3g} in all."


def _document(sweep: SweepRow) -> Mapping[str, Any]:  # TOML
    """The sweep as it was run; nothing where its text is none of ours."""
    try:
        return stored_document(sweep.text, sweep.command)
    except (ValueError, InputError):
        return {}
