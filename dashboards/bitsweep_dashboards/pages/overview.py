"""The first page: every sweep of the store with its question. And the picker beside each page."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from dash import dcc, html

from bitsweep.store.reader import SweepRow
from bitsweep_dashboards.reading import Overview, StoreGone, View


def sweep_href(name: str) -> str:
    """The address of a sweep's page.

    >>> sweep_href("a&b")
    '/?sweep=a%26b'
    """
    return f"/?{urlencode({'sweep': name})}"


def overview_page(view: Overview) -> Any:
    """The sweeps as a list, the newest first."""
    items = [
        html.Li(
            [
                dcc.Link(sweep.name, href=sweep_href(sweep.name), className="name"),
                html.P(sweep.question),
                html.P(f"last started {short_time(sweep.updated_at)}", className="muted"),
            ]
        )
        for sweep in view.sweeps
    ]
    return html.Section([html.H1("Sweeps"), html.Ul(items, className="sweeps")])


def picker(view: View, *, chosen: str | None) -> Any:
    """Links to all sweeps; the chosen one is marked."""
    sweeps: Sequence[SweepRow] = () if isinstance(view, StoreGone) else view.sweeps
    links = [
        html.Li(
            dcc.Link(
                sweep.name,
                href=sweep_href(sweep.name),
                className="chosen" if sweep.name == chosen else "",
                title=sweep.question,
            ),
            **{"aria-current": "page"} if sweep.name == chosen else {},
        )
        for sweep in sweeps
    ]
    return html.Ul(links)


def short_time(timestamp: str) -> str:
    """An ISO time to the minute, in UTC as it is stored.

    >>> short_time("2026-01-02T03:04:05.678901+00:00")
    '2026-01-02 03:04 UTC'
    """
    return f"{timestamp[:10]} {timestamp[11:16]} UTC"
