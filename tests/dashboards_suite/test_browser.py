"""The dashboard in a real browser, offline: table, live update, history, both widths."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.dashboards_suite.stores import (
    HOSTILE,
    reader_of,
    run_toy,
    toy_sweep,
    with_another_seed,
)

from bitsweep.analysis.render import table_rows
from bitsweep.analysis.table import sweep_table

pytestmark = pytest.mark.real
SCREENSHOTS_VARIABLE = "BITSWEEP_SCREENSHOTS"
CELLS = """rows => rows.map(row => Object.fromEntries([...row.children]
    .filter(cell => cell.dataset.key)
    .map(cell => [cell.dataset.key, JSON.parse(cell.dataset.value)])))"""


def open_page(browser: Any, address: str, *, width: int = 1280) -> tuple[Any, list[str]]:
    """A page, and the list that its complaints and its requests to others go to."""
    page = browser.new_context(viewport={"width": width, "height": 844}).new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(address) else complaints.append(request.url)
        ),
    )
    page.goto(f"{address}/?sweep=toy")
    page.wait_for_selector("table.results")
    return page, complaints


def shown_rows(page: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = page.locator("table.results tbody tr").evaluate_all(CELLS)
    return [row for row in rows if row]


def rows_of(store: str, keys: list[str]) -> list[dict[str, Any]]:
    rows = json.loads(json.dumps(table_rows(sweep_table(reader_of(store), "toy"))))
    return [{key: row[key] for key in keys} for row in rows]


def test_the_page_shows_the_table_and_follows_the_store(
    browser: Any, listen: Callable[[str], str], own_store: str
) -> None:
    page, complaints = open_page(browser, listen(own_store))
    before = shown_rows(page)
    keys = list(before[0])
    assert before == rows_of(own_store, keys)
    assert page.title() == "toy - bitsweep"

    run_toy(Path(own_store), with_another_seed(toy_sweep()))
    page.wait_for_function(
        "() => [...document.querySelectorAll('td[data-key=n]')].every(n => n.innerText === '4')"
    )

    assert shown_rows(page) == rows_of(own_store, keys)
    assert shown_rows(page) != before
    assert complaints == []


def test_back_leads_from_a_sweep_to_the_list(
    browser: Any, listen: Callable[[str], str], toy_store: str
) -> None:
    page, complaints = open_page(browser, listen(toy_store))
    page.click(".brand")
    page.wait_for_selector("ul.sweeps")
    page.click("ul.sweeps a")
    page.wait_for_selector("table.results")
    page.go_back()
    page.wait_for_selector("ul.sweeps")

    assert page.url.endswith("/")
    assert complaints == []


def test_a_lost_store_is_told_and_its_return_noticed(
    browser: Any, listen: Callable[[str], str], own_store: str
) -> None:
    page, complaints = open_page(browser, listen(own_store))
    away = Path(own_store).rename(f"{own_store}.away")
    page.wait_for_selector(".state")
    away.rename(own_store)
    page.wait_for_selector("table.results")

    assert complaints == []


def test_markup_in_a_question_is_shown_as_text(
    browser: Any, listen: Callable[[str], str], tmp_path: Path
) -> None:
    store = run_toy(tmp_path / "store.db", toy_sweep(question=HOSTILE))
    page, complaints = open_page(browser, listen(store))

    assert page.inner_text(".question") == HOSTILE
    assert complaints == []


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_its_window(
    browser: Any, listen: Callable[[str], str], toy_store: str, width: int
) -> None:
    page, _ = open_page(browser, listen(toy_store), width=width)
    if folder := os.environ.get(SCREENSHOTS_VARIABLE):
        page.screenshot(path=f"{folder}/dashboard-{width}.png", full_page=True)

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (
        page.locator(".results .number").first.evaluate("cell => getComputedStyle(cell).textAlign")
        == "right"
    )
