"""The figures of a sweep as data: cost against accuracy, learning curves, bits per layer.

A front is chosen on validation and drawn on test; seeds are shown beside their mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Literal

from bitsweep.analysis.areas import chosen_cells, own_cells
from bitsweep.analysis.cell import FULL_PRECISION, Cell, ordered
from bitsweep.analysis.chart import (
    FULL_PRECISION_COLOUR,
    Chart,
    Curves,
    Heat,
    Series,
    Style,
    arm_looks,
)
from bitsweep.analysis.pareto import Point, staircase_volume
from bitsweep.analysis.render import CONVENTIONS, engineering
from bitsweep.analysis.shown import shown
from bitsweep.analysis.table import Table, sweep_table
from bitsweep.bits import POLICY
from bitsweep.errors import InputError
from bitsweep.store.history import CurvePoint, LayerWidth, curve_points, layer_widths
from bitsweep.store.reader import Reader

Axis = Literal["BitOps", "size", "mean bits"]
_LABELS: dict[Axis, str] = {
    "BitOps": "BitOps per image",
    "size": "size of the stored network (bits)",
    "mean bits": "mean weight bits",
}
_FRONT = Style(colour="#9a9a9a", marker=None)
# Points of accuracy: where cells lie further apart, a second panel enlarges the upper part.
_WIDE, _ENLARGED = 30.0, 12.0


def size_chart(reader: Reader, sweep_name: str) -> Chart:
    """The same against the size of the stored network."""
    return pareto_chart(reader, sweep_name, axis="size")


def bits_chart(reader: Reader, sweep_name: str) -> Chart:
    """The same against the mean weight bits of the body."""
    return pareto_chart(reader, sweep_name, axis="mean bits")


def _costed(table: Table, axis: Axis) -> Table:
    """The table with the axis in the place of BitOps: what the figure calls a cost."""
    if axis == "BitOps":
        return table
    cells = {
        key: replace(cell, bitops=cell.size_bits if axis == "size" else cell.mean_weight_bits)
        for key, cell in table.cells.items()
    }
    return replace(table, cells=cells)


def pareto_chart(reader: Reader, sweep_name: str, *, axis: Axis = "BitOps") -> Chart:
    """Accuracy on test against a cost, with the front that validation chose.

    Raises InputError where the sweep has no finished trial. Full precision stands as a level. The
    rules beside a policy are not the arm's: they stand in the table and in the figure `trade`.
    """
    table = _costed(sweep_table(reader, sweep_name), axis)
    validation = _costed(sweep_table(reader, sweep_name, split="validation"), axis)
    cells = list(own_cells(table.cells).values())
    if not cells:
        raise InputError(f"{sweep_name} has no finished trial to plot")
    chosen = chosen_on_validation(table, validation)
    series = [*_references(table, cells), _staircase(chosen, cells), *_arm_series(table, cells)]
    panel = Curves(
        title="",
        x_label=_LABELS[axis],
        y_label=_value_label(table),
        series=tuple(one for one in series if one.x),
        x_scale="linear" if axis == "mean bits" else "log2",
    )
    panels = (panel, *_enlarged(panel, cells, table))
    note = _pareto_note(table, cells, chosen, axis)
    return Chart(title=table.sweep, panels=panels, note=note)


def _value_label(table: Table) -> str:
    metric = shown(table.metric)
    title = "top-1 accuracy" if table.metric == "top1_percent" else metric.title
    return f"{title} on {table.split}{metric.in_brackets}"


def _enlarged(panel: Curves, cells: Sequence[Cell], table: Table) -> list[Curves]:
    """The upper part once more, where a few low cells would flatten it; of percents alone."""
    best = max(cell.mean for cell in cells)
    is_flat = min(cell.mean for cell in cells) > best - _WIDE
    if is_flat or table.goal == "minimize" or shown(table.metric).unit != "%":
        return []
    low = best - _ENLARGED
    below = sum(cell.mean < low for cell in cells)
    return [replace(panel, title=f"upper part ({below} below)", y_low=low)]


def chosen_on_validation(table: Table, validation: Table) -> list[Cell]:
    """The cells that are on the front on validation, as they came out on what is reported."""
    return chosen_cells(own_cells(table.cells), validation.cells, sign=_sign(table))


def _sign(table: Table) -> int:
    """What makes more better."""
    return -1 if table.goal == "minimize" else 1


def _references(table: Table, cells: Sequence[Cell]) -> list[Series]:
    """Full precision as a level over the costs cells: its own cost would flatten all others."""
    costs = [cell.bitops for cell in cells]
    style = Style(colour=FULL_PRECISION_COLOUR, marker=None, dash="dotted")
    return [
        Series(
            name=f"{cell.arm} ({engineering(cell.bitops)})",
            x=(min(costs), max(costs)),
            y=(cell.mean, cell.mean),
            style=style,
        )
        for cell in table.cells.values()
        if cell.allocation == FULL_PRECISION
    ]


def _staircase(chosen: Sequence[Cell], cells: Sequence[Cell]) -> Series:
    """What is had for at most so many BitOps, up to the highest cost cells."""
    end = max(cell.bitops for cell in cells)
    return Series(
        name="front chosen on validation",
        x=(*(cell.bitops for cell in chosen), end),
        y=(*(cell.mean for cell in chosen), *(cell.mean for cell in chosen[-1:])),
        style=_FRONT,
        is_staircase=True,
    )


def _arm_series(table: Table, cells: Sequence[Cell]) -> list[Series]:
    looks = arm_looks(_arms(table))
    series = []
    for arm in table.arms:
        mine = sorted((cell for cell in cells if cell.arm == arm), key=lambda cell: cell.bitops)
        if mine:
            series.append(
                Series(
                    name=arm,
                    x=tuple(cell.bitops for cell in mine),
                    y=tuple(cell.mean for cell in mine),
                    style=replace(looks[arm], has_line=False),
                    spread=tuple(cell.sd for cell in mine),
                )
            )
    return series


def _arms(table: Table) -> list[tuple[str, str]]:
    methods = {cell.arm: cell.method for cell in table.cells.values()}
    return [(arm, methods.get(arm, arm)) for arm in table.arms]


def _counted(table: Table, axis: Axis) -> str:
    return "body, by weights" if axis == "mean bits" else CONVENTIONS[table.convention]


def _pareto_note(table: Table, cells: Sequence[Cell], chosen: Sequence[Cell], axis: Axis) -> str:
    limit = max(cell.bitops for cell in cells)
    note = f"{axis}: {_counted(table, axis)}. Bars: sample sd over seeds (n in the table)."
    if not all(cell.is_own for cell in table.cells.values()):
        note += " Without the rules beside a policy (--kind trade)."
    if table.metric != "top1_percent":  # no floor to measure the volume from
        return note
    points = [Point(cost=cell.bitops / limit, accuracy=cell.mean) for cell in chosen]
    volume = staircase_volume(points, cost_limit=1.0, accuracy_floor=0.0)
    reference = f"{engineering(limit)} as 1, and 0 %"
    return f"{note} Hypervolume of the front {volume:.3f} (reference: {reference})."


def learning_chart(reader: Reader, sweep_name: str) -> Chart:
    """Validation accuracy by epoch, a panel per bit-width: arms as means, seeds as thin lines.

    Confirmed configurations where there are any, else the search. InputError for no measurement.
    """
    table = sweep_table(reader, sweep_name)
    sweep_id, metric = reader.sweep(sweep_name).id, shown(table.metric)
    found = curve_points(reader, sweep_id, metric=table.metric, split="validation")
    points = [one for one in found if one.stage == table.stage and not _is_rule(one)]
    once = _measured_once(points)
    points = [one for one in points if one.arm not in once]
    if not points:
        raise InputError(f"{sweep_name} has no trial that was measured more than once")
    looks = arm_looks([(arm.name, arm.method) for arm in reader.arms(sweep_id)])
    allocations = ordered({one.allocation for one in points})
    if len(allocations) > 1:  # full precision is drawn into the panels of the others
        allocations = tuple(one for one in allocations if one != FULL_PRECISION)
    panels = [
        Curves(
            title=allocation,
            x_label="epoch",
            y_label=f"{metric.title} on validation{metric.in_brackets}",
            series=tuple(_learning_at(points, allocation, looks)),
        )
        for allocation in allocations
    ]
    kind = "confirmed trials" if table.stage == "confirm" else "trials of the search"
    note = f"Thin: single seeds; thick: their mean at epochs that all of them reached; {kind}."
    if once:
        note += f" Measured but once, not drawn: {', '.join(sorted(once))}."
    return Chart(title=table.sweep, panels=tuple(panels), note=note)


def _is_rule(point: CurvePoint) -> bool:
    """A policy and the rules beside it are measured after the last epoch alone: no curve."""
    return point.allocation.startswith(POLICY)


def _measured_once(points: Sequence[CurvePoint]) -> set[str]:
    """Arms without a curve, such as rounding after training."""
    epochs: dict[str, set[int]] = {}
    for one in points:
        epochs.setdefault(one.arm, set()).add(one.epoch)
    return {arm for arm, seen in epochs.items() if len(seen) == 1}


def _learning_at(
    points: Sequence[CurvePoint], allocation: str, looks: Mapping[str, Style]
) -> list[Series]:
    """The curves of one panel, arm by arm in the order of the sweep."""
    return [
        series
        for arm, look in looks.items()
        for series in _learning(
            [
                one
                for one in points
                if one.arm == arm and one.allocation in (allocation, FULL_PRECISION)
            ],
            arm,
            look,
        )
    ]


def _learning(points: Sequence[CurvePoint], arm: str, look: Style) -> list[Series]:
    """A thin line per trial and the mean over them; one trial alone is its own mean."""
    by_trial: dict[str, dict[int, float]] = {}
    for one in points:
        by_trial.setdefault(one.trial_id, {})[one.epoch] = one.value
    if not by_trial:
        return []
    common = sorted(set.intersection(*(set(curve) for curve in by_trial.values())))
    thin = replace(look, is_thin=True, marker=None)
    single = [
        Series(name=None, x=tuple(curve), y=tuple(curve.values()), style=thin)
        for curve in by_trial.values()
        if len(by_trial) > 1
    ]
    means = tuple(fmean(curve[epoch] for curve in by_trial.values()) for epoch in common)
    return [*single, Series(name=arm, x=tuple(map(float, common)), y=means, style=look)]


def layers_chart(reader: Reader, sweep_name: str) -> Chart:
    """Weight bits per layer at the last epoch, a panel per arm: layers down, allocations across.

    Means over seeds; a policy's bits are weighted by its shares. InputError for no measurement.
    """
    sweep = reader.sweep(sweep_name)
    arms = {
        row.trial_id: row.arm
        for row in reader.trial_rows(sweep.id)
        if row.stage == "confirm" and row.arm and row.status == "finished"
    }
    widths = _newest([one for one in layer_widths(reader, sweep.id) if one.trial_id in arms])
    panels = []
    for arm in dict.fromkeys(arms.values()):
        mine = [one for one in widths if arms[one.trial_id] == arm]
        if mine:
            panels.append(_heat(arm, mine))
    if not panels:
        raise InputError(f"{sweep_name} has no confirmed trial to plot")
    note = "Factors of the BitOps: weight bits, with branches counted; means over seeds."
    return Chart(title=sweep.name, panels=tuple(panels), note=note)


def _newest(widths: Sequence[LayerWidth]) -> list[LayerWidth]:
    last: dict[str, int] = {}
    for one in widths:
        last[one.trial_id] = max(one.epoch, last.get(one.trial_id, 0))
    return [one for one in widths if one.epoch == last[one.trial_id]]


def _heat(arm: str, widths: Sequence[LayerWidth]) -> Heat:
    rows = sorted({(one.layer, one.name) for one in widths})
    columns = ordered({one.allocation for one in widths})
    found: dict[tuple[int, str], list[float]] = {}
    for one in widths:
        found.setdefault((one.layer, one.allocation), []).append(one.weight_bits)
    values = tuple(
        tuple(
            fmean(found[layer, column]) if (layer, column) in found else None for column in columns
        )
        for layer, _ in rows
    )
    return Heat(
        title=arm,
        rows=tuple(name for _, name in rows),
        columns=columns,
        values=values,
        label="weight bits",
    )
