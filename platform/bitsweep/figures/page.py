"""Charts as interactive pages, by Plotly: one file that needs no network."""

from math import ceil, log10
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from bitsweep.analysis.chart import Chart, Curves, Heat, Panel, Series, Surface

_MARKERS = {"circle": "circle", "square": "square", "triangle": "triangle-up"}
_MARKERS |= {"diamond": "diamond", "cross": "x"}
_DASHES = {"solid": "solid", "dashed": "dash", "dotted": "dot"}


def html_page(chart: Chart) -> str:
    """The chart as a whole page with its scripts in it."""
    page: str = plotly_figure(chart).to_html(include_plotlyjs=True, full_html=True)
    return page


def plotly_figure(chart: Chart) -> Any:  # a plotly Figure, which is untyped
    """The chart as a Plotly figure: panels in rows of at most three."""
    columns = min(len(chart.panels), 3)
    rows = ceil(len(chart.panels) / columns)
    titles = [panel.title for panel in chart.panels]
    figure = make_subplots(rows=rows, cols=columns, subplot_titles=titles)
    named: set[str] = set()
    for place, panel in enumerate(chart.panels):
        where = {"row": place // columns + 1, "col": place % columns + 1}
        for trace in _traces(panel, named):
            figure.add_trace(trace, **where)
        _axes(figure, panel, where)
    figure.update_layout(
        template="plotly_white",
        title={"text": chart.title, "subtitle": {"text": chart.note}},
        height=180 + 340 * rows,
        margin={"t": 110},
    )
    return figure


def _traces(panel: Panel, named: set[str]) -> list[Any]:
    if isinstance(panel, Curves):
        return [_trace(series, named) for series in panel.series]
    if isinstance(panel, Heat):
        heat = go.Heatmap(
            x=panel.columns,
            y=panel.rows,
            z=panel.values,
            colorscale="Cividis",
            zmin=0,
            zmax=100 if panel.is_share else None,
            texttemplate="%{z:.3g}",
            showscale=False,
        )
        return [heat]
    if isinstance(panel, Surface):
        return _surface(panel)
    bars = go.Bar(
        x=panel.values, y=panel.names, orientation="h", marker_color=panel.colour, showlegend=False
    )
    return [bars]


def _surface(panel: Surface) -> list[Any]:
    """What is predicted, and over it what was tried."""
    contour = go.Contour(
        x=panel.x, y=panel.y, z=panel.z, colorscale="Cividis", line={"width": 0.5}, showscale=False
    )
    tried = go.Scatter(
        x=[one[0] for one in panel.points],
        y=[one[1] for one in panel.points],
        text=[f"{one[2]:.4g}" for one in panel.points],
        mode="markers",
        marker={"color": "white", "size": 7, "line": {"color": "#333333", "width": 1}},
        showlegend=False,
    )
    return [contour, tried]


def _trace(series: Series, named: set[str]) -> Any:
    """A series; a name that stands in several panels has one entry in the legend."""
    style = series.style
    is_first = series.name is not None and series.name not in named
    if series.name is not None:
        named.add(series.name)
    has_line = style.has_line or style.dash != "solid"
    parts = ["lines"] * has_line + ["markers"] * (style.marker is not None)
    return go.Scatter(
        x=series.x,
        y=series.y,
        name=series.name,
        legendgroup=series.name,
        showlegend=is_first,
        mode="+".join(parts),
        opacity=0.45 if style.is_thin else 1.0,
        line={
            "color": style.colour,
            "dash": _DASHES[style.dash],
            "width": 1 if style.is_thin else 2,
            "shape": "hv" if series.is_staircase else "linear",
        },
        marker={
            "color": style.colour,
            "size": 8,
            "symbol": None if style.marker is None else _MARKERS[style.marker],
        },
        error_y={"array": [one or 0.0 for one in series.spread]} if series.spread else None,
    )


def _axes(figure: Any, panel: Panel, where: dict[str, int]) -> None:
    if isinstance(panel, Curves):
        is_log = panel.x_scale == "log2"
        kind: dict[str, Any] = (
            {"type": "log", "dtick": log10(2), "tickformat": ".3s"} if is_log else {}
        )
        if panel.x_ticks:
            kind = {"tickvals": [*range(len(panel.x_ticks))], "ticktext": panel.x_ticks}
        figure.update_xaxes(title_text=panel.x_label, **kind, **where)
        low: dict[str, Any] = {} if panel.y_low is None else {"range": [panel.y_low, None]}
        if panel.y_ticks:
            places, names = zip(*panel.y_ticks, strict=True)
            low |= {"tickvals": places, "ticktext": names}
        figure.update_yaxes(title_text=panel.y_label, **low, **where)
    elif isinstance(panel, Surface):
        figure.update_xaxes(
            title_text=panel.x_label, **_scale(panel.x_ticks, is_log=panel.x_is_log), **where
        )
        figure.update_yaxes(
            title_text=panel.y_label, **_scale(panel.y_ticks, is_log=panel.y_is_log), **where
        )
    else:
        figure.update_yaxes(autorange="reversed", **where)


def _scale(ticks: tuple[str, ...], *, is_log: bool) -> dict[str, Any]:
    if ticks:
        return {"tickvals": [*range(len(ticks))], "ticktext": ticks}
    return {"type": "log"} if is_log else {}
