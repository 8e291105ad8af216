"""A sweep's figure of a kind, written in the form that the file's name tells."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from bitsweep.analysis.chart import Chart
from bitsweep.errors import InputError
from bitsweep.store.reader import Reader

Kind = Literal["pareto", "size", "bits", "curves", "layers", "importance", "slices", "parallel"]
Width = Literal["one", "two"]
SUFFIXES = (".png", ".svg", ".pdf", ".html")


def sweep_chart(reader: Reader, sweep: str, kind: Kind) -> Chart:
    """The figure as data; raise InputError where the sweep has nothing to show of this kind."""
    return _maker(kind)(reader, sweep)


def _maker(kind: Kind) -> Callable[[Reader, str], Chart]:
    from bitsweep.analysis.curves import (
        bits_chart,
        layers_chart,
        learning_chart,
        pareto_chart,
        size_chart,
    )
    from bitsweep.analysis.explore import parallel_chart, slices_chart
    from bitsweep.analysis.importance import importance_chart

    makers: dict[Kind, Callable[[Reader, str], Chart]] = {
        "pareto": pareto_chart,
        "size": size_chart,
        "bits": bits_chart,
        "curves": learning_chart,
        "layers": layers_chart,
        "importance": importance_chart,
        "slices": slices_chart,
        "parallel": parallel_chart,
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
