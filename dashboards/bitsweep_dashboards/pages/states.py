"""What stands where there is nothing to show: why, and what to do."""

from typing import Any

from dash import html

from bitsweep_dashboards.address import Place
from bitsweep_dashboards.pages.parts import link
from bitsweep_dashboards.views import NotThere, Overview, StoreGone


def _state(heading: str, *children: Any) -> Any:
    return html.Section([html.H1(heading), *children], className="state", role="status")


def empty_page(view: Overview) -> Any:
    """A store without sweeps."""
    return _state(
        "No sweeps yet",
        html.P(["The store ", html.Code(view.store), " holds no sweep. Run one into it:"]),
        html.Pre(f"bitsweep run sweeps/quickstart.toml --store {view.store}", tabIndex=0),
        html.P("It appears here while it runs; there is no need to reload."),
    )


def not_there_page(view: NotThere, place: Place) -> Any:
    """An address that asks for what is not there: the message, and ways out."""
    ways = [html.Li(link("All sweeps", place.go("overview")))]
    if place.query and place.page != "unknown":
        bare = place.go(place.page, place.name)
        ways.insert(0, html.Li(link("This page without its choices", bare)))
    return _state(
        view.heading,
        html.P(view.message),
        html.Ul(ways),
        html.P("In a terminal, this says what there is:"),
        html.Pre("bitsweep list", tabIndex=0),
    )


def gone_page(view: StoreGone) -> Any:
    """A store that cannot be read; the page recovers when it can be."""
    return _state(
        "The store cannot be read",
        html.P(view.message),
        html.P(
            "This page looks again every few seconds. If the store has moved, start the "
            "dashboard with its address:"
        ),
        html.Pre("bitsweep dashboard --store results/bitsweep.db", tabIndex=0),
        html.P("If an earlier version made it, bring it up to date:"),
        html.Pre("bitsweep store upgrade --store results/bitsweep.db", tabIndex=0),
    )
