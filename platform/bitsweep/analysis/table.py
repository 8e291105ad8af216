"""The table of a sweep: a cell per arm and allocation, with mean, sd, n and comparisons.

Confirmed configurations are reported on test. Where a sweep confirms nothing, the search's own
best is shown on validation and says so.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev

from bitsweep.analysis.areas import area_notes
from bitsweep.analysis.by_image import Answers, ByImage
from bitsweep.analysis.cell import Cell, ordered
from bitsweep.analysis.collapsed import shared_notes
from bitsweep.analysis.declared import Compared, compared
from bitsweep.analysis.equivalence import Equivalence
from bitsweep.analysis.footer import cost_notes, footnotes, search_notes, winner_notes
from bitsweep.analysis.listed import listed_notes
from bitsweep.analysis.paired import Paired
from bitsweep.analysis.published import Published
from bitsweep.bits import LEARNED
from bitsweep.measurement import OWN_ALLOCATORS, Split
from bitsweep.store.answers import kept_answers
from bitsweep.store.reader import Reader
from bitsweep.store.records import ArmRow, ResultRow, SweepRow, TrialRow

UNSEARCHED = "\u2021"  # a double dagger


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """An arm against another at one allocation, on common seeds: exploratory unless declared."""

    arm: str
    against: str
    at: str
    result: Paired
    equivalence: Equivalence | None
    by_image: ByImage | None = None
    is_declared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All that is printed, in every format; `differences` and `published` where asked for."""

    sweep: str
    question: str
    convention: str
    split: str
    stage: str
    arms: tuple[str, ...]
    allocations: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]
    comparisons: tuple[Compared, ...]
    footnotes: tuple[str, ...]
    differences: tuple[Difference, ...] = ()
    missing: Mapping[tuple[str, str], str] = field(default_factory=dict)
    published: tuple[Published, ...] = ()
    metric: str = "top1_percent"
    goal: str = "maximize"


def sweep_table(reader: Reader, sweep_name: str, *, split: Split | None = None) -> Table:
    """The table of a sweep; raises UnknownName if there is no such sweep.

    `split` None: what is reported, which is test for confirmed configurations.
    """
    sweep = reader.sweep(sweep_name)
    arms = reader.arms(sweep.id)
    rows = reader.results(sweep.name)
    stage = "confirm" if any(row.stage == "confirm" for row in rows) else "search"
    split = split or ("test" if stage == "confirm" else "validation")
    cells = _marked(_cells(arms, rows, sweep=sweep, stage=stage, split=split), arms, rows)
    validation = _cells(arms, rows, sweep=sweep, stage=stage, split="validation")
    trials = reader.trial_rows(sweep.id)
    declared = reader.comparisons(sweep.id)
    return Table(
        sweep=sweep.name,
        question=sweep.question,
        convention=sweep.convention,
        split=split,
        stage=stage,
        arms=tuple(arm.name for arm in arms),
        allocations=ordered({allocation for _, allocation in cells}),
        cells=cells,
        comparisons=compared(
            declared,
            cells,
            _answers(reader, cells, {arm for one in declared for arm in (one.arm, one.against)}),
        ),
        footnotes=(
            *_learned_notes(cells.values(), rows),
            *footnotes(arms, trials, stage=stage),
            *_bit_notes(cells),
            *shared_notes(cells, metric=sweep.metric),
            # Without a floor there is no area to measure.
            *(area_notes(cells, validation) if sweep.metric == "top1_percent" else ()),
            *search_notes(reader, sweep),
            *winner_notes(rows, sweep),
            *listed_notes(reader.listed_results(sweep.name), sweep, stage=stage, split=split),
            *cost_notes(reader, sweep),
        ),
        missing=_missing(trials, stage=stage),
        metric=sweep.metric,
        goal=sweep.goal,
    )


def _marked(
    cells: Mapping[tuple[str, str], Cell], arms: Sequence[ArmRow], rows: Sequence[ResultRow]
) -> dict[tuple[str, str], Cell]:
    """The cells with what the search looked at: an arm without a space has nothing to search."""
    looked = {(row.arm, row.column) for row in rows if row.stage == "search"}
    with_search = {arm.name for arm in arms if arm.configurations}
    return {
        key: replace(cell, is_searched=cell.arm not in with_search or key in looked)
        for key, cell in cells.items()
    }


def _missing(trials: Sequence[TrialRow], *, stage: str) -> dict[tuple[str, str], str]:
    """Why an arm may lack a cell: `failed` or `diverged`, by the bits of its trials."""
    return {
        (row.arm, label): row.status
        for row in trials
        if row.arm and row.stage == stage and row.status in ("failed", "diverged")
        for label in row.bits.split("+")
    }


def _bit_notes(cells: Mapping[tuple[str, str], Cell]) -> Iterable[str]:
    unsearched = [f"{c.arm} {c.allocation}" for c in cells.values() if not c.is_searched]
    if unsearched:
        yield f"{UNSEARCHED} bits that the arm's search did not look at: {', '.join(unsearched)}."


def _cells(
    arms: Sequence[ArmRow], rows: Sequence[ResultRow], *, sweep: SweepRow, stage: str, split: str
) -> dict[tuple[str, str], Cell]:
    # An oracle reads the labels: an upper bound, which no table shows as a method.
    kept = [
        row
        for row in rows
        if row.stage == stage
        and row.status == "finished"
        and not row.allocation.startswith("policy:oracle")
    ]
    cells = {}
    for arm in arms:
        mine = [row for row in kept if row.arm == arm.name and row.value is not None]
        for allocation in {row.column for row in mine}:
            at = [row for row in mine if row.column == allocation]
            validated = [row for row in at if row.split == "validation"]
            configuration = _chosen(validated, goal=sweep.goal)
            shown = [
                row for row in at if row.split == split and row.configuration_id == configuration
            ]
            if shown:
                cells[arm.name, allocation] = _cell(arm, allocation, shown, metric=sweep.metric)
    return cells


def _chosen(validation: Sequence[ResultRow], *, goal: str) -> int | None:
    """The configuration that is best on validation: never chosen on what is reported."""
    by_configuration: dict[int | None, list[float]] = {}
    for row in validation:
        by_configuration.setdefault(row.configuration_id, []).append(row.value or 0.0)
    sign = -1 if goal == "minimize" else 1
    ranked = [(sign * fmean(values), -(id_ or 0), id_) for id_, values in by_configuration.items()]
    return max(ranked)[2] if ranked else None


def _cell(arm: ArmRow, allocation: str, rows: Sequence[ResultRow], *, metric: str) -> Cell:
    # Two rules may give a trial the same bits, which then ran twice: a seed counts once.
    rows = list({row.trial_id: row for row in rows}.values())
    values = [row.value or 0.0 for row in rows]
    first = rows[0]
    return Cell(
        arm=arm.name,
        method=arm.method,
        allocation=allocation,
        split=first.split,
        mean=fmean(values),
        sd=stdev(values) if len(values) > 1 else None,
        n=len(values),
        bitops=fmean(row.bitops for row in rows),
        size_bits=round(fmean(row.size_bits for row in rows)),
        mean_weight_bits=fmean(row.mean_weight_bits for row in rows),
        value_by_seed={row.seed: row.value or 0.0 for row in rows},
        correct_by_seed={
            row.seed: row.correct
            for row in rows
            if metric == "top1_percent" and row.correct is not None
        },
        total=first.total,
        trial_ids=frozenset(row.trial_id for row in rows),
        measured_by_seed={row.seed: (row.trial_id, row.allocation) for row in rows},
        labels=tuple(sorted({row.allocation for row in rows})),
        is_own=all(row.allocator in OWN_ALLOCATORS for row in rows),
    )


def _answers(
    reader: Reader, cells: Mapping[tuple[str, str], Cell], arms: Container[str]
) -> Answers:
    """What these arms' cells of test have of answers by image."""
    trial_ids = {
        id_
        for cell in cells.values()
        if cell.split == "test" and cell.arm in arms
        for id_ in cell.trial_ids
    }
    return kept_answers(reader, sorted(trial_ids)) if trial_ids else {}


def table_answers(reader: Reader, table: Table) -> Answers:
    """By trial and allocation which images were right, of all cells; empty where none are kept."""
    return _answers(reader, table.cells, table.arms)


def _learned_notes(cells: Iterable[Cell], rows: Sequence[ResultRow]) -> Iterable[str]:
    """What stands under "learned" is a mean over allocations that differ: say over which."""
    for cell in cells:
        if cell.allocation != LEARNED:
            continue
        bits = [
            row.mean_weight_bits
            for row in rows
            if row.arm == cell.arm and row.column == LEARNED and row.allocation in cell.labels
        ]
        span = f"{min(bits):.2f} to {max(bits):.2f}" if min(bits) < max(bits) else f"{bits[0]:.2f}"
        count = len(cell.labels)
        what = (
            f"{count} different allocations" if count > 1 else f"one allocation {cell.labels[0]}"
        )
        yield (
            f"{cell.arm} learned: n = {cell.n} over {what}, mean weight bits "
            f"{cell.mean_weight_bits:.2f} ({span}), size {cell.size_bits} bits"
        )
