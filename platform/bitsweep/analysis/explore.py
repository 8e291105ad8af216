"""The search as data for figures: a slice per parameter, and parallel coordinates.

Both show validation, which the search itself looked at; nothing here is reported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bitsweep.analysis.chart import Chart, Curves, Panel, Series, Style, arm_looks
from bitsweep.analysis.importance import objectives
from bitsweep.analysis.shown import Shown, shown
from bitsweep.errors import InputError
from bitsweep.space import Value
from bitsweep.store.reader import Reader

_BELOW = -0.15


def _note(metric: Shown) -> str:
    return (
        f"Validation: {metric.title}{metric.in_brackets} above the mean of the configurations "
        "tried at the same bits. The search looked at these numbers: they are no result."
    )


def slices_chart(reader: Reader, sweep_name: str) -> Chart:
    """A panel per arm and searched parameter: each configuration that has it is a point.

    InputError where nothing was searched.
    """
    panels: list[Panel] = []
    metric = shown(reader.sweep(sweep_name).metric)
    for arm, look, configurations, scores in _searched_arms(reader, sweep_name):
        for name in _varying(configurations):
            present = [place for place, one in enumerate(configurations) if name in one]
            values, ticks = _scale([configurations[place][name] for place in present])
            is_log = not ticks and min(values) > 0 and max(values) >= 32 * min(values)
            points = Series(
                name=arm,
                x=values,
                y=tuple(scores[place] for place in present),
                style=replace(look, has_line=False),
            )
            part = "" if len(present) == len(scores) else f" ({len(present)} of {len(scores)})"
            panels.append(
                Curves(
                    title=f"{arm}: {name}{part}",
                    x_label=name,
                    y_label=f"{metric.difference_unit or metric.title} above the usual",
                    series=(points,),
                    x_scale="log2" if is_log else "linear",
                    x_ticks=ticks,
                )
            )
    return Chart(title=sweep_name, panels=tuple(_some(panels, sweep_name)), note=_note(metric))


def parallel_chart(reader: Reader, sweep_name: str) -> Chart:
    """A panel per arm: a line per configuration over its parameters and, last, its score.

    Every axis runs from the lowest value tried to the highest one; the best quarter is thick,
    best by the goal of the sweep. A parameter that a configuration lacks stands below its axis.
    """
    panels: list[Panel] = []
    sweep = reader.sweep(sweep_name)
    sign = -1 if sweep.goal == "minimize" else 1
    for arm, look, configurations, scores in _searched_arms(reader, sweep_name):
        names = _varying(configurations)
        scaled = [_unit([one.get(name) for one in configurations]) for name in names]
        lines = list(zip(*scaled, _unit(scores), strict=True))
        ranks = [sign * score for score in scores]
        bar = sorted(ranks, reverse=True)[max(0, len(ranks) // 4 - 1)]
        series = [
            Series(
                name=arm if rank == max(ranks) else None,
                x=tuple(float(place) for place in range(len(line))),
                y=line,
                style=_line_style(look, is_good=rank >= bar),
            )
            for line, rank in sorted(zip(lines, ranks, strict=True), key=lambda pair: pair[1])
        ]
        if names:
            panels.append(
                Curves(
                    title=f"{arm} ({len(scores)} configurations)",
                    x_label="",
                    y_label="lowest to highest tried",
                    series=tuple(series),
                    x_ticks=(*names, "score"),
                )
            )
    note = f"{_note(shown(sweep.metric))} Thick: the best quarter; below 0: absent."
    return Chart(title=sweep_name, panels=tuple(_some(panels, sweep_name)), note=note)


def _line_style(look: Style, *, is_good: bool) -> Style:
    return replace(look, marker=None, is_thin=not is_good)


def _some(panels: Sequence[Panel], sweep_name: str) -> Sequence[Panel]:
    if not panels:
        raise InputError(f"{sweep_name} has no searched arm whose configurations differ")
    return panels


_Arm = tuple[str, Style, list[Mapping[str, Value]], list[float]]


def _searched_arms(reader: Reader, sweep_name: str) -> list[_Arm]:
    sweep = reader.sweep(sweep_name)
    looks = arm_looks([(arm.name, arm.method) for arm in reader.arms(sweep.id)])
    return [(arm, looks[arm], *found) for arm, found in objectives(reader, sweep).items()]


def _varying(configurations: Sequence[Mapping[str, Value]]) -> list[str]:
    names = sorted({name for one in configurations for name in one})
    return [n for n in names if len({one.get(n) for one in configurations}) > 1]


def _scale(values: Sequence[Value]) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Numbers as they are; anything else by its place among the names, which become the ticks."""
    numbers = [float(one) for one in values if isinstance(one, int | float)]
    if len(numbers) == len(values) and not any(isinstance(one, bool) for one in values):
        return tuple(numbers), ()
    names = sorted({str(one) for one in values})
    return tuple(float(names.index(str(one))) for one in values), tuple(names)


def _unit(values: Sequence[Value | None]) -> tuple[float, ...]:
    """From 0 for the lowest to 1 for the highest; all equal: in the middle; absent: below."""
    places, _ = _scale([one for one in values if one is not None])
    low, high = min(places), max(places)
    left = iter((one - low) / (high - low) if high > low else 0.5 for one in places)
    return tuple(_BELOW if one is None else next(left) for one in values)
