"""Arms of several sweeps side by side: bits across, differences paired by seed.

Costs under two conventions, accuracies on two data sets or of two stages are never put into one
table: the refusal says which sweep differs in what.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bitsweep.analysis.by_image import Answers, ByImage
from bitsweep.analysis.cell import FULL_PRECISION, Cell, cells_by_image, ordered, paired_cells
from bitsweep.analysis.chart import Curves, Series, arm_looks
from bitsweep.analysis.grid import Source
from bitsweep.analysis.paired import Paired
from bitsweep.analysis.published import Published, beside
from bitsweep.analysis.selection import reference_cell
from bitsweep.analysis.shown import shown
from bitsweep.analysis.table import Table
from bitsweep.errors import InputError

Key = tuple[str, str]
"""A sweep and one of its arms."""


class Unlike(InputError):
    """Sweeps that cannot stand in one table; `differences` says by what."""

    def __init__(self, differences: Mapping[str, Mapping[str, str]]) -> None:
        self.differences = differences
        super().__init__(f"the sweeps differ in {', '.join(differences)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """A chosen arm less the reference at one allocation, on common seeds."""

    key: Key
    at: str
    result: Paired
    by_image: ByImage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Across:
    """The chosen arms: a cell per arm and allocation, contrasts, papers' rows, and notes."""

    keys: tuple[Key, ...]
    allocations: tuple[str, ...]
    cells: Mapping[tuple[Key, str], Cell]
    reference: Key | None
    contrasts: tuple[Contrast, ...]
    published: tuple[Published, ...]
    notes: tuple[str, ...]
    metric: str
    split: str
    stage: str
    convention: str
    figure: Curves


def across(
    sources: Sequence[Source],
    keys: Sequence[Key],
    *,
    against: Key | None = None,
    with_published: bool = False,
    answers: Answers | None = None,
) -> Across:
    """The arms side by side; raise Unlike where their sweeps must not share a table.

    Raises InputError for an arm that its sweep does not have. Contrasts are exploratory: they
    were declared nowhere, and no p-value of theirs is given. `answers`: by image, where kept.
    """
    by_name = {source.table.sweep: source for source in sources}
    for sweep, arm in keys:
        if arm not in by_name[sweep].table.arms:
            known = ", ".join(by_name[sweep].table.arms)
            raise InputError(f"{sweep} has no arm {arm!r}; it has: {known}")
    _refuse_unlike([by_name[name] for name in dict.fromkeys(sweep for sweep, _ in keys)])
    cells = {
        ((sweep, arm), at): cell
        for sweep, arm in keys
        for (name, at), cell in by_name[sweep].table.cells.items()
        if name == arm
    }
    allocations = ordered({at for _, at in cells})
    reference = against if against in keys else None
    first = by_name[keys[0][0]].table
    return Across(
        keys=tuple(keys),
        allocations=allocations,
        cells=cells,
        reference=reference,
        contrasts=tuple(_contrasts(cells, keys, allocations, reference, answers or {})),
        published=tuple(_published(sources, allocations)) if with_published else (),
        notes=tuple(_notes(sources)),
        metric=first.metric,
        split=first.split,
        stage=first.stage,
        convention=first.convention,
        figure=_figure(cells, keys, first),
    )


_MAY_DIFFER = ("epochs", "networks")  # nothing is averaged over them, and the notes tell


def _refuse_unlike(sources: Sequence[Source]) -> None:
    seen: dict[str, dict[str, str]] = {}
    for source in sources:
        for name, value in source.told.items():
            if name not in _MAY_DIFFER:
                seen.setdefault(name, {})[source.table.sweep] = value
    unlike = {name: values for name, values in seen.items() if len(set(values.values())) > 1}
    if unlike:
        raise Unlike(unlike)


def _contrasts(
    cells: Mapping[tuple[Key, str], Cell],
    keys: Sequence[Key],
    allocations: Sequence[str],
    reference: Key | None,
    answers: Answers,
) -> list[Contrast]:
    if reference is None:
        return []
    found = []
    for at in allocations:
        other = reference_cell(cells, reference, at)
        for key in keys:
            cell = cells.get((key, at))
            if key == reference or cell is None or other is None:
                continue
            result = paired_cells(cell, other)
            if result is not None:
                images = cells_by_image(cell, other, answers)
                found.append(Contrast(key=key, at=at, result=result, by_image=images))
    return found


def _published(sources: Sequence[Source], allocations: Sequence[str]) -> list[Published]:
    pairs = dict.fromkeys((one.data, one.model) for source in sources for one in source.settings)
    return [
        row for data, model in pairs for row in beside(data=data, model=model, bits=allocations)
    ]


def _notes(sources: Sequence[Source]) -> list[str]:
    """What may differ and must be said: networks and epochs."""
    lines = []
    for source in sources:
        told = source.told
        lines.append(f"{source.table.sweep}: {told['networks']}, {told['epochs']} epochs.")
    if len({line.partition(": ")[2] for line in lines}) > 1:
        lines.append("Networks or epochs differ: a difference is not of the methods alone.")
    return lines


def _figure(cells: Mapping[tuple[Key, str], Cell], keys: Sequence[Key], first: Table) -> Curves:
    metric = shown(first.metric)
    methods = {key: cell.method for (key, _), cell in cells.items()}
    looks = arm_looks([(label(key), methods.get(key, key[1])) for key in keys])
    series = []
    for key in keys:
        mine = sorted(
            (
                cell
                for (one, at), cell in cells.items()
                if one == key and at != FULL_PRECISION and cell.is_own
            ),
            key=lambda cell: cell.bitops,
        )
        if mine:
            series.append(
                Series(
                    name=label(key),
                    x=tuple(cell.bitops for cell in mine),
                    y=tuple(cell.mean for cell in mine),
                    style=looks[label(key)],
                    spread=tuple(cell.sd for cell in mine),
                )
            )
    return Curves(
        title="",
        x_label="BitOps per image",
        y_label=f"{metric.title} on {first.split}{metric.in_brackets}",
        series=tuple(series),
        x_scale="log2",
    )


def label(key: Key) -> str:
    """An arm with its sweep: quickstart / lsq."""
    return f"{key[0]} / {key[1]}"
