"""Pages: each a function from what was read to a layout. The table below says which view is whose.

A page reads nothing itself and computes nothing: it draws what `analysis` returns.
"""

from typing import Any

from bitsweep_dashboards.address import Place
from bitsweep_dashboards.pages.compare import compare_page
from bitsweep_dashboards.pages.layers import layers_page
from bitsweep_dashboards.pages.overview import overview_page
from bitsweep_dashboards.pages.space import space_page
from bitsweep_dashboards.pages.sql import sql_page
from bitsweep_dashboards.pages.states import empty_page, gone_page, not_there_page
from bitsweep_dashboards.pages.sweep import sweep_page
from bitsweep_dashboards.pages.trial import trial_page
from bitsweep_dashboards.views import (
    CompareView,
    LayersView,
    NotThere,
    OneTrial,
    Overview,
    SpaceView,
    SqlView,
    StoreGone,
    SweepView,
    View,
)


def page(view: View, place: Place, *, mlflow: bool = False, ray: str | None = None) -> Any:
    """The layout of a view."""
    match view:
        case SweepView():
            return sweep_page(view, place)
        case CompareView():
            return compare_page(view, place)
        case SpaceView():
            return space_page(view, place)
        case LayersView():
            return layers_page(view, place)
        case OneTrial():
            return trial_page(view, place, mlflow=mlflow, ray=ray)
        case SqlView():
            return sql_page(view, place)
        case NotThere():
            return not_there_page(view, place)
        case StoreGone():
            return gone_page(view)
        case Overview():
            return overview_page(view, place) if view.sweeps else empty_page(view)


def title(view: View) -> str:
    """The title of the browser's tab."""
    match view:
        case SweepView():
            said = view.sweep.name
        case SpaceView():
            said = f"Search space of {view.sweep.name}"
        case LayersView():
            said = f"Layers of {view.sweep.name}"
        case OneTrial():
            said = f"Trial {view.trial.trial.short_id}"
        case CompareView():
            said = "Compare"
        case SqlView():
            said = "Ask SQL"
        case NotThere():
            said = view.heading
        case StoreGone():
            said = "No store"
        case Overview():
            said = "Sweeps"
    return f"{said} - bitsweep"
