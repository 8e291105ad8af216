"""The search space at one bit-width: parallel coordinates, slices, importance, a contour.

All of it is validation, which the search looked at: it describes the search and reports nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from bitsweep.analysis.cell import ordered
from bitsweep.analysis.chart import Bars, Curves, Series, Style, Surface, arm_looks, method_look
from bitsweep.analysis.importance import FEWEST, importances
from bitsweep.analysis.shown import shown
from bitsweep.errors import InputError
from bitsweep.space import Value
from bitsweep.store.history import Searched, searched
from bitsweep.store.reader import Reader
from bitsweep.store.records import SweepRow

ABSENT = "absent"
BELOW = -0.15
MOST_LINES = 200
_TREES, _STEPS = 64, 24
_USUAL = Style(colour="#9a9a9a", marker=None, is_thin=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A configuration of the search and its metric, as the mean over the search's seeds."""

    parameters: Mapping[str, Value]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Landscape:
    """One arm at one bit-width, with what may be picked instead; `surface` None below 2 names."""

    sweep: str
    arm: str
    allocation: str
    arms: tuple[str, ...]
    allocations: tuple[str, ...]
    names: tuple[str, ...]
    count: int
    parallel: Curves
    slices: tuple[Curves, ...]
    importance: Bars | None
    surface: Surface | None


def landscape(
    reader: Reader,
    sweep_name: str,
    *,
    arm: str | None = None,
    allocation: str | None = None,
    pair: tuple[str | None, str | None] = (None, None),
) -> Landscape:
    """The search of an arm at these bits (None: the first that has one).

    Raises InputError where nothing was searched, or names what can be picked.
    """
    sweep = reader.sweep(sweep_name)
    rows, arms = _searched(reader, sweep)
    arm = _known(arm, arms, f"searched arm of {sweep_name}")
    mine = [row for row in rows if row.arm == arm]
    allocations = ordered({row.allocation for row in mine})
    allocation = _known(allocation, allocations, f"bits of {arm}")
    at = _tried([row for row in mine if row.allocation == allocation])
    looks = arm_looks([(one.name, one.method) for one in reader.arms(sweep.id)])
    methods = {one.name: one.method for one in reader.arms(sweep.id)}
    metric = shown(sweep.metric)
    label = f"{metric.title} on validation{metric.in_brackets}"
    names = varying([row.parameters for row in at])
    influence = _importance(at, names, method_look(methods[arm])[0])
    ranked = influence.names if influence is not None else names
    return Landscape(
        sweep=sweep.name,
        arm=arm,
        allocation=allocation,
        arms=arms,
        allocations=allocations,
        names=names,
        count=len(at),
        parallel=_parallel(at, names, looks[arm], arm=arm, goal=sweep.goal),
        slices=tuple(_slice(at, name, looks[arm], label) for name in names),
        importance=influence,
        surface=_surface(at, _pair(pair, ranked, names), label),
    )


def searched_at(
    reader: Reader, sweep_name: str
) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """By searched arm the bits it was searched at, and its parameters that vary.

    Raises InputError where nothing was searched.
    """
    rows, arms = _searched(reader, reader.sweep(sweep_name))
    return {
        arm: (
            ordered({row.allocation for row in rows if row.arm == arm}),
            varying([row.parameters for row in rows if row.arm == arm]),
        )
        for arm in arms
    }


def _searched(reader: Reader, sweep: SweepRow) -> tuple[list[Searched], tuple[str, ...]]:
    rows = searched(reader, sweep.id, metric=sweep.metric)
    arms = tuple(dict.fromkeys(row.arm for row in rows if row.parameters))
    if not arms:
        raise InputError(f"{sweep.name} has no finished search trial with parameters")
    return rows, arms


def _tried(rows: Sequence[Searched]) -> list[Tried]:
    """Each configuration once."""
    values: dict[int | None, list[float]] = {}
    for row in rows:
        values.setdefault(row.configuration_id, []).append(row.value)
    parameters = {row.configuration_id: row.parameters for row in rows}
    return [Tried(parameters=parameters[id_], value=fmean(some)) for id_, some in values.items()]


def _known(wanted: str | None, known: Sequence[str], what: str) -> str:
    if wanted is None:
        return known[0]
    if wanted not in known:
        raise InputError(f"{wanted!r} is no {what}; choose one of: {', '.join(known)}")
    return wanted


def varying(configurations: Sequence[Mapping[str, Value]]) -> tuple[str, ...]:
    """The parameters that have more than one value, absence being one."""
    names = sorted({name for one in configurations for name in one})
    return tuple(n for n in names if len({one.get(n, ABSENT) for one in configurations}) > 1)


def places(values: Sequence[Value]) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Numbers as they are; anything else by its place among the names, which become the ticks.

    >>> places(["off", "bitwise", "off"])
    ((1.0, 0.0, 1.0), ('bitwise', 'off'))
    """
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) == len(values):
        return tuple(numbers), ()
    names = sorted({str(one) for one in values})
    return tuple(float(names.index(str(one))) for one in values), tuple(names)


def _having(rows: Sequence[Tried], *names: str) -> list[Tried]:
    """The configurations that have these parameters: others have no place on their axes."""
    return [row for row in rows if all(name in row.parameters for name in names)]


def _column(rows: Sequence[Tried], name: str) -> tuple[tuple[float, ...], tuple[str, ...]]:
    return places([row.parameters[name] for row in rows])


def _is_log(values: Sequence[float], ticks: Sequence[str]) -> bool:
    """A range of an order or more reads better so, and is how rates are searched."""
    return not ticks and min(values) > 0 and max(values) >= 8 * min(values)


def _unit(values: Sequence[float], *, is_log: bool) -> list[float]:
    """From 0 for the lowest to 1 for the highest; all equal: in the middle."""
    found = np.log(values) if is_log else np.asarray(values, dtype=float)
    low, high = float(found.min()), float(found.max())
    return [(float(one) - low) / (high - low) if high > low else 0.5 for one in found]


def _axis(rows: Sequence[Tried], name: str) -> list[float]:
    """Where each configuration crosses the axis of a parameter; below it where it has none."""
    having = _having(rows, name)
    values, ticks = _column(having, name)
    places_ = iter(_unit(values, is_log=_is_log(values, ticks)))
    return [next(places_) if name in row.parameters else BELOW for row in rows]


def _parallel(
    rows: Sequence[Tried], names: Sequence[str], look: Style, *, arm: str, goal: str
) -> Curves:
    """A line per configuration over its parameters and, last, its score; the best in colour."""
    sign = -1 if goal == "minimize" else 1
    best = sorted(rows, key=lambda row: sign * row.value)[-MOST_LINES:]
    columns = [_axis(best, name) for name in names]
    columns.append(_unit([row.value for row in best], is_log=False))
    quarter = len(best) - max(1, len(best) // 4)
    coloured = replace(look, marker=None)
    lines = list(zip(*columns, strict=True))
    series = tuple(
        Series(
            name=f"{arm}: best quarter" if place == len(lines) - 1 else None,
            x=tuple(float(x) for x in range(len(line))),
            y=line,
            style=coloured if place >= quarter else _USUAL,
        )
        for place, line in enumerate(lines)
    )
    return Curves(
        title="",
        x_label="",
        y_label="",
        series=series,
        x_ticks=(*names, "score"),
        y_ticks=(
            *([(BELOW, "not taken")] if any(BELOW in column for column in columns) else []),
            (0.0, "lowest tried"),
            (1.0, "highest tried"),
        ),
    )


def _slice(rows: Sequence[Tried], name: str, look: Style, label: str) -> Curves:
    having = _having(rows, name)
    values, ticks = _column(having, name)
    points = Series(
        name=None,
        x=values,
        y=tuple(row.value for row in having),
        style=replace(look, has_line=False),
    )
    part = "" if len(having) == len(rows) else f" ({len(having)} of {len(rows)})"
    return Curves(
        title=f"{name}{part}",
        x_label=name,
        y_label=label,
        series=(points,),
        x_scale="log2" if _is_log(values, ticks) else "linear",
        x_ticks=ticks,
    )


def _importance(rows: Sequence[Tried], names: Sequence[str], colour: str) -> Bars | None:
    if len(rows) < FEWEST or not names:
        return None
    kept = [{name: row.parameters.get(name, ABSENT) for name in names} for row in rows]
    found = importances(kept, [row.value for row in rows])
    return Bars(
        title="",
        names=tuple(found),
        values=tuple(found.values()),
        label="share of variance explained alone",
        colour=colour,
    )


def _pair(
    wanted: tuple[str | None, str | None], ranked: Sequence[str], names: Sequence[str]
) -> tuple[str, str] | None:
    """The two parameters asked for, else the two that matter most."""
    if len(names) < 2:
        return None
    first = _known(wanted[0], names, "searched parameter") if wanted[0] else ranked[0]
    rest = [name for name in ranked if name != first]
    second = _known(wanted[1], names, "searched parameter") if wanted[1] else rest[0]
    return (first, second) if second != first else (first, rest[0])


def _surface(tried: Sequence[Tried], pair: tuple[str, str] | None, label: str) -> Surface | None:
    """A forest's prediction over two parameters, fitted on these two alone."""
    rows = [] if pair is None else _having(tried, *pair)
    if pair is None or len(rows) < FEWEST:
        return None
    from sklearn.ensemble import RandomForestRegressor

    (x, x_ticks), (y, y_ticks) = _column(rows, pair[0]), _column(rows, pair[1])
    scores = [row.value for row in rows]
    forest = RandomForestRegressor(n_estimators=_TREES, random_state=0, min_samples_leaf=2)
    forest.fit(np.column_stack([x, y]), scores)
    x_log, y_log = _is_log(x, x_ticks), _is_log(y, y_ticks)
    xs, ys = _steps(x, x_ticks, is_log=x_log), _steps(y, y_ticks, is_log=y_log)
    grid = np.array([(one, other) for other in ys for one in xs])
    z = forest.predict(grid).reshape(len(ys), len(xs))
    return Surface(
        title="",
        x_label=pair[0],
        y_label=pair[1],
        label=label,
        x=tuple(map(float, xs)),
        y=tuple(map(float, ys)),
        z=tuple(tuple(float(one) for one in line) for line in z),
        points=tuple(zip(x, y, scores, strict=True)),
        x_ticks=x_ticks,
        y_ticks=y_ticks,
        x_is_log=x_log,
        y_is_log=y_log,
    )


def _steps(values: Sequence[float], ticks: Sequence[str], *, is_log: bool) -> NDArray[np.float64]:
    if ticks:
        return np.arange(len(ticks), dtype=float)
    low, high = min(values), max(values)
    if low == high:  # a line of what was tried: a surface needs some width
        low, high = low - 0.5, high + 0.5
    return np.geomspace(low, high, _STEPS) if is_log else np.linspace(low, high, _STEPS)
