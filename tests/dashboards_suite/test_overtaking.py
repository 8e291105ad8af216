"""An answer that is overtaken by the next choice leaves nothing behind on the page."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.dashboards_suite.visits import shown_rows, visit

pytestmark = pytest.mark.real


def test_an_overtaken_answer_changes_nothing(
    browser: Any, listen: Callable[..., str], toy_store: str
) -> None:
    page, complaints = visit(browser, listen(toy_store), "/sweep/toy")
    before = shown_rows(page)
    held: list[Any] = []

    def hold(route: Any) -> None:
        asked = json.loads(route.request.post_data)["inputs"]
        if any(one.get("value") == "?bits=w2a2" for one in asked if isinstance(one, dict)):
            held.append((route, route.fetch()))
        else:
            route.continue_()

    page.route("**/_dash-update-component*", hold)
    with page.expect_request(lambda request: "w2a2" in (request.post_data or "")):
        page.click("text=w2a2 >> nth=0")
    page.go_back()
    page.wait_for_url("**/sweep/toy")
    page.wait_for_timeout(1200)
    for route, answer in held:
        route.fulfill(response=answer)
    page.wait_for_timeout(2500)

    assert held
    assert shown_rows(page) == before
    assert complaints == []
