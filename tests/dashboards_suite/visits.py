"""A visit to the dashboard in a real browser: what the page complains of is kept."""

import json
from typing import Any

from tests.dashboards_suite.stores import reader_of

from bitsweep.analysis.render import table_rows
from bitsweep.analysis.table import sweep_table

CELLS = """rows => rows.map(row => Object.fromEntries([...row.children]
    .filter(cell => cell.dataset.key)
    .map(cell => [cell.dataset.key, JSON.parse(cell.dataset.value)])))"""
WIDE, NARROW = 1280, 390


def visit(
    browser: Any, address: str, path: str, *, width: int = WIDE, scheme: str = "light"
) -> tuple[Any, list[str]]:
    """A page, and the list that its complaints and its requests to others go to."""
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((address, "data:", "blob:"))
            else complaints.append(request.url)
        ),
    )
    page.goto(f"{address}{path}")
    page.wait_for_selector("#page h1, .state h1")
    return page, complaints


def drawn(page: Any) -> None:
    """Wait until each figure of the page has been drawn."""
    page.wait_for_function(
        "() => document.querySelectorAll('.graph').length ==="
        " document.querySelectorAll('.graph svg.main-svg:first-child').length"
    )


def shown_rows(page: Any) -> list[dict[str, Any]]:
    """The exact values of the cells of the results."""
    rows: list[dict[str, Any]] = page.locator("table.results tbody tr").evaluate_all(CELLS)
    return [row for row in rows if row]


def rows_of(store: str, keys: list[str]) -> list[dict[str, Any]]:
    """What `bitsweep table toy --format json` prints, in these columns."""
    rows = json.loads(json.dumps(table_rows(sweep_table(reader_of(store), "toy"))))
    return [{key: row[key] for key in keys} for row in rows]
