"""The search space of one sweep: what was tried, and which parameter moved the result."""

from typing import Any

from dash import html

from bitsweep.analysis.landscape import Landscape
from bitsweep_dashboards.address import Place
from bitsweep_dashboards.drawing import figure_card
from bitsweep_dashboards.pages.parts import (
    explained,
    nothing,
    one_of,
    picker,
    sweep_head,
)
from bitsweep_dashboards.views import SpaceView

_WARNING = (
    "Validation of the search itself, which chose by these numbers: nothing here is a result."
)


def space_page(view: SpaceView, place: Place) -> Any:
    """Pickers of arm and bits, then the figures."""
    head = sweep_head(place, view.sweep.name, view.sweep.question)
    if isinstance(view.landscape, str):
        return html.Article([*head, nothing(view.landscape)])
    return html.Article([*head, *_figures(view.landscape, place)])


def _figures(found: Landscape, place: Place) -> list[Any]:
    bare = place.having("x").having("y").having("bits")
    arms = [(arm, bare.having("arm", arm), arm == found.arm) for arm in found.arms]
    where = f"{found.arm} at {found.allocation}"
    pickers = [
        picker("arm", arms),
        one_of("bits", place, "bits", found.allocations, found.allocation),
    ]
    count = f"{found.count:,} finished configurations of {where}. {_WARNING}"
    parts = [
        html.Div(pickers, className="pickers"),
        html.P(count, className="muted note"),
    ]
    if not found.names:
        return [*parts, nothing("No parameter has more than one value here")]
    importance = nothing("Too few configurations to tell which parameter matters")
    if found.importance is not None:
        importance = figure_card(found.importance, name=f"Importance of parameters, {where}")
    return [
        *parts,
        explained(html.H2("Parallel coordinates"), "parallel"),
        figure_card(found.parallel, name=f"Parallel coordinates, {where}"),
        explained(html.H2("Importance"), "importance"),
        importance,
        explained(html.H2("Slices"), "slices"),
        html.Div(
            [figure_card(one, name=f"Slice along {one.title}, {where}") for one in found.slices],
            className="panels",
        ),
        *_contour(found, place, where),
    ]


def _contour(found: Landscape, place: Place, where: str) -> list[Any]:
    if found.surface is None:
        return []
    surface = found.surface
    return [
        explained(html.H2("Contour of two parameters"), "contour"),
        html.Div(
            [
                one_of("across", place, "x", found.names, surface.x_label),
                one_of("up", place, "y", found.names, surface.y_label),
            ],
            className="pickers",
        ),
        figure_card(surface, name=f"{surface.y_label} over {surface.x_label}, {where}"),
    ]
