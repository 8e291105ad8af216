"""A choice redraws what it changes: figures are left alone by pickers of the table."""

import json
from typing import Any

import pytest

from bitsweep_dashboards.app import create_app

OUTPUTS = [
    ("pages", "children"),
    ("page", "children"),
    ("title", "data"),
    ("shown", "data"),
    ("clock", "children"),
]


def refreshed(client: Any, path: str, search: str, shown: Any, by: str) -> dict[str, Any]:
    """What the server answers a browser that shows this and asks because of that."""
    answer = client.post(
        "/_dash-update-component",
        json={
            "output": f"..{'...'.join('.'.join(one) for one in OUTPUTS)}..",
            "outputs": [{"id": name, "property": part} for name, part in OUTPUTS],
            "inputs": [
                {"id": "address", "property": "pathname", "value": path},
                {"id": "address", "property": "search", "value": search},
                {"id": "tick", "property": "n_intervals", "value": 1},
            ],
            "state": [{"id": "shown", "property": "data", "value": shown}],
            "changedPropIds": [by],
        },
    )
    found: dict[str, Any] = json.loads(answer.text)
    return found


@pytest.mark.parametrize("search", ["?bits=w2a2", "?trials=failed", "?bits=w2a2&bits=w3a3"])
def test_a_picker_of_tables_redraws_no_figure(toy_store: str, search: str) -> None:
    client = create_app(toy_store).server.test_client()
    first = refreshed(client, "/sweep/toy", "", None, "address.search")
    shown = first["response"]["shown"]["data"]
    second = refreshed(client, "/sweep/toy", search, shown, "address.search")

    assert "page" in first["response"]
    assert "page" not in second["response"]
    assert second["sideUpdate"]
    assert '"Graph"' in json.dumps(first["response"])
    assert '"Graph"' not in json.dumps(second["sideUpdate"])


def test_a_tick_without_news_sends_the_clock_alone(toy_store: str) -> None:
    client = create_app(toy_store).server.test_client()
    first = refreshed(client, "/sweep/toy", "", None, "address.search")
    shown = first["response"]["shown"]["data"]
    second = refreshed(client, "/sweep/toy", "", shown, "tick.n_intervals")

    assert set(second["response"]) == {"clock"}
