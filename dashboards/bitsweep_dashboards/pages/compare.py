"""Any arms of any sweeps side by side, differences paired by seed; or why they may not be."""

from typing import Any

from dash import dcc, html

from bitsweep.analysis.across import Across, label
from bitsweep.analysis.glance import cell_text
from bitsweep.analysis.render import CONVENTIONS, by_image_text
from bitsweep.analysis.shown import shown
from bitsweep_dashboards.address import Place
from bitsweep_dashboards.drawing import figure_card
from bitsweep_dashboards.pages.parts import (
    explained,
    link,
    nothing,
    picker,
    plain_table,
    scroll_box,
)
from bitsweep_dashboards.views import CompareView

_START_SWEEPS = 3

_NO_PAPER = "No paper's number agrees in data, model and bits."


def compare_page(view: CompareView, place: Place) -> Any:
    """The choice of arms, then their table, their differences and their figure."""
    parts = [
        html.H1("Compare"),
        html.P(
            "Arms of any sweeps in one table. Differences are taken seed by seed.",
            className="question",
        ),
        _choice(view, place),
    ]
    if view.unlike:
        parts.append(_refusal(view))
    elif view.across is None:
        parts.append(_suggestions(view, place))
    else:
        parts += _results(view.across, place)
    return html.Article(parts)


def _choice(view: CompareView, place: Place) -> Any:
    """Chosen arms as chips that take themselves away, and a list of the others."""
    texts = [f"{sweep}/{arm}" for sweep, arm in view.keys]
    chips = []
    for text, key in zip(texts, view.keys, strict=True):
        left = place.having("arm", *(one for one in texts if one != text))
        left = left.having("against") if place.one("against") == text else left
        chips.append((f"{label(key)} \u2715", left, True))
    kept = [dcc.Input(type="hidden", name=key, value=value) for key, value in place.query]
    options = [html.Option("choose an arm", value="")]
    for sweep in dict.fromkeys(sweep for sweep, _ in view.choices):
        options += [
            html.Option(f"{sweep} / {arm}", value=f"{sweep}/{arm}")
            for name, arm in view.choices
            if name == sweep and (name, arm) not in view.keys
        ]
    form = html.Form(
        [
            *kept,
            html.Label("Add an arm", htmlFor="add-arm"),
            html.Select(options, id="add-arm", name="arm", required=True),
            html.Button("Add", type="submit"),
        ],
        action=place.go("compare").href,
        className="inline",
        **{"data-go": "yes"},
    )
    shown_chips = [picker("compared", chips)] if chips else []
    return html.Div([*shown_chips, form], className="pickers stacked")


def _suggestions(view: CompareView, place: Place) -> Any:
    names = list(dict.fromkeys(sweep for sweep, _ in view.choices))[:_START_SWEEPS]
    if not names:
        return nothing("The store holds no sweep yet: run one, and its arms appear here")
    items = [
        html.Li(
            link(
                f"all arms of {name}",
                place.go(
                    "compare",
                    "",
                    *(("arm", f"{sweep}/{arm}") for sweep, arm in view.choices if sweep == name),
                ),
            )
        )
        for name in names
    ]
    return html.Section(
        [html.P("Choose arms above, or begin with one of these:"), html.Ul(items)],
        className="state",
    )


def _refusal(view: CompareView) -> Any:
    """Why the sweeps stay apart, with who has what."""
    sweeps = list(dict.fromkeys(sweep for sweep, _ in view.keys))
    rows = [
        [name, *(values.get(sweep, "-") for sweep in sweeps)]
        for name, values in view.unlike.items()
    ]
    return html.Section(
        [
            html.H2("These sweeps do not share a table"),
            html.P(
                "Numbers of another cost convention, data set, metric or stage mean something "
                "else: side by side they would seem comparable. Take arms away until these agree, "
                "or look at each sweep alone."
            ),
            scroll_box(plain_table(["", *sweeps], rows), "What differs between the sweeps"),
        ],
        className="refusal",
        role="status",
    )


def _results(found: Across, place: Place) -> list[Any]:
    metric = shown(found.metric)
    title = f"{metric.title}{metric.in_brackets} on {found.split}, {found.stage}"
    convention = f"BitOps: {CONVENTIONS[found.convention]}."
    against = [("none", place.having("against"), found.reference is None)] + [
        (label(key), place.having("against", "/".join(key)), key == found.reference)
        for key in found.keys
    ]
    is_published = place.one("published") == "yes"
    lacks = is_published and not found.published
    printed = [
        ("hidden", place.having("published"), not is_published),
        ("shown", place.having("published", "yes"), is_published),
    ]
    return [
        html.Div(
            [picker("differences to", against), picker("papers' rows", printed)],
            className="pickers",
        ),
        explained(html.H2("Methods by bits"), "mean", "bitops"),
        html.P(title, className="muted"),
        scroll_box(_grid(found, is_published), "Mean and sd per arm and bit-width"),
        *([html.P(_NO_PAPER, className="muted note")] if lacks else []),
        *_contrasts(found),
        html.H2("Accuracy against cost"),
        figure_card(found.figure, name="Accuracy against BitOps of the chosen arms"),
        html.H2("Notes"),
        html.Ul([html.Li(line) for line in (convention, *found.notes)], className="notes"),
    ]


def _grid(found: Across, is_published: bool) -> Any:
    metric = found.metric
    rows: list[list[Any]] = []
    for key in found.keys:
        line: list[Any] = [html.Strong(label(key))]
        for at in found.allocations:
            cell = found.cells.get((key, at))
            line.append(
                "-"
                if cell is None
                else html.Span(
                    [cell_text(cell, metric), html.Small(f" n {cell.n}", className="muted")],
                    **{"data-value": str(cell.mean)},
                )
            )
        rows.append(line)
    for row in found.published if is_published else ():
        name = html.Span(
            [html.Em(row.method), html.Small(f" {row.paper}, {row.place}", className="muted")],
            title=f"{row.provenance}: {row.source}",
        )
        cells = [f"{row.top1} %" if row.bits == at else "" for at in found.allocations]
        rows.append([name, *cells])
    head = ["arm", *found.allocations]
    return plain_table(head, rows, numbers=range(1, len(head)))


def _contrasts(found: Across) -> list[Any]:
    if found.reference is None:
        return []
    metric = shown(found.metric)
    rows = []
    for one in found.contrasts:
        result = one.result
        interval = "one pair: no interval"
        if result.low95 is not None and result.high95 is not None:
            low, high = metric.difference(result.low95), metric.difference(result.high95)
            interval = f"[{low}, {high}]"
        difference = f"{metric.difference(result.mean)} {metric.difference_unit}".rstrip()
        rows.append([label(one.key), one.at, difference, interval, str(result.n)])
    head = ["arm", "bits", f"less {label(found.reference)}", "95 % interval", "pairs"]
    body = (
        scroll_box(plain_table(head, rows, numbers=(2, 3, 4)), "Paired differences")
        if rows
        else nothing("No other arm shares a seed and bits with the reference")
    )
    kept = [
        html.Li(f"{label(one.key)} at {one.at}{text}.")
        for one in found.contrasts
        if (text := by_image_text(one.by_image))
    ]
    note = "Exploratory: asked for here, declared nowhere, so no claim of significance."
    head_line = explained(html.H2("Differences paired by seed"), "paired")
    images = [html.Ul(kept, className="notes")] if kept else []
    return [head_line, body, *images, html.P(note, className="muted note")]
