"""Tables of two sides over one or several sweeps: methods, arms or models by bit-width.

What differs in metric, convention, data, epochs, split or stage stands in a block of its own:
nothing is averaged over it. A trial that several sweeps share counts once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Literal

from bitsweep.analysis.cell import Cell, ordered
from bitsweep.analysis.render import CONVENTIONS, comparison_text
from bitsweep.analysis.selection import Mark
from bitsweep.analysis.shown import shown
from bitsweep.analysis.table import Table
from bitsweep.errors import InputError
from bitsweep.store.history import Setting

Rows = Literal["arms", "methods", "models"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A sweep's table, with the settings of its trials and the store it came from."""

    table: Table
    settings: tuple[Setting, ...]
    store: str = ""

    @property
    def models(self) -> tuple[str, ...]:
        """The networks of its trials."""
        return tuple(sorted({one.model for one in self.settings}))

    @property
    def told(self) -> dict[str, str]:
        """By name in words what sweeps must agree in, to be compared or put into one block."""
        table = self.table
        return {
            "metric": f"{table.metric}, {table.goal}",
            "cost convention": CONVENTIONS[table.convention],
            "stage": f"{table.stage}, on {table.split}",
            "data": ", ".join(sorted({one.data for one in self.settings})) or "none yet",
            "epochs": " or ".join(str(n) for n in sorted({one.epochs for one in self.settings})),
            "networks": ", ".join(self.models),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """One block: a cell per row and bit-width, or in words why there is none."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]
    missing: Mapping[tuple[str, str], str]
    notes: tuple[str, ...]
    convention: str
    metric: str
    goal: str


def grids(sources: Sequence[Source], *, rows: Rows) -> list[Grid]:
    """One grid per setting, in the order of the sweeps; raise InputError where stores disagree."""
    blocks: dict[tuple[str, ...], list[Source]] = {}
    for source in sources:
        blocks.setdefault(_setting(source, rows), []).append(source)
    return [_grid(some, rows) for some in blocks.values()]


def _setting(source: Source, rows: Rows) -> tuple[str, ...]:
    """What must agree inside a block; networks may differ only where they are the rows."""
    told = source.told
    return tuple(told[name] for name in told if name != "networks" or rows != "models")


def _grid(sources: Sequence[Source], rows: Rows) -> Grid:
    cells: dict[tuple[str, str], Cell] = {}
    missing: dict[tuple[str, str], str] = {}
    labels: list[str] = []
    for source in sources:
        names = {arm: _label(source, arm, rows, cells) for arm in source.table.arms}
        labels += [label for label in names.values() if label not in labels]
        for (arm, at), cell in source.table.cells.items():
            standing = cells.get((names[arm], at))
            cells[names[arm], at] = cell if standing is None else _united(standing, cell)
        missing |= {(names[arm], at): why for (arm, at), why in source.table.missing.items()}
    return Grid(
        title=_title(sources),
        rows=tuple(labels),
        columns=ordered({at for _, at in (*cells, *missing)}),
        cells=cells,
        missing={key: why for key, why in missing.items() if key not in cells},
        notes=tuple(_notes(sources)),
        convention=sources[0].table.convention,
        metric=sources[0].table.metric,
        goal=sources[0].table.goal,
    )


def _label(
    source: Source,
    arm: str,
    rows: Rows,
    cells: Mapping[tuple[str, str], Cell],
) -> str:
    """The name of an arm's row; a name that is taken by other trials says its sweep too."""
    mine = [cell for (name, _), cell in source.table.cells.items() if name == arm]
    plain = arm if rows == "arms" else f"{'+'.join(source.models)} {arm}"
    if rows == "methods" and mine:
        method = mine[0].method
        alike = {c.arm for c in source.table.cells.values() if c.method == method}
        plain = method if len(alike) == 1 else f"{method} ({arm})"
    candidates = (
        plain,
        f"{plain} ({source.table.sweep})",
        f"{plain} ({source.table.sweep}, {arm})",
        f"{plain} ({source.table.sweep}, {arm}, {source.store})",
    )
    return next(one for one in candidates if _is_free(one, mine, cells) or one == candidates[-1])


def _is_free(label: str, mine: Sequence[Cell], cells: Mapping[tuple[str, str], Cell]) -> bool:
    """No row has this label, or the one that has it shares trials with this arm."""
    theirs = [cell for (name, _), cell in cells.items() if name == label]
    trials = {id_ for cell in theirs for id_ in cell.trial_ids}
    return not theirs or any(cell.trial_ids & trials for cell in mine)


def _united(one: Cell, other: Cell) -> Cell:
    """Two cells that share trials as one over all their seeds, each trial once."""
    for seed in set(one.value_by_seed) & set(other.value_by_seed):
        here, there = _fact(one, seed), _fact(other, seed)
        if here != there:
            raise InputError(
                f"{one.arm} {one.allocation} seed {seed}: {here} in one place, {there} in "
                "another; nothing is averaged: look at each alone, or `bitsweep import` one store "
                "into the other to see the conflict"
            )
    by_seed = {**one.value_by_seed, **other.value_by_seed}
    values = list(by_seed.values())
    return replace(
        one,
        mean=fmean(values),
        sd=stdev(values) if len(values) > 1 else None,
        n=len(values),
        value_by_seed=by_seed,
        correct_by_seed={**one.correct_by_seed, **other.correct_by_seed},
        trial_ids=one.trial_ids | other.trial_ids,
        measured_by_seed={**one.measured_by_seed, **other.measured_by_seed},
    )


def _fact(cell: Cell, seed: int) -> str:
    """What was measured on a seed, to its last digit."""
    if seed in cell.correct_by_seed:
        return f"{cell.correct_by_seed[seed]} correct of {cell.total}"
    return f"{cell.value_by_seed[seed]!r}"


def _title(sources: Sequence[Source]) -> str:
    names = ", ".join(dict.fromkeys(one.table.sweep for one in sources))
    settings = [setting for one in sources for setting in one.settings]
    data = ", ".join(dict.fromkeys(one.data for one in settings))
    models = ", ".join(dict.fromkeys(one.model for one in settings))
    first = sources[0].table
    if not settings:
        return f"{names}: nothing was measured yet"
    metric = shown(first.metric).header
    return f"{names}: {metric} on {first.split} ({first.stage}), {models} on {data}"


def _notes(sources: Sequence[Source]) -> Iterable[str]:
    for one in sources:
        compared = [
            comparison_text(each, metric=one.table.metric) for each in one.table.comparisons
        ]
        for line in (*compared, *one.table.footnotes):
            yield line if len(sources) == 1 else f"{one.table.sweep}: {line}"


def grid_marks(grid: Grid) -> dict[tuple[str, str], Mark]:
    """`best` and `second` of each column; equal means share a mark, a lone row bears none."""
    marked: dict[tuple[str, str], Mark] = {}
    for column in grid.columns:
        means = {
            row: grid.cells[row, column].mean for row in grid.rows if (row, column) in grid.cells
        }
        ranked = sorted(means.values(), reverse=grid.goal == "maximize")
        for row, mean in means.items():
            if len(ranked) > 1 and mean == ranked[0]:
                marked[row, column] = "best"
            elif len(ranked) > 1 and mean == ranked[1]:
                marked[row, column] = "second"
    return marked
