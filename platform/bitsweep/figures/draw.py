"""A sweep's figure of a kind, written in the form that the file's name tells."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from bitsweep.analysis.chart import Chart, Kind, Pick
from bitsweep.errors import InputError
from bitsweep.store.reader import Reader

Width = Literal["one", "two"]
SUFFIXES = (".png", ".svg", ".pdf", ".html")
# What may be picked of each kind; of the others nothing.
PICKS: Mapping[Kind, tuple[str, ...]] = {
    "epochs": ("arm", "at"),
    "choices": ("arm", "price"),
    "costs": ("arm", "price"),
    "trade": ("arm",),
    "slices": ("arm", "at"),
    "parallel": ("arm", "at"),
    "contour": ("arm", "at", "x", "y"),
}
_ALL = Pick()


def sweep_chart(reader: Reader, sweep: str, kind: Kind, pick: Pick = _ALL) -> Chart:
    """The figure as data; InputError where the sweep has nothing to show of this kind.

    Or where something is picked that figures of this kind do not have.
    """
    for name in Pick.__dataclass_fields__:
        if getattr(pick, name) is not None and name not in PICKS.get(kind, ()):
            kinds = ", ".join(one for one, names in PICKS.items() if name in names)
            option = {"price": "lambda"}.get(name, name)
            raise InputError(f"--{option} goes with --kind {kinds}, not with {kind}")
    if kind in PICKS:
        return _picked_maker(kind)(reader, sweep, pick)
    return _maker(kind)(reader, sweep)


def _maker(kind: Kind) -> Callable[[Reader, str], Chart]:
    from bitsweep.analysis.curves import (
        bits_chart,
        layers_chart,
        learning_chart,
        pareto_chart,
        size_chart,
    )
    from bitsweep.analysis.importance import importance_chart

    makers: dict[Kind, Callable[[Reader, str], Chart]] = {
        "pareto": pareto_chart,
        "size": size_chart,
        "bits": bits_chart,
        "curves": learning_chart,
        "layers": layers_chart,
        "importance": importance_chart,
    }
    return makers[kind]


def _picked_maker(kind: Kind) -> Callable[[Reader, str, Pick], Chart]:
    from bitsweep.analysis.explore import contour_chart, parallel_chart, slices_chart
    from bitsweep.analysis.layer_charts import (
        choices_chart,
        costs_chart,
        epochs_chart,
        trade_chart,
    )

    makers: dict[Kind, Callable[[Reader, str, Pick], Chart]] = {
        "epochs": epochs_chart,
        "choices": choices_chart,
        "costs": costs_chart,
        "trade": trade_chart,
        "slices": slices_chart,
        "parallel": parallel_chart,
        "contour": contour_chart,
    }
    return makers[kind]


def write_chart(chart: Chart, output: Path, *, width: Width = "two") -> None:
    """Draw into the file; raise InputError for a name that tells no known form."""
    suffix = output.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{output}: expected a name that ends in {', '.join(SUFFIXES)}")
    if suffix == ".html":
        from bitsweep.figures.page import html_page

        output.write_text(html_page(chart), encoding="utf-8")
    else:
        from bitsweep.figures.paper import write_figure

        write_figure(chart, output, width=width)
