"""Panels of `analysis` as Plotly figures: plain dictionaries, colours of the page left to CSS.

Every text of a store is escaped: Plotly reads some HTML in labels.
"""

from collections.abc import Collection, Sequence
from html import escape
from math import ceil, floor, log2
from typing import Any

from dash import dcc, html

from bitsweep.analysis.chart import Bars, Curves, Heat, Panel, Series, Surface
from bitsweep.analysis.render import engineering

_MARKERS = {"circle": "circle", "square": "square", "triangle": "triangle-up"}
_MARKERS |= {"diamond": "diamond", "cross": "x"}
_DASHES = {"solid": "solid", "dashed": "dash", "dotted": "dot"}
_CONFIG = {"displayModeBar": False, "responsive": True}
_FEWEST_TICKS, _MOST_TICKS = 3, 8
_MOST_LABELLED = 400
_WIDEST_BITS = 8.0
_BIG = 1e4


def figure_card(panel: Panel, *, name: str, note: str = "", hidden: Collection[str] = ()) -> Any:
    """A panel with its heading and what must be said under it; `name` tells what it is."""
    graph = dcc.Graph(
        figure=figure(panel, hidden=hidden),
        config=_CONFIG,
        style={"height": f"{_height(panel)}px"},
    )
    box = html.Div(graph, className="graph", role="img", **{"aria-label": name})
    parts = [html.H3(panel.title)] if panel.title else []
    return html.Figure([*parts, box, *([html.Figcaption(note)] if note else [])])


def _height(panel: Panel) -> int:
    if isinstance(panel, Heat):
        return 90 + 28 * len(panel.rows)
    if isinstance(panel, Bars):
        return 80 + 34 * len(panel.names)
    return 360


def figure(panel: Panel, *, hidden: Collection[str] = ()) -> dict[str, Any]:
    """The panel as Plotly's JSON; series of hidden names are left out."""
    layout: dict[str, Any] = {
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "inherit", "size": 13},
        "dragmode": False,
        "hovermode": "closest",
        "showlegend": False,
        "xaxis": _axis(),
        "yaxis": _axis(),
    }
    if isinstance(panel, Curves):
        traces = _curves(panel, layout, hidden)
    elif isinstance(panel, Heat):
        traces = _heat(panel, layout)
    elif isinstance(panel, Bars):
        traces = _bars(panel, layout)
    else:
        traces = _surface(panel, layout)
    return {"data": traces, "layout": layout}


def _axis(**more: Any) -> dict[str, Any]:
    plain = {"automargin": True, "zeroline": False, "ticks": "", "fixedrange": True}
    return {**plain, **more}


def _titled(label: str) -> dict[str, Any]:
    return {"title": {"text": plain(label), "standoff": 8}}


def plain(text: str) -> str:
    """Text that Plotly shows as it stands.

    >>> plain("<b>&")
    '&lt;b&gt;&amp;'
    """
    return escape(text, quote=False)


def _curves(
    panel: Curves, layout: dict[str, Any], hidden: Collection[str]
) -> list[dict[str, Any]]:
    shown = [one for one in panel.series if one.name is None or one.name not in hidden]
    # A name that stands more than once has one entry in the legend.
    named: set[str] = set()
    traces = [_trace(one, named) for one in shown]
    layout["showlegend"] = bool(named)
    layout["legend"] = {
        "orientation": "h",
        "yref": "container",
        "y": 0,
        "yanchor": "bottom",
        "x": 0,
        "xanchor": "left",
        "itemclick": False,
        "itemdoubleclick": False,
    }
    layout["xaxis"] = _axis(**_titled(panel.x_label))
    layout["yaxis"] = _axis(**_titled(panel.y_label))
    if panel.y_low is not None:
        layout["yaxis"]["range"] = [panel.y_low, _top(shown, panel.y_low)]
    if panel.y_ticks:
        places, names = zip(*panel.y_ticks, strict=True)
        named_places = {"tickvals": places, "ticktext": [plain(name) for name in names]}
        layout["yaxis"] |= {"tickmode": "array", **named_places}
    xs = [x for one in shown for x in one.x]
    if panel.x_ticks:
        layout["xaxis"] |= _named_ticks(panel.x_ticks)
    elif panel.x_scale == "log2" and xs and min(xs) > 0:
        layout["xaxis"] |= _log2_ticks(min(xs), max(xs))
    elif len(set(xs)) == 1:
        name = engineering(xs[0]) if xs[0] >= _BIG else f"{xs[0]:.4g}"
        layout["xaxis"] |= {"tickmode": "array", "tickvals": xs[:1], "ticktext": [name]}
    elif xs and all(x == int(x) for x in xs) and max(xs) - min(xs) <= _MOST_TICKS:
        layout["xaxis"]["dtick"] = 1
    return traces


def _top(shown: Sequence[Series], low: float) -> float:
    """A little above the highest point with its spread."""
    ends = [
        y + (spread or 0.0)
        for one in shown
        for y, spread in zip(one.y, one.spread or (None,) * len(one.y), strict=True)
    ]
    high = max(ends, default=low + 1.0)
    return high + 0.04 * (high - low)


def _named_ticks(names: Sequence[str]) -> dict[str, Any]:
    return {
        "tickmode": "array",
        "tickvals": list(range(len(names))),
        "ticktext": [plain(name) for name in names],
        "range": [-0.3, len(names) - 0.7],
    }


def _log2_ticks(low: float, high: float) -> dict[str, Any]:
    """Ticks at powers of two: the coarsest steps that leave three of them within the data."""
    low, high = log2(low) - 0.1, log2(high) + 0.1
    for step in (4.0, 2.0, 1.0, 0.5, 0.25):
        powers = [step * place for place in range(ceil(low / step), floor(high / step) + 1)]
        if len(powers) >= _FEWEST_TICKS:
            break
    costs = [2.0**power for power in powers]
    return {
        "type": "log",
        "tickmode": "array",
        "tickvals": costs,
        "ticktext": [engineering(one) if one >= 1 else f"{one:.2g}" for one in costs],
    }


def _trace(series: Series, named: set[str]) -> dict[str, Any]:
    style = series.style
    is_first = series.name is not None and series.name not in named
    if series.name is not None:
        named.add(series.name)
    has_line = style.has_line or style.dash != "solid"
    parts = ["lines"] * has_line + ["markers"] * (style.marker is not None)
    trace: dict[str, Any] = {
        "type": "scatter",
        "x": series.x,
        "y": series.y,
        "name": plain(series.name or ""),
        "legendgroup": plain(series.name or ""),
        "showlegend": is_first,
        "mode": "+".join(parts),
        "opacity": 0.5 if style.is_thin else 1.0,
        "line": {
            "color": style.colour,
            "dash": _DASHES[style.dash],
            "width": 1 if style.is_thin else 2,
            "shape": "hv" if series.is_staircase else "linear",
        },
        "hovertemplate": "%{fullData.name}<br>%{x:.4~s}, %{y:.4~f}<extra></extra>",
    }
    if style.marker is not None:
        trace["marker"] = {"color": style.colour, "size": 9, "symbol": _MARKERS[style.marker]}
    if any(series.spread):
        spread = [one or 0.0 for one in series.spread]
        trace["error_y"] = {"array": spread, "thickness": 1.2, "width": 4}
    return trace


def _heat(panel: Heat, layout: dict[str, Any]) -> list[dict[str, Any]]:
    cells = [value for row in panel.values for value in row if value is not None]
    high = 100.0 if panel.is_share else max(_WIDEST_BITS, *cells, 0.0)
    layout["xaxis"] = _axis(type="category", side="bottom")
    layout["yaxis"] = _axis(type="category", autorange="reversed")
    has_text = len(cells) <= _MOST_LABELLED
    return [
        {
            "type": "heatmap",
            "x": [plain(one) for one in panel.columns],
            # Two layers may have one name: the place keeps their rows apart.
            "y": [f"{plain(one)}{chr(0x200B) * place}" for place, one in enumerate(panel.rows)],
            "z": panel.values,
            "zmin": 0.0 if panel.is_share else 1.0,
            "zmax": high,
            "colorscale": "Cividis",
            "xgap": 2,
            "ygap": 2,
            "texttemplate": "%{z:.3~g}" if has_text else "",
            "showscale": not has_text,
            "colorbar": {"title": {"text": plain(panel.label), "side": "right"}},
            "hovertemplate": f"%{{y}}, %{{x}}: %{{z:.3~f}} {plain(panel.label)}<extra></extra>",
        }
    ]


def _bars(panel: Bars, layout: dict[str, Any]) -> list[dict[str, Any]]:
    layout["xaxis"] = _axis(range=[0, max(1.0, *panel.values)], **_titled(panel.label))
    layout["yaxis"] = _axis(type="category", autorange="reversed")
    return [
        {
            "type": "bar",
            "orientation": "h",
            "x": panel.values,
            "y": [plain(name) for name in panel.names],
            "marker": {"color": panel.colour},
            "hovertemplate": "%{y}: %{x:.3f}<extra></extra>",
        }
    ]


def _surface(panel: Surface, layout: dict[str, Any]) -> list[dict[str, Any]]:
    layout["xaxis"] = _axis(**_titled(panel.x_label))
    layout["yaxis"] = _axis(**_titled(panel.y_label))
    for axis, ticks, is_log in (
        ("xaxis", panel.x_ticks, panel.x_is_log),
        ("yaxis", panel.y_ticks, panel.y_is_log),
    ):
        if ticks:
            layout[axis] |= _named_ticks(ticks)
        elif is_log:
            layout[axis] |= {"type": "log", "nticks": _MOST_TICKS}
    points = panel.points
    return [
        {
            "type": "contour",
            "x": panel.x,
            "y": panel.y,
            "z": panel.z,
            "colorscale": "Cividis",
            "line": {"width": 0.5},
            "colorbar": {"thickness": 12, "title": {"text": plain(panel.label), "side": "right"}},
            "hovertemplate": "%{x:.4~g}, %{y:.4~g}: about %{z:.4~f}<extra></extra>",
        },
        {
            "type": "scatter",
            "mode": "markers",
            "x": [one[0] for one in points],
            "y": [one[1] for one in points],
            "customdata": [one[2] for one in points],
            "marker": {"color": "#ffffff", "size": 7, "line": {"color": "#333333", "width": 1}},
            "hovertemplate": "tried: %{x:.4~g}, %{y:.4~g}: %{customdata:.4~f}<extra></extra>",
        },
    ]
