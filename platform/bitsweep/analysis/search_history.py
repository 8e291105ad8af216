"""The search over its trials: what each reached on validation, and the best so far."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import accumulate

from bitsweep.analysis.cell import ordered
from bitsweep.analysis.chart import Chart, Curves, Series, Style, arm_looks
from bitsweep.analysis.shown import shown
from bitsweep.errors import InputError
from bitsweep.store.listing import SearchStep, search_steps
from bitsweep.store.reader import Reader

PRUNED = "pruned"
MOST_POINTS = 400
_PRUNED_STYLE = Style(colour="#7f7f7f", marker="cross", has_line=False)


def history_chart(reader: Reader, sweep_name: str) -> Chart:
    """A panel per bit-width: finished search trials by number, the pruned ones as crosses.

    The line is the best finished value so far, per arm. InputError before a trial was measured.
    Of more than 400 trials of an arm the newest are drawn, and the title says so.
    """
    sweep = reader.sweep(sweep_name)
    steps = search_steps(reader, sweep.id, metric=sweep.metric)
    if not steps:
        raise InputError(f"{sweep_name} has no search trial that was measured")
    looks = arm_looks([(arm.name, arm.method) for arm in reader.arms(sweep.id)])
    metric = shown(sweep.metric)
    panels = []
    for allocation in ordered({one.allocation for one in steps}):
        here = [one for one in steps if one.allocation == allocation]
        series = [
            part
            for arm, look in looks.items()
            for part in _series([one for one in here if one.arm == arm], arm, look, sweep.goal)
        ]
        panels.append(
            Curves(
                title=_title(allocation, max(Counter(one.arm for one in here).values())),
                x_label="search trial",
                y_label=f"{metric.title} on validation{metric.in_brackets}",
                series=tuple(series),
            )
        )
    note = (
        "Points: finished trials of the search; grey crosses: pruned, at the epoch they were "
        "stopped; lines: the best so far. Validation, which the search looks at: no result."
    )
    return Chart(title=sweep.name, panels=tuple(panels), note=note)


def _title(allocation: str, count: int) -> str:
    if count <= MOST_POINTS:
        return allocation
    return f"{allocation} (the newest {MOST_POINTS:,} of each arm)"


def _series(steps: Sequence[SearchStep], arm: str, look: Style, goal: str) -> Iterable[Series]:
    kept = steps[-MOST_POINTS:]
    finished = [one for one in kept if one.status == "finished"]
    pruned = [one for one in kept if one.status == PRUNED]
    if finished:
        yield _points(finished, arm, replace(look, has_line=False))
        best = min if goal == "minimize" else max
        numbers = [float(one.number) for one in finished]
        line = replace(look, marker=None, is_thin=True)
        so_far = tuple(accumulate((one.value for one in finished), best))
        yield Series(name=None, x=tuple(numbers), y=so_far, style=line, is_staircase=True)
    if pruned:
        yield _points(pruned, PRUNED, _PRUNED_STYLE)


def _points(steps: Sequence[SearchStep], name: str, style: Style) -> Series:
    return Series(
        name=name,
        x=tuple(float(one.number) for one in steps),
        y=tuple(one.value for one in steps),
        style=style,
    )
