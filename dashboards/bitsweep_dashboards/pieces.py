"""A page in pieces, so that a change of one choice redraws what it changes and nothing else.

Figures are dear to draw: a picker of the table must not draw them anew. The rest is still.
"""

import json
from hashlib import sha256
from typing import Any

from dash import html
from plotly.utils import PlotlyJSONEncoder

from bitsweep_dashboards.still import stilled


def in_pieces(drawn: Any) -> tuple[Any, list[str]]:
    """The page with an id around each child of its article, and the digest of each.

    What is no article is one piece.
    """
    is_article = isinstance(drawn, html.Article)
    children = [stilled(one) for one in (drawn.children if is_article else [drawn])]
    wrapped = [html.Div(child, id=piece_id(place)) for place, child in enumerate(children)]
    digests = [_digest(child) for child in children]
    return (html.Article(wrapped) if is_article else html.Div(wrapped)), digests


def piece_id(place: Any) -> dict[str, Any]:
    """The id of a piece by its place on the page; `dash.ALL`: of all of them."""
    return {"piece": place}


def _digest(component: Any) -> str:
    text = json.dumps(component, cls=PlotlyJSONEncoder, sort_keys=True)
    return sha256(text.encode()).hexdigest()[:16]
