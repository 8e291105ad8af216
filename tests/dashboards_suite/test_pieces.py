"""A choice redraws what it changes: figures are left alone by pickers of the table."""

import json
from typing import Any

import pytest

from bitsweep_dashboards.app import create_app
from bitsweep_dashboards.pieces import piece_id

AROUND = [
    {"id": "title", "property": "data"},
    {"id": "shown", "property": "data"},
    {"id": "clock", "property": "children"},
]


def refreshed(client: Any, path: str, search: str, shown: Any, by: str) -> dict[str, Any]:
    """What the server answers a browser that shows this and asks because of that."""
    pieces = [
        {"id": piece_id(number), "property": "children"}
        for number in range(len(shown["pieces"]) if shown else 0)
    ]
    names = [one["output"] for one in client.get("/_dash-dependencies").json]
    answer = client.post(
        "/_dash-update-component",
        json={
            "output": next(name for name in names if "page.children" in name),
            "outputs": [
                {"id": "pages", "property": "children"},
                {"id": "page", "property": "children"},
                pieces,
                *AROUND,
            ],
            "inputs": [
                {"id": "address", "property": "pathname", "value": path},
                {"id": "address", "property": "search", "value": search},
                {"id": "tick", "property": "n_intervals", "value": 1},
            ],
            "state": [{"id": "shown", "property": "data", "value": shown}],
            "changedPropIds": [by],
        },
    )
    found: dict[str, Any] = answer.json["response"]
    return found


@pytest.mark.parametrize("search", ["?bits=w2a2", "?trials=failed", "?bits=w2a2&bits=w3a3"])
def test_a_picker_of_tables_redraws_no_figure(toy_store: str, search: str) -> None:
    client = create_app(toy_store).server.test_client()
    first = refreshed(client, "/sweep/toy", "", None, "address.search")
    shown = first["shown"]["data"]
    second = refreshed(client, "/sweep/toy", search, shown, "address.search")

    redrawn = {name for name in second if "piece" in name}

    assert "page" in first
    assert "page" not in second
    assert 0 < len(redrawn) < len(shown["pieces"])
    assert '"Graph"' in json.dumps(first)
    assert '"Graph"' not in json.dumps(second)


def test_a_tick_without_news_sends_the_clock_alone(toy_store: str) -> None:
    client = create_app(toy_store).server.test_client()
    first = refreshed(client, "/sweep/toy", "", None, "address.search")
    shown = first["shown"]["data"]
    second = refreshed(client, "/sweep/toy", "", shown, "tick.n_intervals")

    assert set(second) == {"clock"}
