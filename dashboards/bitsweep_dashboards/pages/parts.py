"""What several pages are made of: links, pickers, explanations, figures, commands, progress."""

from collections.abc import Mapping, Sequence
from typing import Any

from dash import html

from bitsweep.analysis.chart import Chart
from bitsweep.store.listing import STATUSES
from bitsweep_dashboards.address import Page, Place
from bitsweep_dashboards.drawing import figure_card
from bitsweep_dashboards.explanations import EXPLANATIONS

ALWAYS_SHOWN = ("finished", "running", "pruned", "failed")
# A trial without a measurement may also never start: its configuration was pruned before it.
LABELS = {"planned": "not started"}
Choice = tuple[str, Place, bool]


def link(text: Any, place: Place, **more: Any) -> Any:
    """A link that the page's own script follows without loading anything anew."""
    return html.A(text, href=place.href, **more)


def picker(label: str, choices: Sequence[Choice], *, is_switch: bool = False) -> Any:
    """Links of which one is chosen; as switches, any number of them is on."""
    items = [
        html.Li(
            link(
                text,
                place,
                className="chip on" if is_on else "chip",
                **{"aria-current": "true"} if is_on else {},
                **{"data-stay": "yes"},
            )
        )
        for text, place, is_on in choices
    ]
    return html.Div(
        [
            html.Span(label, className="label"),
            html.Ul(items, className="switches" if is_switch else "chips"),
        ],
        className="picker",
        role="group",
        **{"aria-label": label},
    )


def one_of(label: str, place: Place, key: str, known: Sequence[str], chosen: str | None) -> Any:
    """A picker of one value of the address; it leaves the rest of the address alone."""
    return picker(label, [(text, place.having(key, text), text == chosen) for text in known])


def explained(heading: Any, *keys: str) -> Any:
    """A heading with its explanations one click away."""
    return html.Div([heading, *(explanation(key) for key in keys)], className="explained")


def explanation(key: str) -> Any:
    """A small button with a statistic's name that opens what it means."""
    title, text = EXPLANATIONS[key]
    return html.Details(
        [
            html.Summary(title),
            html.P(text, className="pop"),
        ],
        className="explain",
    )


def chart_cards(chart: Chart | str, *, name: str, hidden: Sequence[str] = ()) -> Any:
    """A chart's panels side by side with its note, or the sentence that says why there is none."""
    if isinstance(chart, str):
        return nothing(chart)
    cards = [
        figure_card(panel, name=f"{name} {panel.title}".strip(), hidden=hidden)
        for panel in chart.panels
    ]
    return html.Div(
        [html.Div(cards, className="panels"), html.P(chart.note, className="muted note")]
    )


def nothing(reason: str) -> Any:
    """What stands in the place of something that cannot be shown yet."""
    return html.P(f"{reason}.".replace("..", "."), className="nothing")


def command_box(label: str, command: str, *, box_id: str) -> Any:
    """A command as it is typed, with a button that copies it."""
    return html.Div(
        [
            html.Span(label, className="label"),
            html.Code(command, id=box_id),
            copy_button("Copy", box_id, what=label),
        ],
        className="command",
    )


def copy_button(text: str, box_id: str, *, what: str) -> Any:
    """Copies the text of the element with this id; the page's own script does it."""
    return html.Button(
        text,
        type="button",
        className="quiet",
        **{"data-copy": box_id, "aria-label": f"{text}: {what}"},
    )


def progress_bar(counts: Mapping[str, int]) -> Any:
    """Where the trials stand, as one bar; the numbers stand beside it."""
    spans = [
        html.Span(className=status, style={"flexGrow": counts[status]})
        for status in STATUSES
        if counts.get(status)
    ]
    return html.Div(spans, className="bar", **{"aria-hidden": "true"})


def scroll_box(table: Any, label: str, *, is_tall: bool = False) -> Any:
    """A table that scrolls inside its own box, with the keyboard too."""
    return html.Div(
        table,
        className="scroll tall" if is_tall else "scroll",
        tabIndex=0,
        role="region",
        **{"aria-label": label},
    )


def plain_table(
    head: Sequence[Any],
    rows: Sequence[Sequence[Any]],
    *,
    numbers: Sequence[int] = (),
    className: str = "results",
    sorting: Sequence[str] = (),
) -> Any:
    """A table of texts and components; the columns `numbers` are aligned to the right.

    `sorting` tells of each column whether the rows are sorted by it: the words of `aria-sort`.
    """
    look = ["number" if place in numbers else "" for place in range(len(head))]
    told = [{"aria-sort": one} for one in sorting] or [{} for _ in head]
    top = [
        html.Th(text, scope="col", className=look[place], **told[place])
        for place, text in enumerate(head)
    ]
    body = [
        html.Tr([html.Td(cell, className=look[place]) for place, cell in enumerate(row)])
        for row in rows
    ]
    return html.Table([html.Thead(html.Tr(top)), html.Tbody(body)], className=className)


def short_time(timestamp: str | None) -> str:
    """An ISO time to the minute, in UTC as it is stored.

    >>> short_time("2026-01-02T03:04:05.678901+00:00")
    '2026-01-02 03:04 UTC'
    """
    return "-" if not timestamp else f"{timestamp[:10]} {timestamp[11:16]} UTC"


def duration(seconds: float) -> str:
    """A time of training, in the unit that suits it.

    >>> duration(7_300), duration(90), duration(1.5)
    ('2.03 h', '1.5 min', '1.5 s')
    """
    if seconds >= 3600:
        return f"{seconds / 3600:,.2f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def sweep_head(place: Place, name: str, question: str) -> list[Any]:
    """Name, question and the pages of one sweep."""
    pages: tuple[tuple[Page, str], ...] = (
        ("sweep", "Results"),
        ("space", "Search space"),
        ("layers", "Layers"),
    )
    tabs = [
        html.Li(
            link(
                text,
                place.go(page, name),
                className="tab on" if place.page == page else "tab",
                **{"aria-current": "page"} if place.page == page else {},
            )
        )
        for page, text in pages
    ]
    return [
        html.P(link("All sweeps", place.go("overview")), className="crumb"),
        html.H1(name),
        html.P(question, className="question"),
        html.Nav(html.Ul(tabs), className="tabs", **{"aria-label": f"Pages of {name}"}),
    ]
