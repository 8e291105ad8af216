"""Charts as files for papers, by Matplotlib: png, svg and pdf with embedded fonts.

The same chart gives the same file: no time of making is written into it.
"""

import io
import re
import textwrap
from math import ceil, log2
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from bitsweep.analysis.chart import Bars, Chart, Curves, Heat, Panel, Series, Surface
from bitsweep.analysis.render import engineering
from bitsweep.figures.draw import Width

# Inches: the columns of two-column proceedings, and what both and their gap make.
_WIDTHS = {"one": 3.35, "two": 6.9}
_MARKERS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "cross": "X"}
_DASHES = {"solid": "-", "dashed": "--", "dotted": ":"}
_MOST_NUMBERED, _MOST_LETTERS = 14, 30  # columns of a heat map with numbers in their cells
_BITS = (1, 32)  # the same bits have the same colour in every heat map
_STYLE: Any = {  # Matplotlib types its keys one by one
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.linewidth": 0.7,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "bitsweep",
    "savefig.dpi": 300,
    "text.parse_math": False,
}
_NO_DATE: dict[str, dict[str, Any]] = {
    ".pdf": {"CreationDate": None},
    ".svg": {"Date": None},
    ".png": {},
}


def write_figure(chart: Chart, output: Path, *, width: Width = "two") -> None:
    """Draw the chart into a png, svg or pdf file of a paper's column width."""
    suffix = output.suffix.lower()
    with mpl.rc_context(_STYLE):
        figure = _figure(chart, _WIDTHS[width])
        figure.savefig(output, format=suffix[1:], metadata=_NO_DATE[suffix])


def svg_text(chart: Chart, *, prefix: str) -> str:
    """The chart as an SVG element for a page; `prefix` keeps its ids apart from other charts'."""
    out = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": prefix, "svg.id": prefix}):
        figure = _figure(chart, _WIDTHS["two"])
        figure.savefig(out, format="svg", metadata=_NO_DATE[".svg"])
    text = out.getvalue()
    text = text[text.index("<svg") :]
    found = set(re.findall(r'\bid="([^"]+)"', text))
    for id_ in sorted(found, key=len, reverse=True):
        text = text.replace(f'id="{id_}"', f'id="{prefix}-{id_}"')
        text = text.replace(f'"#{id_}"', f'"#{prefix}-{id_}"')
        text = text.replace(f"url(#{id_})", f"url(#{prefix}-{id_})")
    return text


def _figure(chart: Chart, width: float) -> Figure:
    """Panels in rows of at most three (one in a single column), legend and note under them."""
    columns = min(len(chart.panels), 3 if width > 5 else 1)
    rows = ceil(len(chart.panels) / columns)
    height = sum(_row_height(chart.panels[i * columns : (i + 1) * columns]) for i in range(rows))
    named = _legend(chart)
    note = textwrap.fill(chart.note, width=int(width * 21))
    foot = 0.16 * (note.count("\n") + 1) + 0.2 * ceil(len(named) / _per_row(width)) + 0.1
    figure = Figure(figsize=(width, height + foot), layout="constrained")
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0, foot / (height + foot), 1, height / (height + foot)))  # type: ignore[call-arg]  # only this engine takes a rectangle
    curves = [panel for panel in chart.panels if isinstance(panel, Curves)]
    shares = bool(curves) and all(panel.y_low is None for panel in curves)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=shares)
    for place, axis in enumerate(axes.flat):
        if place >= len(chart.panels):
            axis.set_axis_off()
            continue
        _draw(axis, chart.panels[place])
        if shares and place % columns:
            axis.set_ylabel("")
    if named:
        bottom = 0.16 * (note.count("\n") + 1) / (height + foot)
        columns_ = min(len(named), _per_row(width))
        figure.legend(
            handles=named,
            loc="lower center",
            bbox_to_anchor=(0.5, bottom),
            ncols=columns_,
            frameon=False,
            handlelength=1.8,
            columnspacing=1.2,
        )
    figure.text(0.01, 0.01, note, fontsize=6, color="#555555", va="bottom")
    return figure


def _per_row(width: float) -> int:
    return 5 if width > 5 else 2


def _row_height(panels: tuple[Panel, ...]) -> float:
    """Inches: heat maps and bars grow with their rows."""
    heights = [2.4]
    for panel in panels:
        if isinstance(panel, Heat):
            heights.append(0.7 + 0.22 * len(panel.rows))
        elif isinstance(panel, Bars):
            heights.append(0.8 + 0.24 * len(panel.names))
    only_curves = all(isinstance(panel, Curves | Surface) for panel in panels)
    return max(heights) if only_curves else max(heights[1:])


def _legend(chart: Chart) -> list[Line2D]:
    """One entry per name, in the order of first appearance."""
    found: dict[str, Line2D] = {}
    for panel in chart.panels:
        if isinstance(panel, Curves):
            for series in panel.series:
                if series.name is not None and series.name not in found:
                    found[series.name] = Line2D([], [], label=series.name, **_look(series))
    return list(found.values())


def _look(series: Series) -> dict[str, Any]:
    style = series.style
    has_line = style.has_line or style.dash != "solid"
    return {
        "color": style.colour,
        "marker": None if style.marker is None else _MARKERS[style.marker],
        "markersize": 4.5,
        "linestyle": _DASHES[style.dash] if has_line else "none",
        "linewidth": 0.6 if style.is_thin else 1.4,
        "alpha": 0.45 if style.is_thin else 1.0,
    }


def _draw(axis: Axes, panel: Panel) -> None:
    axis.set_title(panel.title)
    if isinstance(panel, Curves):
        _draw_curves(axis, panel)
    elif isinstance(panel, Heat):
        _draw_heat(axis, panel)
    elif isinstance(panel, Surface):
        _draw_surface(axis, panel)
    else:
        _draw_bars(axis, panel)


def _draw_curves(axis: Axes, panel: Curves) -> None:
    for series in panel.series:
        look = _look(series)
        if series.is_staircase:
            look["drawstyle"] = "steps-post"
        if series.spread:
            spread = [one or 0.0 for one in series.spread]
            axis.errorbar(series.x, series.y, yerr=spread, capsize=2, elinewidth=0.8, **look)
        else:
            axis.plot(series.x, series.y, **look)
    axis.set_xlabel(panel.x_label)
    axis.set_ylabel(panel.y_label)
    if panel.y_low is not None:
        axis.set_ylim(bottom=panel.y_low)
    if panel.y_ticks:
        axis.set_yticks(*zip(*panel.y_ticks, strict=True))
    if panel.x_ticks:
        axis.set_xticks(range(len(panel.x_ticks)), panel.x_ticks, rotation=20, ha="right")
        axis.margins(x=0.08)
    elif panel.x_scale == "log2":
        _log2_axis(axis, [x for series in panel.series for x in series.x])
    else:
        values = [x for series in panel.series for x in series.x]
        is_whole = all(float(x).is_integer() for x in values)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=is_whole))


def _log2_axis(axis: Axes, costs: list[float]) -> None:
    """Some three to eight ticks, at powers of two where the costs are that far apart."""
    axis.set_xscale("log", base=2)
    low, high = log2(min(costs)), log2(max(costs))
    span = high - low
    step = float(ceil(span / 4)) if span >= 2 else 2.0 ** -ceil(log2(4 / max(span, 0.05)))
    places = [2 ** (step * k) for k in range(int(low / step) - 1, ceil(high / step) + 2)]
    axis.set_xlim(2 ** (low - 0.15), 2 ** (high + 0.15))
    axis.xaxis.set_major_locator(FixedLocator(places))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: engineering(value)))


def _draw_heat(axis: Axes, panel: Heat) -> None:
    values = [[float("nan") if one is None else one for one in row] for row in panel.values]
    norm = Normalize(0, 100) if panel.is_share else LogNorm(*_BITS, clip=True)
    is_dense = len(panel.columns) > _MOST_NUMBERED
    colours: dict[str, Any] = {"cmap": "cividis", "norm": norm}
    mesh = axis.pcolormesh(
        values, edgecolors="white", linewidth=0.0 if is_dense else 1.5, **colours
    )
    axis.set_yticks([place + 0.5 for place in range(len(panel.rows))], panel.rows)
    kept = range(0, len(panel.columns), ceil(len(panel.columns) / _MOST_NUMBERED))
    labels = [panel.columns[place] for place in kept]
    is_long = sum(map(len, labels)) > _MOST_LETTERS
    turned: dict[str, Any] = {"rotation": 40, "ha": "right"} if is_long else {}
    axis.set_xticks([place + 0.5 for place in kept], labels, **turned)
    axis.invert_yaxis()
    axis.grid(visible=False)
    axis.tick_params(length=0)
    if is_dense:  # no room for numbers: a scale tells them
        _scale_beside(axis, mesh, panel.label)
        return
    dark = 50 if panel.is_share else 6
    for row, line in enumerate(panel.values):
        for column, value in enumerate(line):
            if value is not None:
                colour = "white" if value < dark else "black"
                place: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7}
                axis.text(column + 0.5, row + 0.5, f"{value:.3g}", color=colour, **place)


def _scale_beside(axis: Axes, drawn: Any, label: str) -> None:  # what a colour bar is made of
    figure = axis.get_figure()
    assert figure is not None
    bar = figure.colorbar(drawn, ax=axis, fraction=0.06, pad=0.03)
    bar.set_label(label, fontsize=7)
    bar.outline.set_visible(False)


def _draw_surface(axis: Axes, panel: Surface) -> None:
    drawn = axis.contourf(panel.x, panel.y, panel.z, levels=12, cmap="cividis")
    x, y, _ = zip(*panel.points, strict=True)
    dots: dict[str, Any] = {"color": "white", "edgecolors": "#333333", "linewidths": 0.6}
    axis.scatter(x, y, s=12, zorder=3, clip_on=False, **dots)
    axis.set_xlabel(panel.x_label)
    axis.set_ylabel(panel.y_label)
    axis.grid(visible=False)
    for one, values, ticks, is_log, set_scale in (
        (axis.xaxis, x, panel.x_ticks, panel.x_is_log, axis.set_xscale),
        (axis.yaxis, y, panel.y_ticks, panel.y_is_log, axis.set_yscale),
    ):
        if ticks:
            one.set_ticks(range(len(ticks)), labels=ticks)
        elif is_log:
            set_scale("log")
            one.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        else:
            is_whole = all(float(value).is_integer() for value in values)
            one.set_major_locator(MaxNLocator(nbins=6, integer=is_whole))
    _scale_beside(axis, drawn, panel.label)


def _draw_bars(axis: Axes, panel: Bars) -> None:
    places = range(len(panel.names))
    axis.barh(places, panel.values, color=panel.colour, height=0.6)
    axis.set_yticks(places, panel.names)
    axis.invert_yaxis()
    axis.set_xlim(0, max(1.0, *panel.values))
    axis.set_xlabel(panel.label)
    axis.grid(visible=False, axis="y")
