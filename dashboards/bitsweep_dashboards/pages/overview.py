"""The first page: every sweep of the store with how far it came and what it found."""

from typing import Any

from dash import html

from bitsweep_dashboards.address import Place
from bitsweep_dashboards.pages.parts import (
    ALWAYS_SHOWN,
    LABELS,
    duration,
    explained,
    link,
    progress_bar,
    short_time,
)
from bitsweep_dashboards.views import Glance, Overview


def overview_page(view: Overview, place: Place) -> Any:
    """The sweeps as a list, the newest first."""
    sweeps = view.sweeps
    running = sum(one.activity.counts.get("running", 0) for one in sweeps)
    trials = sum(sum(one.activity.counts.values()) for one in sweeps)
    plural = "" if len(sweeps) == 1 else "s"
    summary = f"{len(sweeps):,} sweep{plural}, {trials:,} trials, {running:,} running; "
    return html.Section(
        [
            explained(html.H1("Sweeps"), "best", "hours"),
            html.P([summary, html.Code(view.store)], className="muted"),
            html.Ul([_card(one, place) for one in sweeps], className="sweeps"),
        ]
    )


def _card(one: Glance, place: Place) -> Any:
    counts = one.activity.counts
    numbers = [
        html.Span(
            [html.B(f"{counts.get(status, 0):,}"), f" {LABELS.get(status, status)}"],
            className=f"tally {status}",
            **{"data-status": status},
        )
        for status in (*ALWAYS_SHOWN, "planned")
        if counts.get(status) or status in ("finished", "running", "failed")
    ]
    return html.Li(
        [
            html.Div(
                [
                    link(one.sweep.name, place.go("sweep", one.sweep.name), className="name"),
                    html.P(one.sweep.question),
                ],
                className="what",
            ),
            html.Div(
                [progress_bar(counts), html.Div(numbers, className="tallies")],
                className="how-far",
            ),
            html.Dl(
                [
                    html.Div([html.Dt("best"), html.Dd(_best(one))], className="best"),
                    html.Div(
                        [
                            html.Dt("device time"),
                            html.Dd(duration(one.activity.training_seconds)),
                        ]
                    ),
                    html.Div(
                        [
                            html.Dt("last activity (UTC)"),
                            html.Dd(short_time(one.activity.last_at or one.sweep.updated_at)[:16]),
                        ]
                    ),
                ]
            ),
        ],
        **{"data-sweep": one.sweep.name},
    )


def _best(one: Glance) -> Any:
    if one.is_pending:
        return html.Span("reading ...", className="muted")
    if one.best is None:
        return html.Span("nothing finished yet", className="muted")
    best = one.best
    where = html.Span(f"{best.arm} {best.allocation} ({best.split})", className="muted")
    return [html.Strong(best.text), " ", where]
