"""The page of one sweep: progress, the table per bit-width, front, search history and trials."""

from collections.abc import Sequence
from typing import Any

from dash import html

from bitsweep.analysis.render import comparison_text, notes, render
from bitsweep.analysis.shown import shown
from bitsweep.analysis.table import Table
from bitsweep.bits import is_policy
from bitsweep.store.listing import STATUSES
from bitsweep_dashboards.address import Place
from bitsweep_dashboards.pages.parts import (
    ALWAYS_SHOWN,
    LABELS,
    chart_cards,
    command_box,
    copy_button,
    duration,
    explained,
    one_of,
    picker,
    progress_bar,
    scroll_box,
    short_time,
    sweep_head,
)
from bitsweep_dashboards.pages.result_table import result_table
from bitsweep_dashboards.pages.trials import OF_TRIALS, trial_list
from bitsweep_dashboards.views import SweepView


def sweep_page(view: SweepView, place: Place) -> Any:
    """All that is known of a sweep, in the order of reading.

    The number of pieces never changes, so that a picker of the table leaves the figures alone.
    """
    return html.Article(
        [
            *sweep_head(place, view.sweep.name, view.sweep.question),
            _progress(view),
            explained(html.H2("Results"), "mean", "marks", "bitops"),
            html.Div(_results(view, place)),
            html.Div(_comparisons(view.table)),
            explained(html.H2("Accuracy against cost"), "front", "bitops"),
            chart_cards(view.front, name="Accuracy against BitOps", hidden=view.hidden),
            explained(html.H2("Search history"), "history"),
            chart_cards(view.history, name="Search history", hidden=view.hidden),
            html.Div(trial_list(view, place)),
            html.Div(_notes(view.table)),
        ]
    )


def _progress(view: SweepView) -> Any:
    """How many trials stand where, as numbers and as one bar."""
    counts = view.activity.counts
    numbers = [
        html.Div(
            [html.Dt(LABELS.get(status, status)), html.Dd(f"{counts.get(status, 0):,}")],
            className=f"count {status}",
            **{"data-status": status},
        )
        for status in STATUSES
        if status in ALWAYS_SHOWN or counts.get(status)
    ]
    spent = duration(view.activity.training_seconds)
    last = short_time(view.activity.last_at or view.sweep.updated_at)
    return html.Section(
        [
            progress_bar(counts),
            html.Dl(numbers, className="counts"),
            html.P(f"{spent} of device time; last activity {last}", className="muted"),
        ],
        **{"aria-label": "Trials by status"},
    )


def _results(view: SweepView, place: Place) -> list[Any]:
    if not view.whole.arms:
        return [html.P("This sweep has no arms to show.", className="nothing")]
    return [
        _pickers(view, place),
        html.P(caption(view.table), className="muted"),
        *_tables(view, place),
        _tools(view, place),
    ]


def _tables(view: SweepView, place: Place) -> list[Any]:
    """The rows that are compared; those of rules per sample fold, unless some were picked."""
    table = view.table
    rules = [label for label in table.allocations if is_policy(label)]
    if not rules or any(map(is_policy, place.all("bits"))):
        return [scroll_box(result_table(table), "Results per arm and bit-width")]
    folded = html.Details(
        [
            html.Summary(f"{len(rules)} rules that choose bits per sample (policy:RULE@lambda)"),
            html.Div(picker("rule", _bits_links(place, rules)), className="pickers"),
            scroll_box(result_table(table, of_policies=True), "Results per rule"),
        ],
        className="rules",
    )
    compared = result_table(table, of_policies=False)
    return [scroll_box(compared, "Results per arm and bit-width"), folded]


def _bits_links(place: Place, labels: Sequence[str]) -> list[tuple[str, Place, bool]]:
    """Label, address with it switched, and whether it is chosen."""
    chosen = place.all("bits")
    links = []
    for label in labels:
        others = [one for one in chosen if one != label]
        kept = others if label in chosen else [*chosen, label]
        links.append((label, place.having("bits", *kept), label in chosen))
    return links


def caption(table: Table) -> str:
    """What the numbers are: metric, unit, split and stage."""
    metric = shown(table.metric)
    title = "top-1 accuracy" if table.metric == "top1_percent" else metric.title
    kind = "confirmed configurations" if table.stage == "confirm" else "search, unconfirmed"
    return f"{title}{metric.in_brackets} on {table.split}, {kind}"


def _pickers(view: SweepView, place: Place) -> Any:
    whole = view.whole
    chosen = place.all("bits")
    offered = [one for one in whole.allocations if one in chosen or not is_policy(one)]
    bits = [("all", place.having("bits"), not chosen), *_bits_links(place, offered)]
    arms = []
    for arm in whole.arms:
        others = [one for one in view.hidden if one != arm]
        hidden = others if arm in view.hidden else [*others, arm]
        arms.append((arm, place.having("hide", *hidden), arm not in view.hidden))
    parts = [
        picker("bits", bits),
        one_of("split", place, "split", ("validation", "test"), whole.split),
        picker("arms shown", arms, is_switch=True),
    ]
    return html.Div(parts, className="pickers")


def _tools(view: SweepView, place: Place) -> Any:
    """What takes the table elsewhere: LaTeX, CSV and the command that prints it."""
    query = {key for key, _ in place.query}
    csv = place
    for key in OF_TRIALS:
        csv = csv.having(key)
    latex = html.Details(
        [
            html.Summary("LaTeX"),
            html.Pre(render(view.table, "latex"), id="latex", tabIndex=0),
        ],
        className="latex",
    )
    buttons = html.Div(
        [
            copy_button("Copy LaTeX", "latex", what="the table as LaTeX"),
            html.A(
                "Download CSV",
                href=csv.href.replace(f"{place.prefix}sweep/", f"{place.prefix}download/", 1),
                className="button quiet",
                download=f"{view.sweep.name}.csv",
            ),
        ],
        className="row",
    )
    parts = [buttons, command_box("In a shell", view.command, box_id="command"), latex]
    if query & {"hide", "split"}:
        said = "The command prints every arm, and the split that is reported."
        parts.append(html.P(said, className="muted"))
    return html.Div(parts, className="tools")


def _comparisons(table: Table) -> list[Any]:
    if not table.comparisons:
        return []
    lines = [html.Li(comparison_text(one, metric=table.metric)) for one in table.comparisons]
    head = explained(html.H2("Declared comparisons"), "paired", "holm")
    return [head, html.Ul(lines, className="comparisons")]


def _notes(table: Table) -> list[Any]:
    compared = {comparison_text(one, metric=table.metric) for one in table.comparisons}
    lines = [html.Li(line) for line in notes(table) if line not in compared]
    return [html.H2("Notes"), html.Ul(lines, className="notes")]
