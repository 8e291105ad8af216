"""The dashboard in a real browser, offline: table, live update, history, pickers, failures."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.dashboards_suite.stores import (
    HOSTILE,
    hostile_sweep,
    run_toy,
    toy_sweep,
    with_another_seed,
)
from tests.dashboards_suite.visits import drawn, rows_of, shown_rows, visit

pytestmark = pytest.mark.real
TOKEN = "correct horse"


def legend(page: Any) -> set[str]:
    """The names in the legends of all figures."""
    drawn(page)
    return set(page.locator(".legendtext").all_text_contents())


def test_the_page_shows_the_table_and_follows_a_sweep_while_it_runs(
    browser: Any, listen: Callable[..., str], own_store: str
) -> None:
    page, complaints = visit(browser, listen(own_store), "/sweep/toy")
    before = shown_rows(page)
    keys = list(before[0])
    assert before == rows_of(own_store, keys)
    assert page.title() == "toy - bitsweep"

    sweep = with_another_seed(toy_sweep())
    run = threading.Thread(target=run_toy, args=(Path(own_store), sweep))
    run.start()
    page.wait_for_function(
        "() => [...document.querySelectorAll('td[data-key=n]')].every(n => n.innerText === '4')"
    )
    run.join()

    assert shown_rows(page) == rows_of(own_store, keys)
    assert shown_rows(page) != before
    assert complaints == []


def test_a_new_sweep_appears_on_the_overview(
    browser: Any, listen: Callable[..., str], own_store: str
) -> None:
    page, complaints = visit(browser, listen(own_store), "/")
    run_toy(Path(own_store), toy_sweep("second", "And again?"))
    page.wait_for_selector("[data-sweep=second] .best strong")

    assert complaints == []


def test_back_leads_through_the_choices_to_the_list(
    browser: Any, listen: Callable[..., str], toy_store: str
) -> None:
    page, complaints = visit(browser, listen(toy_store), "/")
    page.click("ul.sweeps a")
    page.wait_for_selector("table.results")
    page.click("text=w2a2 >> nth=0")
    page.wait_for_url("**/sweep/toy?bits=w2a2")
    page.wait_for_function("() => !document.querySelector('[data-value=\\'\"w3a3\"\\']')")
    page.go_back()
    page.wait_for_selector("[data-value='\"w3a3\"']")
    page.go_back()
    page.wait_for_selector("ul.sweeps")

    assert page.url.endswith("/")
    assert complaints == []


def test_an_arm_switched_off_leaves_table_and_figures(
    browser: Any, listen: Callable[..., str], toy_store: str
) -> None:
    page, complaints = visit(browser, listen(toy_store), "/sweep/toy")
    assert {"a", "b"} <= legend(page)
    page.click("ul.switches a:text-is('b')")
    page.wait_for_url("**/sweep/toy?hide=b")
    page.wait_for_function("() => !document.querySelector('[data-value=\\'\"b\"\\']')")
    page.wait_for_function(
        "() => ![...document.querySelectorAll('.legendtext')].some(t => t.textContent === 'b')"
    )

    assert "a" in legend(page)
    assert complaints == []


def test_trials_are_sorted_by_the_keyboard_on_a_columns_name(
    browser: Any, listen: Callable[..., str], toy_store: str
) -> None:
    page, complaints = visit(browser, listen(toy_store), "/sweep/toy")
    cells = "table.trials tbody td:first-child"
    trials = f"[...document.querySelectorAll('{cells}')].map(one => one.innerText)"
    planned = page.evaluate(trials)
    for _ in range(2):
        page.focus("table.trials thead a:text-is('trial')")
        page.keyboard.press("Enter")
        page.wait_for_timeout(1_000)
    page.wait_for_url("**/sweep/toy?sort=-trial")
    page.wait_for_selector("th[aria-sort=descending]")

    assert page.evaluate(trials) == sorted(planned, reverse=True)
    assert page.evaluate("document.activeElement.innerText") == "trial"
    assert complaints == []


def test_the_keyboard_reaches_and_works_the_pickers(
    browser: Any, listen: Callable[..., str], toy_store: str
) -> None:
    page, _ = visit(browser, listen(toy_store), "/sweep/toy")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.focus("ul.chips a:text-is('w3a3')")
    page.keyboard.press("Enter")
    page.wait_for_url("**/sweep/toy?bits=w3a3")
    page.focus(".explain summary >> nth=0")
    page.keyboard.press("Enter")
    assert page.is_visible(".explain .pop >> nth=0")
    page.keyboard.press("Escape")

    assert not page.is_visible(".explain .pop >> nth=0")


def test_latex_is_copied_and_csv_downloaded(
    browser: Any, listen: Callable[..., str], toy_store: str
) -> None:
    address = listen(toy_store)
    page, complaints = visit(browser, address, "/sweep/toy?bits=w3a3")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
    page.click("text=Copy LaTeX")
    page.wait_for_selector("text=Copied")
    with page.expect_download() as download:
        page.click("text=Download CSV")
    lines = Path(download.value.path()).read_text().splitlines()

    assert "\\begin{tabular}" in page.evaluate("navigator.clipboard.readText()")
    assert lines[0].startswith("sweep,arm,method,allocation")
    assert {line.split(",")[3] for line in lines[1:]} == {"w3a3"}
    assert complaints == []


def test_a_lost_store_is_told_and_its_return_noticed(
    browser: Any, listen: Callable[..., str], own_store: str
) -> None:
    page, complaints = visit(browser, listen(own_store), "/sweep/toy")
    away = Path(own_store).rename(f"{own_store}.away")
    page.wait_for_selector(".state")
    away.rename(own_store)
    page.wait_for_selector("table.results")

    assert complaints == []


def test_markup_in_names_is_shown_as_text(
    browser: Any, listen: Callable[..., str], tmp_path: Path
) -> None:
    store = run_toy(tmp_path / "store.db", hostile_sweep())
    page, complaints = visit(browser, listen(store), "/sweep/toy")

    assert page.inner_text(".question") == HOSTILE
    assert HOSTILE in legend(page)
    assert page.locator("#page img, #page script, #page iframe").count() == 0
    assert complaints == []


def test_a_question_is_asked_with_the_keyboard_and_stands_in_the_address(
    browser: Any, listen: Callable[..., str], toy_store: str
) -> None:
    page, complaints = visit(browser, listen(toy_store), "/sql")
    page.fill("#sql", "SELECT name, '<b>x</b>' AS markup FROM sweeps")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("table.answer")
    cells = page.locator("table.answer td").all_inner_texts()

    assert cells == ["toy", "<b>x</b>"]
    assert "/sql?q=SELECT" in page.url
    assert complaints == []


def test_an_example_query_is_one_click_away(
    browser: Any, listen: Callable[..., str], toy_store: str
) -> None:
    page, complaints = visit(browser, listen(toy_store), "/sql")
    page.click("text=The best arm at each bit-width")
    page.wait_for_selector("table.answer")

    assert "best_per_bit" in page.input_value("#sql")
    assert complaints == []


def test_arms_are_added_to_a_comparison_by_a_form(
    browser: Any, listen: Callable[..., str], toy_store: str
) -> None:
    page, complaints = visit(browser, listen(toy_store), "/compare")
    for arm in ("toy/a", "toy/b"):
        page.select_option("#add-arm", arm)
        page.click("button:text-is('Add')")
        page.wait_for_selector(f".chip:has-text('{arm.replace('/', ' / ')}')")
    page.click(".picker[aria-label='differences to'] a:has-text('toy / a')")
    page.wait_for_selector("text=Differences paired by seed")

    assert legend(page) == {"toy / a", "toy / b"}
    assert complaints == []


def test_the_token_is_asked_for_and_taken(
    browser: Any, listen: Callable[..., str], toy_store: str
) -> None:
    page, _ = visit(browser, listen(toy_store, token=TOKEN), "/sweep/toy?bits=w3a3")
    page.fill("#token", "wrong")
    page.click("button:text-is('Sign in')")
    page.wait_for_selector("text=That is not the token")
    page.fill("#token", TOKEN)
    page.click("button:text-is('Sign in')")
    page.wait_for_selector("table.results")

    assert page.url.endswith("/sweep/toy?bits=w3a3")


@pytest.mark.parametrize("token", [None, TOKEN])
def test_below_a_path_prefix_everything_is_found(
    browser: Any, listen: Callable[..., str], toy_store: str, token: str | None
) -> None:
    address = listen(toy_store, prefix="/lab/bits/", token=token)
    page, complaints = visit(browser, address, "/lab/bits/sweep/toy")
    if token is not None:
        page.fill("#token", token)
        page.click("button:text-is('Sign in')")
        complaints.clear()  # the browser reports the 401 of the first visit
    page.wait_for_selector("table.results")
    page.click(".brand")
    page.wait_for_selector("ul.sweeps")

    assert page.url == f"{address}/lab/bits/"
    assert complaints == []


def test_light_and_dark_are_toggled_and_kept(
    browser: Any, listen: Callable[..., str], toy_store: str
) -> None:
    page, _ = visit(browser, listen(toy_store), "/", scheme="dark")
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(colour)
    page.click("#theme")
    light = page.evaluate(colour)
    page.reload()
    page.wait_for_selector("ul.sweeps")

    assert dark != light
    assert page.evaluate(colour) == light
