"""What has no life of its own is one component, whatever its size; the rest keeps its place."""

from typing import Any

from dash import dcc, html
from tests.dashboards_suite.layouts import parts
from tests.dashboards_suite.stores import HOSTILE

from bitsweep_dashboards.address import parse_place
from bitsweep_dashboards.pages import page
from bitsweep_dashboards.pieces import in_pieces
from bitsweep_dashboards.reading import Library
from bitsweep_dashboards.still import Still, stilled

MOST_COMPONENTS = 120


def test_plain_html_is_one_tree_with_its_texts_as_they_are() -> None:
    drawn = html.P(["see ", html.A(HOSTILE, href="/x", **{"data-stay": "yes"}), None, 3])
    found = stilled(drawn)

    assert isinstance(found, Still)
    assert found.tree == ["p", {}, "see ", ["a", {"href": "/x", "data-stay": "yes"}, HOSTILE], 3]


def test_a_figure_keeps_its_parents_and_its_neighbours_are_still() -> None:
    found = stilled(html.Div([html.P("above"), html.Div(dcc.Graph(id="g"))]))
    above, box = found.children

    assert isinstance(found, html.Div) and isinstance(box, html.Div)
    assert above.tree == ["p", {}, "above"]
    assert [type(one).__name__ for one in box.children] == ["Graph"]


def test_what_a_callback_writes_to_is_left_alone() -> None:
    found: Any = stilled(html.Div("text", id={"piece": 1}))

    assert isinstance(found, html.Div)


def test_a_page_of_a_sweep_has_few_components(toy_store: str) -> None:
    place = parse_place("/sweep/toy", "")
    drawn = page(Library(toy_store).view(place), place)
    before = len(list(parts(drawn)))
    after = len([one for one in parts(in_pieces(drawn)[0]) if not isinstance(one, str)])

    assert before > 4 * MOST_COMPONENTS
    assert after < MOST_COMPONENTS
