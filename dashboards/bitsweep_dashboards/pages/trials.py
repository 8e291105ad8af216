"""A sweep's trials, page by page: the database cuts them, so that ten thousand cost no more."""

from dataclasses import dataclass
from typing import Any

from dash import html

from bitsweep.store.records import TrialRow
from bitsweep_dashboards.address import Place
from bitsweep_dashboards.pages.parts import LABELS, link, picker, plain_table, scroll_box
from bitsweep_dashboards.reading import STATUSES, TRIALS_PER_PAGE
from bitsweep_dashboards.views import SweepView

_SHORT = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pages:
    """The page that is shown, of how many."""

    number: int
    last: int


def trial_list(view: SweepView, place: Place) -> list[Any]:
    """A filter by status, a page of trials with reasons, and the way to the other pages."""
    counts = view.activity.counts
    wanted = place.one("trials")
    bare = place.having("page")
    choices = [("all", bare.having("trials"), wanted is None)]
    for status in STATUSES:
        if counts.get(status) or status == wanted:
            text = f"{LABELS.get(status, status)} {counts.get(status, 0):,}"
            choices.append((text, bare.having("trials", status), status == wanted))
    total = view.trials.total
    pages = _Pages(number=view.page, last=max(1, -(-total // TRIALS_PER_PAGE)))
    head = ("trial", "status", "arm", "bits", "seed", "stage", "epochs", "reason")
    rows = [_row(one, place) for one in view.trials.rows]
    shown: Any = html.P("No trial stands so.", className="nothing")
    if rows:
        table = plain_table(head, rows, numbers=(4, 6), className="results trials")
        shown = scroll_box(table, "Trials of this sweep", is_tall=True)
    return [
        html.H2("Trials", id="trials"),
        html.Div(picker("status", choices), className="pickers"),
        shown,
        _ways(place, pages, shown=len(rows), total=total),
    ]


def _row(one: TrialRow, place: Place) -> list[Any]:
    return [
        link(one.trial_id[:_SHORT], place.go("trial", one.trial_id[:_SHORT]), className="id"),
        html.Span(LABELS.get(one.status, one.status), className=f"status {one.status}"),
        one.arm or "start",
        one.bits,
        str(one.seed),
        one.stage,
        f"{one.last_epoch or 0} / {one.epochs}",
        html.Span(one.reason, className="reason", title=one.reason),
    ]


def _ways(place: Place, pages: _Pages, *, shown: int, total: int) -> Any:
    first = (pages.number - 1) * TRIALS_PER_PAGE + 1
    said = f"{first:,} to {first + shown - 1:,} of {total:,}" if shown else f"none of {total:,}"
    parts: list[Any] = [html.Span(said, className="muted", **{"data-total": str(total)})]
    for text, number in (
        ("First", 1),
        ("Previous", pages.number - 1),
        ("Next", pages.number + 1),
        ("Last", pages.last),
    ):
        if 1 <= number <= pages.last and number != pages.number:
            there = place.having("page", str(number)) if number > 1 else place.having("page")
            parts.append(link(text, there, className="chip", **{"data-stay": "yes"}))
    return html.Nav(parts, className="ways", **{"aria-label": "Pages of trials"})
