"""A question in SQL and its answer; the database is opened for reading alone."""

from collections.abc import Sequence
from typing import Any

from dash import dcc, html

from bitsweep.store.asking import Answer
from bitsweep_dashboards.address import Place
from bitsweep_dashboards.examples import EXAMPLES
from bitsweep_dashboards.pages.parts import command_box, link, plain_table, scroll_box
from bitsweep_dashboards.reading import SQL_ROWS, SQL_SECONDS
from bitsweep_dashboards.views import SqlView

_LONGEST_CELL = 300


def sql_page(view: SqlView, place: Place) -> Any:
    """The box, the ten examples, and the answer."""
    limits = (
        f"Read-only. At most {SQL_ROWS:,} rows and {SQL_SECONDS:g} seconds; the download has "
        "the same rows."
    )
    form = html.Form(
        [
            html.Label("SQL", htmlFor="sql"),
            dcc.Textarea(
                id="sql",
                name="q",
                value=view.sql,
                spellCheck="false",
                required=True,
                placeholder="SELECT arm, allocation, AVG(top1_percent) FROM results GROUP BY 1, 2",
            ),
            html.Div(
                [
                    html.Button("Ask", type="submit"),
                    html.Span("or Ctrl+Enter", className="muted"),
                ],
                className="row",
            ),
        ],
        action=place.go("sql").href,
        className="sql",
        **{"data-go": "yes"},
    )
    examples = html.Details(
        [
            html.Summary("Ten example queries"),
            html.Ol(
                [
                    html.Li(link(title, place.go("sql", "", ("q", sql)), **{"data-stay": "yes"}))
                    for title, sql in EXAMPLES
                ]
            ),
        ],
        className="examples",
        open=not view.sql,
    )
    return html.Article(
        [
            html.H1("Ask SQL"),
            html.P(limits, className="muted"),
            form,
            examples,
            *_answered(view, place),
        ]
    )


def _answered(view: SqlView, place: Place) -> list[Any]:
    if view.problem is not None:
        said = html.P(view.problem, className="problem", role="alert")
        return [said, html.P("Tables and columns: docs/data-dictionary.md.", className="muted")]
    if view.answer is None:
        return []
    answer = view.answer
    cut = f": the first {len(answer.rows):,}, there are more" if answer.is_cut else ""
    count = f"{len(answer.rows):,} rows{cut}; {answer.seconds:.2f} s"
    command = f"bitsweep query {_quoted(view.sql)} --format csv"
    download = html.A(
        "Download CSV",
        href=place.href.replace(f"{place.prefix}sql", f"{place.prefix}download-sql", 1),
        className="button quiet",
        download="answer.csv",
    )
    return [
        html.Div([html.P(count, role="status"), download], className="row"),
        scroll_box(_grid(answer), "Rows of the answer", is_tall=True),
        command_box("In a shell", command, box_id="command"),
    ]


def _grid(answer: Answer) -> Any:
    columns = list(zip(*answer.rows, strict=True))
    numbers = [place for place, column in enumerate(columns) if _is_numeric(column)]
    decimals = [_decimals(column) for column in columns] or [0] * len(answer.names)
    rows = [
        [_text(cell, places) for cell, places in zip(row, decimals, strict=True)]
        for row in answer.rows
    ]
    return plain_table(answer.names, rows, numbers=numbers, className="results answer")


def _is_numeric(column: Sequence[Any]) -> bool:
    kept = [cell for cell in column if cell is not None]
    return bool(kept) and all(isinstance(cell, int | float) for cell in kept)


def _decimals(column: Sequence[Any]) -> int | None:
    """Decimals that a column of six digits needs, so that its points stand below each other.

    None where a number is too large or too small to be written out.
    """
    texts = [f"{cell:.6g}" for cell in column if isinstance(cell, float)]
    if any("e" in text or "n" in text for text in texts):
        return None
    return max((len(text.partition(".")[2]) for text in texts), default=0)


def _text(cell: Any, decimals: int | None) -> Any:
    if cell is None:
        return html.Span("null", className="muted")
    form = ".6g" if decimals is None else f".{decimals}f"
    text = f"{cell:{form}}" if isinstance(cell, float) else str(cell)
    return text if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]} ..."


def _quoted(sql: str) -> str:
    """One word of a shell, whatever is in it."""
    return "'" + " ".join(sql.split()).replace("'", "'\\''") + "'"
