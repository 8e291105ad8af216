"""Whole subtrees as one component of the page: text and links need no life of their own.

Dash gives each of its components a subscription to the page's state, and each that appears tells
all others: a table of a thousand cells costs a million looks. `assets/still.js` draws these trees.
"""

from collections.abc import Sequence
from typing import Any

from dash.development.base_component import Component

_HTML = "dash_html_components"
Tree = list[Any]


class Still(Component):  # type: ignore[misc]  # Dash is untyped
    """Elements as nested lists [tag, attributes, child, ...]; texts stay texts."""

    _namespace = "bitsweep_dashboards"
    _type = "Still"
    _prop_names = ("tree",)
    _valid_wildcard_attributes = ()
    available_properties = _prop_names
    available_wildcard_properties = _valid_wildcard_attributes


def stilled(drawn: Any) -> Any:
    """The same page, each largest subtree of plain HTML as one `Still`; the rest as it was."""
    return _stilled(drawn)[0]


def _stilled(drawn: Any) -> tuple[Any, Any]:
    """What stands for it alone, and its tree; None if it is not plain."""
    if not isinstance(drawn, Component):
        return drawn, drawn
    plain = drawn.to_plotly_json()
    props = dict(plain["props"])
    below = _listed(props.pop("children", None))
    found = [_stilled(one) for one in below]
    trees = [tree for _, tree in found]
    if _is_plain(plain, props) and None not in trees:
        tree: Tree = [plain["type"].lower(), props, *trees]
        return Still(tree=tree), tree
    if below:
        drawn.children = [one for one, _ in found]
    return drawn, None


def _listed(children: Any) -> Sequence[Any]:
    if children is None:
        return ()
    found = children if isinstance(children, list | tuple) else [children]
    return [one for one in found if one is not None]


def _is_plain(plain: dict[str, Any], props: dict[str, Any]) -> bool:
    return plain["namespace"] == _HTML and not isinstance(props.get("id"), dict)
