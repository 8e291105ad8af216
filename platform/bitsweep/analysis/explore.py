"""The search as charts for papers: what a landscape of each arm holds, panel beside panel.

All of it is validation, which the search itself looked at; nothing here is reported.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from bitsweep.analysis.chart import Chart, Panel, Pick
from bitsweep.analysis.importance import FEWEST
from bitsweep.analysis.landscape import Landscape, landscape, searched_at
from bitsweep.errors import InputError
from bitsweep.store.reader import Reader

_NOTE = "Validation, which the search looked at: no result."


def slices_chart(reader: Reader, sweep_name: str, pick: Pick) -> Chart:
    """A panel per arm and searched parameter: each configuration that has it is a point.

    InputError where nothing was searched.
    """
    return _chart(reader, sweep_name, pick, _slices, note=_NOTE)


def parallel_chart(reader: Reader, sweep_name: str, pick: Pick) -> Chart:
    """A panel per arm: a line per configuration over its parameters and, last, its score.

    Every axis runs from the lowest value tried to the highest one; the best quarter is coloured,
    best by the goal of the sweep. A parameter that a configuration lacks stands below its axis.
    """
    note = f"{_NOTE} Coloured: the best quarter; below 0: absent."
    return _chart(reader, sweep_name, pick, _parallel, note=note)


def contour_chart(reader: Reader, sweep_name: str, pick: Pick) -> Chart:
    """A panel per arm: the metric over two parameters, those that matter most unless picked.

    InputError where no arm has two searched parameters and enough configurations that have both.
    """
    note = (
        f"{_NOTE} A random forest of these two parameters alone; points were tried, "
        "away from them the colour is a guess."
    )
    return _chart(reader, sweep_name, pick, _surface, note=note)


def _chart(
    reader: Reader,
    sweep_name: str,
    pick: Pick,
    panels_of: Callable[[Landscape], Iterable[Panel]],
    *,
    note: str,
) -> Chart:
    panels = [
        replace(panel, title=f"{_name(one)}{panel.title and ': '}{panel.title}")
        for one in _landscapes(reader, sweep_name, pick)
        for panel in panels_of(one)
    ]
    if not panels:
        raise InputError(
            f"{sweep_name} has no searched arm with configurations that differ enough for this: "
            f"a contour needs two parameters and {FEWEST} configurations that have both"
        )
    return Chart(title=sweep_name, panels=tuple(panels), note=note)


def _landscapes(reader: Reader, sweep_name: str, pick: Pick) -> list[Landscape]:
    """Each searched arm at the bits picked, or at its first; InputError for what is not there.

    An arm that lacks a parameter that was picked is left out, unless the arm was picked itself.
    """
    known = searched_at(reader, sweep_name)
    at = {
        arm: pick.at or labels[0]
        for arm, (labels, names) in known.items()
        if pick.at in (None, *labels) and {pick.x, pick.y} - {None} <= set(names)
    }
    if pick.arm is not None or not at:  # let it be told what is missing
        at = {pick.arm or next(iter(known)): pick.at or ""}
    return [
        landscape(reader, sweep_name, arm=arm, allocation=label or None, pair=(pick.x, pick.y))
        for arm, label in at.items()
    ]


def _name(one: Landscape) -> str:
    return f"{one.arm} {one.allocation}"


def _slices(one: Landscape) -> Iterable[Panel]:
    return one.slices


def _parallel(one: Landscape) -> Iterable[Panel]:
    return (one.parallel,) if one.names else ()


def _surface(one: Landscape) -> Iterable[Panel]:
    return () if one.surface is None else (one.surface,)
