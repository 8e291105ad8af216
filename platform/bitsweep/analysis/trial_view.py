"""One trial in full: parameters, curves per bits, attempts, and what was recorded last."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitsweep.analysis.cell import ordered
from bitsweep.analysis.chart import Curves, Series, Style, look_of_place
from bitsweep.analysis.shown import shown
from bitsweep.errors import InputError, UnknownName
from bitsweep.store.listing import trial_status
from bitsweep.store.reader import Reader
from bitsweep.store.records import Score
from bitsweep.trial import Trial, trial_document

LAST_LINES = 20
_PLAIN = ("parameters", "numerics")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialView:
    """A trial as it stands; `facts` are its identity beside the parameters, as text.

    `log` is the tail of what its evaluations recorded: the store keeps no other output.
    """

    trial: Trial
    sweep: str
    metric: str
    status: str
    reason: str
    last_epoch: int
    seconds: float | None
    facts: Mapping[str, str]
    curves: tuple[Curves, ...]
    attempts: tuple[Mapping[str, Any], ...]
    log: tuple[str, ...]
    command: str


def trial_view(reader: Reader, prefix: str) -> TrialView:
    """The trial whose id begins so; UnknownName for none, InputError for several."""
    if not prefix.strip():
        raise InputError("a trial is named by the first digits of its id")
    trial = reader.trial(prefix)
    try:
        sweep = reader.sweep(reader.sweep_of(trial.id))
    except IndexError as error:  # a trial that was imported without its sweep
        raise UnknownName(f"trial {trial.short_id} belongs to no sweep of this store") from error
    status = trial_status(reader, trial.id)
    scores = reader.scores(trial.id)
    document = trial_document(trial)
    return TrialView(
        trial=trial,
        sweep=sweep.name,
        metric=sweep.metric,
        status=status.status,
        reason=status.reason,
        last_epoch=max((one.epoch for one in scores), default=0),
        seconds=status.seconds,
        facts={
            key: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            for key, value in document.items()
            if key not in _PLAIN and value is not None
        },
        curves=tuple(_curves(scores, sweep.metric)),
        attempts=tuple(reader.provenance(trial.id)),
        log=tuple(_log(scores, sweep.metric)),
        command=f"{sweep.command or 'bitsweep run FILE'} --trial {trial.short_id}",
    )


def _curves(scores: Sequence[Score], metric: str) -> list[Curves]:
    """A panel per split, a line per allocation; splits measured but once have a point each."""
    look = shown(metric)
    measured = [one for one in scores if metric in one.metrics and not one.is_listed]
    panels = []
    for split in dict.fromkeys(one.split for one in measured):
        here = [one for one in measured if one.split == split]
        series = []
        for place, allocation in enumerate(ordered({one.allocation for one in here})):
            mine = [one for one in here if one.allocation == allocation]
            colour, marker = look_of_place(place)
            style = Style(colour=colour, marker=marker)
            series.append(
                Series(
                    name=allocation,
                    x=tuple(float(one.epoch) for one in mine),
                    y=tuple(one.metric(metric) for one in mine),
                    style=style,
                )
            )
        panels.append(
            Curves(
                title=split,
                x_label="epoch",
                y_label=f"{look.title}{look.in_brackets}",
                series=tuple(series),
            )
        )
    return panels


def _log(scores: Sequence[Score], metric: str) -> list[str]:
    look = shown(metric)
    lines = []
    for one in [one for one in scores if not one.is_listed][-LAST_LINES:]:
        value = look.number(one.metric(metric)) if metric in one.metrics else "-"
        lines.append(
            f"{one.recorded_at[:19].replace('T', ' ')}  epoch {one.epoch:>3}  {one.split:<10}  "
            f"{one.allocation}  {value} {look.unit}".rstrip()
        )
    return lines
