"""The table of a sweep as `bitsweep table` has it, with marks; cells carry exact values."""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

from dash import html

from bitsweep.analysis.glance import significance
from bitsweep.analysis.render import engineering, table_rows
from bitsweep.analysis.selection import Mark, marks
from bitsweep.analysis.shown import shown
from bitsweep.analysis.table import Table
from bitsweep.bits import is_policy

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


def result_table(table: Table, *, of_policies: bool | None = None) -> Any:
    """A row per arm and allocation, as `bitsweep table --format json` has them.

    Each cell carries the exact value as JSON in `data-value`; what is read is rounded.
    of_policies: only the rows of rules that choose bits per sample, or only the others.
    """
    columns = _columns(table.metric)
    marked, significant = marks(table), significance(table)
    head = [html.Th(label, scope="col", className=_alignment(key)) for key, label, _ in columns]
    found = table_rows(table)
    rows = [one for one in found if of_policies in (None, is_policy(one["allocation"]))]
    rows_by_arm = {arm: list(mine) for arm, mine in groupby(rows, key=lambda row: row["arm"])}
    elsewhere = {one["arm"] for one in found} - rows_by_arm.keys()
    groups = [
        html.Tbody(
            [
                _row(
                    row,
                    columns,
                    mark=marked.get((arm, row["allocation"])),
                    against=significant.get((arm, row["allocation"])),
                )
                for row in rows_by_arm[arm]
            ]
            if arm in rows_by_arm
            else _bare(arm, width=len(columns))
        )
        for arm in table.arms
        if arm not in elsewhere
    ]
    return html.Table([html.Thead(html.Tr(head)), *groups], className="results")


def _columns(metric_name: str) -> tuple[Column, ...]:
    """Key, label and how to show a value: what is known of a cell, by the sweep's metric."""
    metric = shown(metric_name)
    mean: Column = ("mean", metric.header, metric.number)
    sd: Column = ("sd", "± sd", lambda value: "" if value is None else metric.number(value))
    return (*_NAMES, mean, sd, *_FACTS)


def _row(
    row: Mapping[str, Any], columns: Sequence[Column], *, mark: Mark | None, against: str | None
) -> Any:
    cells = []
    for key, _, show in columns:
        text: Any = show(row[key])
        if key == "mean":
            text = _marked(text, mark, against)
        cells.append(_cell(key, row[key], text))
    return html.Tr(cells)


def _marked(text: str, mark: Mark | None, against: str | None) -> Any:
    """The best bold, the second underlined, and a star for a declared, significant difference."""
    body: Any = text
    if mark is not None:
        body = html.Strong(text, title="best") if mark == "best" else html.U(text, title="second")
    if against is None:
        return body
    star = html.Sup("*", title=f"differs significantly from {against} (Holm, 0.05)")
    return [body, star]


def _cell(key: str, value: Any, text: Any) -> Any:
    exact = json.dumps(value)
    element, extra = (html.Th, {"scope": "row"}) if key == "arm" else (html.Td, {})
    return element(
        text,
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
