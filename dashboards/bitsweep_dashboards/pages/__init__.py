"""Pages: each a function from what was read to a layout. The table below says which view is whose.

A page reads nothing itself and computes nothing: it draws what `analysis` returns.
"""

from typing import Any

from bitsweep_dashboards.pages.overview import overview_page
from bitsweep_dashboards.pages.states import empty_page, gone_page, unknown_page
from bitsweep_dashboards.pages.sweep import sweep_page
from bitsweep_dashboards.reading import Overview, StoreGone, SweepView, UnknownSweep, View


def page(view: View) -> Any:  # a Dash component
    """The layout of a view."""
    if isinstance(view, SweepView):
        return sweep_page(view)
    if isinstance(view, UnknownSweep):
        return unknown_page(view)
    if isinstance(view, StoreGone):
        return gone_page(view)
    return overview_page(view) if view.sweeps else empty_page(view)


def title(view: View) -> str:
    """The title of the browser's tab."""
    if isinstance(view, SweepView):
        return f"{view.sweep.name} - bitsweep"
    if isinstance(view, Overview):
        return "Sweeps - bitsweep"
    return "Unknown sweep - bitsweep" if isinstance(view, UnknownSweep) else "No store - bitsweep"
