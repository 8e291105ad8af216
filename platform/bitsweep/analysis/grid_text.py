"""A grid as text, Markdown, LaTeX, CSV or JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bitsweep.analysis.grid import Grid, grid_marks
from bitsweep.analysis.latex import escaped
from bitsweep.analysis.render import CONVENTIONS, Format, csv_text, markdown_lines, text_lines
from bitsweep.analysis.selection import Mark
from bitsweep.analysis.shown import shown
from bitsweep.analysis.table import UNSEARCHED, Cell


def render_grids(grids: Sequence[Grid], form: Format) -> str:
    """Blocks under each other; CSV and JSON have one row per cell with the block's title."""
    if form in ("json", "csv"):
        rows = [row for grid in grids for row in grid_rows(grid)]
        return json.dumps(rows, indent=2) if form == "json" else csv_text(rows)
    if form == "latex":
        return "\n\n".join(latex_grid(grid) for grid in grids)
    lines = markdown_lines if form == "markdown" else text_lines
    blocks = []
    for grid in grids:
        marked = grid_marks(grid) if form == "markdown" else {}
        head = ["", *grid.columns]
        body = [[row, *(_text(grid, row, at, marked) for at in grid.columns)] for row in grid.rows]
        table = lines([head, *body], numbers=range(1, len(head)))
        blocks.append("\n".join([grid.title, "", *table, "", *_notes(grid)]))
    return "\n\n".join(blocks)


def grid_rows(grid: Grid) -> list[dict[str, Any]]:
    """One plain object per cell that is there."""
    return [
        {
            "block": grid.title,
            "row": row,
            "arm": cell.arm,
            "method": cell.method,
            "allocation": at,
            "split": cell.split,
            "mean": cell.mean,
            "sd": cell.sd,
            "n": cell.n,
            "unit": grid.metric,
            "bitops": cell.bitops,
            "size_bits": cell.size_bits,
            "convention": grid.convention,
            "is_searched": cell.is_searched,
        }
        for row in grid.rows
        for at in grid.columns
        if (cell := grid.cells.get((row, at))) is not None
    ]


def _text(grid: Grid, row: str, at: str, marked: Mapping[tuple[str, str], Mark]) -> str:
    cell = grid.cells.get((row, at))
    if cell is None:
        return grid.missing.get((row, at), "-")
    metric = shown(grid.metric)
    mean = metric.number(cell.mean)
    mark = marked.get((row, at))
    if mark is not None:
        mean = f"**{mean}**" if mark == "best" else f"<ins>{mean}</ins>"
    spread = "" if cell.sd is None else f" ± {metric.number(cell.sd)}"
    return f"{mean}{spread} ({cell.n}){'' if cell.is_searched else UNSEARCHED}"


def _notes(grid: Grid) -> list[str]:
    kind = "mean ± sample sd (n seeds); - was not measured."
    return [kind, f"BitOps below: {CONVENTIONS[grid.convention]}.", *grid.notes]


def latex_grid(grid: Grid) -> str:
    """A booktabs table with mean and sd of each column aligned at the sign between them."""
    marked = grid_marks(grid)
    heads = " & ".join(f"\\multicolumn{{2}}{{c}}{{{escaped(at)}}}" for at in grid.columns)
    pairs = "r@{$\\,\\pm\\,$}l" * len(grid.columns)
    body = [
        " & ".join([escaped(row), *(_latex(grid, row, at, marked) for at in grid.columns)])
        + " \\\\"
        for row in grid.rows
    ]
    notes = [f"{escaped(line)}\\par" for line in _notes(grid)[1:]]
    return "\n".join(
        [
            "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}",
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{escaped(grid.title)}: mean $\\pm$ sample sd ($n$ seeds);"
            " best in bold, second underlined.}",
            "\\medskip",
            f"\\begin{{tabular}}{{l {pairs}}}",
            "\\toprule",
            f" & {heads} \\\\",
            "\\midrule",
            *body,
            "\\bottomrule",
            "\\end{tabular}",
            "",
            "\\medskip",
            "\\begin{minipage}{\\linewidth}\\footnotesize\\raggedright",
            *notes,
            "\\end{minipage}",
            "\\end{table}",
        ]
    )


def _latex(grid: Grid, row: str, at: str, marked: Mapping[tuple[str, str], Mark]) -> str:
    cell: Cell | None = grid.cells.get((row, at))
    if cell is None:
        return f"\\multicolumn{{2}}{{c}}{{{escaped(grid.missing.get((row, at), '--'))}}}"
    metric = shown(grid.metric)
    mean = metric.number(cell.mean)
    mark = marked.get((row, at))
    if mark is not None:
        mean = f"\\textbf{{{mean}}}" if mark == "best" else f"\\underline{{{mean}}}"
    spread = "--" if cell.sd is None else metric.number(cell.sd)
    dagger = "" if cell.is_searched else "\\textdaggerdbl{}"
    return f"{mean} & {spread} ({cell.n}){dagger}"
