"""A sweep at a glance: its best cell, some of its arms, and which cells a declared test marks."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from bitsweep.analysis.cell import FULL_PRECISION, Cell
from bitsweep.analysis.shown import shown
from bitsweep.analysis.table import Table

SIGNIFICANT_AT = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The cell that validation prefers, as it came out on what is reported."""

    arm: str
    allocation: str
    text: str
    split: str


def best_of(table: Table, validation: Table) -> Best | None:
    """The best quantized cell by validation; None before one is finished.

    Full precision is no competitor: it is taken only where a sweep has nothing else. Nor are the
    rules that stand beside a policy.
    """
    keys = [key for key in validation.cells if key in table.cells and table.cells[key].is_own]
    quantized = [key for key in keys if key[1] != FULL_PRECISION] or keys
    if not quantized:
        return None
    sign = -1 if table.goal == "minimize" else 1
    key = max(quantized, key=lambda one: (sign * validation.cells[one].mean, one))
    cell = table.cells[key]
    return Best(
        arm=key[0], allocation=key[1], text=cell_text(cell, table.metric), split=cell.split
    )


def cell_text(cell: Cell, metric: str) -> str:
    """Mean, sd and unit of a cell: 91.20 ± 0.30 %."""
    look = shown(metric)
    spread = "" if cell.sd is None else f" ± {look.number(cell.sd)}"
    return f"{look.number(cell.mean)}{spread} {look.unit}".rstrip()


def among(table: Table, hidden: Collection[str]) -> Table:
    """The table without these arms; adjusted p-values stay those of the whole family."""
    return replace(
        table,
        arms=tuple(arm for arm in table.arms if arm not in hidden),
        cells={key: cell for key, cell in table.cells.items() if key[0] not in hidden},
        comparisons=tuple(
            one for one in table.comparisons if not {one.arm, one.against} & set(hidden)
        ),
    )


def significance(table: Table) -> dict[tuple[str, str], str]:
    """By arm and allocation, against whom a primary comparison is significant at 0.05 (Holm)."""
    marked: dict[tuple[str, str], str] = {}
    for one in table.comparisons:
        if one.is_primary and one.adjusted_p is not None and one.adjusted_p <= SIGNIFICANT_AT:
            named = marked.get((one.arm, one.at))
            other = one.against if one.at == one.against_at else f"{one.against} {one.against_at}"
            marked[one.arm, one.at] = f"{named}, {other}" if named else other
    return marked
