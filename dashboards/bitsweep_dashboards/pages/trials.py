"""A sweep's trials, page by page: the database sorts, filters and cuts them."""

from dataclasses import dataclass
from typing import Any

from dash import html

from bitsweep.store.listing import STATUSES, TRIAL_ORDERS
from bitsweep.store.records import TrialRow
from bitsweep_dashboards.address import Place
from bitsweep_dashboards.pages.parts import LABELS, link, picker, plain_table, scroll_box
from bitsweep_dashboards.reading import TRIALS_PER_PAGE
from bitsweep_dashboards.views import SweepView

_SHORT = 12
OF_TRIALS = ("trials", "arm", "sort", "page")
_SORTED = {False: "ascending", True: "descending"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pages:
    """The page that is shown, of how many."""

    number: int
    last: int


def trial_list(view: SweepView, place: Place) -> list[Any]:
    """Filters by status and arm, a page of trials with reasons, and the way to the others."""
    total = view.trials.total
    pages = _Pages(number=view.page, last=max(1, -(-total // TRIALS_PER_PAGE)))
    rows = [_row(one, place) for one in view.trials.rows]
    shown: Any = html.P("No trial stands so.", className="nothing")
    if rows:
        order, is_descending = place.order("sort", TRIAL_ORDERS)
        table = plain_table(
            [_sorter(name, place) for name in TRIAL_ORDERS],
            rows,
            numbers=(4, 6),
            className="results trials",
            sorting=[_SORTED[is_descending] if one == order else "none" for one in TRIAL_ORDERS],
        )
        shown = scroll_box(table, "Trials of this sweep", is_tall=True)
    return [
        html.H2("Trials", id="trials"),
        html.Div(_filters(view, place), className="pickers"),
        shown,
        _ways(place, pages, shown=len(rows), total=total),
    ]


def _filters(view: SweepView, place: Place) -> list[Any]:
    """Pickers of status and arm; counts stand beside a status where they are of all arms."""
    counts, bare = view.activity.counts, place.having("page")
    wanted, arm = place.one("trials"), place.one("arm")
    statuses = [("all", bare.having("trials"), wanted is None)]
    for status in STATUSES:
        if counts.get(status) or status == wanted:
            name = LABELS.get(status, status)
            text = name if arm else f"{name} {counts.get(status, 0):,}"
            statuses.append((text, bare.having("trials", status), status == wanted))
    arms = [("all", bare.having("arm"), arm is None)]
    arms += [(one, bare.having("arm", one), one == arm) for one in view.whole.arms]
    return [picker("status", statuses), picker("arm", arms)]


def _sorter(name: str, place: Place) -> Any:
    """A column's name as a link: ascending, then descending, then as planned."""
    bare, wanted = place.having("page"), place.one("sort")
    if wanted == f"-{name}":
        there, said = bare.having("sort"), "Put back into the order of planning"
    elif wanted == name:
        there, said = bare.having("sort", f"-{name}"), f"Sort by {name}, descending"
    else:
        there, said = bare.having("sort", name), f"Sort by {name}, ascending"
    return link(name, there, className="sorter", title=said, **{"data-stay": "yes"})


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
