"""What stands where there is nothing to show: why, and what to do."""

from typing import Any

from dash import html

from bitsweep_dashboards.reading import Overview, StoreGone, UnknownSweep


def _state(heading: str, *children: Any) -> Any:
    return html.Section([html.H1(heading), *children], className="state", role="status")


def empty_page(view: Overview) -> Any:
    """A store without sweeps."""
    return _state(
        "No sweeps yet",
        html.P(["The store ", html.Code(view.store), " holds no sweep. Run one into it:"]),
        html.Pre(f"bitsweep run sweeps/quickstart.toml --store {view.store}"),
        html.P("It appears here while it runs; there is no need to reload."),
    )


def unknown_page(view: UnknownSweep) -> Any:
    """A sweep that the store does not have."""
    return _state(
        "Unknown sweep",
        html.P(view.message),
        html.P("Choose a sweep of this page's list, or see in a terminal what there is:"),
        html.Pre("bitsweep list"),
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
        html.Pre("bitsweep-dashboard --store results/bitsweep.db"),
        html.P("If an earlier version made it, bring it up to date:"),
        html.Pre("bitsweep store upgrade --store results/bitsweep.db"),
    )
