"""A table narrowed to some bit-widths, set against one arm or beside published numbers."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

from bitsweep.analysis.by_image import Answers
from bitsweep.analysis.cell import FULL_PRECISION, Cell, cells_by_image, paired_cells
from bitsweep.analysis.equivalence import DEFAULT_MARGIN, tost
from bitsweep.analysis.published import beside
from bitsweep.analysis.table import Difference, Table
from bitsweep.bits import LEARNED
from bitsweep.errors import UnknownName, nearest
from bitsweep.store.history import Setting

Side = TypeVar("Side", bound=Hashable)
Mark = Literal["best", "second"]


def narrowed(table: Table, at: Sequence[str]) -> Table:
    """The table at these allocations alone; raise UnknownName for one that it does not have.

    Adjusted p-values stay those of the whole family: looking at less claims no less.
    """
    for label in at:
        if label not in table.allocations:
            known = ", ".join(table.allocations) or "none yet"
            hint = nearest(label, table.allocations)
            raise UnknownName(f"{table.sweep} has nothing at {label!r}{hint}; it has: {known}")
    kept = tuple(label for label in table.allocations if label in at)
    return replace(
        table,
        allocations=kept,
        cells={key: cell for key, cell in table.cells.items() if key[1] in kept},
        comparisons=tuple(one for one in table.comparisons if {one.at, one.against_at} <= {*kept}),
    )


def against(
    table: Table, name: str, *, margin: float | None = None, answers: Answers | None = None
) -> Table:
    """The table with each arm's paired differences to one arm; raise UnknownName for no arm.

    An arm that has full precision alone is the other side at every bit-width. `margin` is that of
    equivalence, in the unit of the metric; None: 0.3 points of top-1, and none of other metrics.
    `answers` are those by image, of `table_answers`.
    """
    if name not in table.arms:
        known = ", ".join(table.arms)
        raise UnknownName(f"{table.sweep} has no arm {name!r}{nearest(name, table.arms)}: {known}")
    if margin is None and table.metric == "top1_percent":
        margin = DEFAULT_MARGIN
    declared = {
        (one.arm, one.against, one.at)
        for one in table.comparisons
        if one.is_primary and one.at == one.against_at
    }
    found = [
        _difference(
            cell,
            reference,
            margin,
            answers=answers or {},
            is_declared=(arm, name, allocation) in declared or (name, arm, allocation) in declared,
        )
        for allocation in table.allocations
        for arm in table.arms
        if arm != name
        and (cell := table.cells.get((arm, allocation))) is not None
        and (reference := reference_cell(table.cells, name, allocation)) is not None
        and set(cell.value_by_seed) & set(reference.value_by_seed)
    ]
    return replace(table, differences=tuple(found))


def reference_cell(cells: Mapping[tuple[Side, str], Cell], side: Side, at: str) -> Cell | None:
    """The other side at these bits: one that has full precision alone stands at every width."""
    own = [allocation for name, allocation in cells if name == side]
    return cells.get((side, FULL_PRECISION if own == [FULL_PRECISION] else at))


def _difference(
    cell: Cell, reference: Cell, margin: float | None, *, answers: Answers, is_declared: bool
) -> Difference:
    result = paired_cells(cell, reference)
    assert result is not None  # they have common seeds
    seeds = sorted(set(cell.value_by_seed) & set(reference.value_by_seed))
    points = [cell.value_by_seed[seed] - reference.value_by_seed[seed] for seed in seeds]
    return Difference(
        arm=cell.arm,
        against=reference.arm,
        at=cell.allocation,
        result=result,
        equivalence=None if margin is None else tost(points, margin=margin),
        by_image=cells_by_image(cell, reference, answers),
        is_declared=is_declared,
    )


def with_published(table: Table, settings: Sequence[Setting]) -> Table:
    """The table with the papers' numbers for its data and model at its bits.

    Other epochs, augmentation and ends are the rule: the note says what ours were.
    """
    pairs = dict.fromkeys((one.data, one.model) for one in settings)
    found = [
        row
        for data, model in pairs
        for row in beside(data=data, model=model, bits=table.allocations)
    ]
    epochs = sorted({one.epochs for one in settings})
    ours = ", ".join(f"{model} on {data}" for data, model in pairs)
    note = f"Ours: {ours}, trained for {' or '.join(map(str, epochs))} epochs; "
    note += (
        "papers' rows are printed numbers of their own settings, never averaged with ours."
        if found
        else "no paper's number agrees in model, data and bits."
    )
    return replace(table, published=tuple(found), footnotes=(*table.footnotes, note))


def marks(table: Table) -> dict[tuple[str, str], Mark]:
    """`best` and `second` among the arms of each allocation, by mean; a lone arm bears no mark.

    Arms whose bits are learned differ in bits and bear none. Equal means share a mark, and two
    that share `best` leave no second.
    """
    marked: dict[tuple[str, str], Mark] = {}
    for allocation in table.allocations:
        if allocation == LEARNED:
            continue  # the arms have bits of their own there: no mark says which is better
        cells = {arm: table.cells[arm, allocation].mean for arm in _arms_at(table, allocation)}
        ranked = sorted(cells.values(), reverse=table.goal == "maximize")
        if len(ranked) < 2:
            continue
        for arm, mean in cells.items():
            if mean == ranked[0]:
                marked[arm, allocation] = "best"
            elif mean == ranked[1]:
                marked[arm, allocation] = "second"
    return marked


def _arms_at(table: Table, allocation: str) -> Iterable[str]:
    return (arm for arm in table.arms if (arm, allocation) in table.cells)
