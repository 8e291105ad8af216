"""The page of one sweep: question, progress, the table per bit-width, comparisons and notes."""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

from dash import html

from bitsweep.analysis.render import comparison_text, engineering, notes, table_rows
from bitsweep.analysis.shown import shown
from bitsweep.analysis.table import Table
from bitsweep_dashboards.pages.overview import short_time
from bitsweep_dashboards.reading import SweepView

_ALWAYS_SHOWN = ("finished", "running", "pruned", "failed")
_STATUSES = ("finished", "running", "planned", "pruned", "failed", "diverged", "interrupted")
# A trial without a measurement may also never start: its configuration was pruned before it.
_LABELS = {"planned": "not started"}
Column = tuple[str, str, Callable[[Any], str]]
_NAMES: tuple[Column, ...] = (("arm", "arm", str), ("allocation", "bits", str))
_FACTS: tuple[Column, ...] = (
    ("n", "n", str),
    ("bitops", "BitOps", engineering),
    ("size_bits", "size (bits)", lambda value: f"{value:,}"),
    ("mean_weight_bits", "mean weight bits", lambda value: f"{value:.3g}"),
    ("method", "method", str),
)
_WORDS = ("arm", "method", "allocation")


def sweep_page(view: SweepView) -> Any:
    """All that is known of a sweep, in the order of reading."""
    return html.Article(
        [
            html.H1(view.sweep.name),
            html.P(view.sweep.question, className="question"),
            html.P(f"last started {short_time(view.sweep.updated_at)}", className="muted"),
            progress(view.counts),
            *_results(view.table),
            *_comparisons(view.table),
            *_notes(view.table),
        ]
    )


def progress(counts: Mapping[str, int]) -> Any:
    """How many trials stand where, as numbers and as one bar."""
    shown = [one for one in _STATUSES if one in _ALWAYS_SHOWN or counts.get(one)]
    numbers = [
        html.Div(
            [html.Dt(_LABELS.get(status, status)), html.Dd(f"{counts.get(status, 0):,}")],
            className=f"count {status}",
            **{"data-status": status},
        )
        for status in shown
    ]
    parts = [
        html.Span(className=status, style={"flexGrow": counts[status]})
        for status in shown
        if counts.get(status)
    ]
    return html.Section(
        [
            html.H2("Trials"),
            html.Div(parts, className="bar", **{"aria-hidden": "true"}),
            html.Dl(numbers, className="counts"),
        ]
    )


def _results(table: Table) -> list[Any]:
    if not table.arms:
        return [html.H2("Results"), html.P("This sweep has no arms to show.")]
    metric = shown(table.metric)
    caption = f"{metric.title}{metric.in_brackets} on {table.split}, stage {table.stage}"
    if table.metric == "top1_percent":
        caption = f"top-1 accuracy in percent on {table.split}, stage {table.stage}"
    box = html.Div(
        result_table(table),
        className="scroll",
        tabIndex=0,
        role="region",
        **{"aria-label": "Results per arm and bit-width"},
    )
    return [html.H2("Results"), html.P(caption, className="muted"), box]


def result_table(table: Table) -> Any:
    """A row per arm and allocation, as `bitsweep table --format json` has them.

    Each cell carries the exact value as JSON in `data-value`; what is read is rounded.
    """
    columns = _columns(table.metric)
    head = [html.Th(label, scope="col", className=_alignment(key)) for key, label, _ in columns]
    rows_by_arm = {
        arm: list(rows) for arm, rows in groupby(table_rows(table), key=lambda row: row["arm"])
    }
    groups = [
        html.Tbody(
            [_row(row, columns) for row in rows_by_arm[arm]]
            if arm in rows_by_arm
            else _bare(arm, width=len(columns))
        )
        for arm in table.arms
    ]
    return html.Table([html.Thead(html.Tr(head)), *groups], className="results")


def _columns(metric_name: str) -> tuple[Column, ...]:
    """Key, label and how to show a value: what is known of a cell, by the sweep's metric."""
    metric = shown(metric_name)
    mean: Column = ("mean", metric.header, metric.number)
    sd: Column = ("sd", "± sd", lambda value: "" if value is None else metric.number(value))
    return (*_NAMES, mean, sd, *_FACTS)


def _row(row: Mapping[str, Any], columns: Sequence[Column]) -> Any:
    return html.Tr([_cell(key, row[key], show) for key, _, show in columns])


def _cell(key: str, value: Any, show: Callable[[Any], str]) -> Any:
    exact = json.dumps(value)
    element, extra = (html.Th, {"scope": "row"}) if key == "arm" else (html.Td, {})
    return element(
        show(value),
        className=_alignment(key),
        title=None if key in _WORDS else exact,
        **{"data-key": key, "data-value": exact},
        **extra,
    )


def _bare(arm: str, *, width: int) -> Any:
    """The line of an arm that has nothing to show."""
    rest = html.Td("no finished trial", colSpan=width - 1, className="muted")
    return html.Tr([html.Th(arm, scope="row"), rest], className="bare")


def _alignment(key: str) -> str:
    return "" if key in _WORDS else "number"


def _comparisons(table: Table) -> list[Any]:
    if not table.comparisons:
        return []
    lines = [html.Li(comparison_text(one, metric=table.metric)) for one in table.comparisons]
    return [html.H2("Comparisons"), html.Ul(lines, className="comparisons")]


def _notes(table: Table) -> list[Any]:
    compared = {comparison_text(one, metric=table.metric) for one in table.comparisons}
    lines = [html.Li(line) for line in notes(table) if line not in compared]
    return [html.H2("Notes"), html.Ul(lines, className="notes")]
