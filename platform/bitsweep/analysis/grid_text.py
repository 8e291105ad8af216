"""A grid as text, Markdown, LaTeX, CSV or JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bitsweep.analysis.cell import Cell
from bitsweep.analysis.grid import Grid, grid_marks
from bitsweep.analysis.latex import escaped, marked_number, number_column
from bitsweep.analysis.render import CONVENTIONS, Format, csv_text, markdown_lines, text_lines
from bitsweep.analysis.selection import Mark
from bitsweep.analysis.shown import shown
from bitsweep.analysis.table import UNSEARCHED


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
    heads = "".join(f" & \\multicolumn{{3}}{{c}}{{{escaped(at)}}}" for at in grid.columns)
    columns = "".join(f" {_columns(grid, at)}" for at in grid.columns)
    body = [
        " & ".join([escaped(row), *(_latex(grid, row, at, marked) for at in grid.columns)])
        + " \\\\"
        for row in grid.rows
    ]
    # Four bit-widths fill a column of text; more need smaller letters.
    size = ["\\footnotesize\\setlength{\\tabcolsep}{3pt}"] if len(grid.columns) > 3 else []
    notes = [f"{escaped(line)}\\par" for line in _notes(grid)[1:]]
    return "\n".join(
        [
            "% needs \\usepackage{booktabs,siunitx} and \\usepackage[T1]{fontenc}",
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{escaped(grid.title)}: mean $\\pm$ sample sd ($n$ seeds);"
            " best in bold, second underlined.}",
            "\\medskip",
            *size,
            f"\\begin{{tabular}}{{l{columns}}}",
            "\\toprule",
            f"{heads} \\\\",
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


def _columns(grid: Grid, at: str) -> str:
    """Mean and sd as numbers, n behind them."""
    cells = [cell for (_, label), cell in grid.cells.items() if label == at]
    decimals = shown(grid.metric).decimals
    mean = number_column((cell.mean for cell in cells), decimals)
    sd = number_column((cell.sd or 0.0 for cell in cells), decimals)
    return f"{mean}@{{$\\,\\pm\\,$}}{sd}@{{\\,}}l"


def _latex(grid: Grid, row: str, at: str, marked: Mapping[tuple[str, str], Mark]) -> str:
    cell: Cell | None = grid.cells.get((row, at))
    if cell is None:
        why = escaped(grid.missing.get((row, at), "\u2013"))
        return f"\\multicolumn{{3}}{{c}}{{{why}}}"
    metric = shown(grid.metric)
    column = [metric.number(one.mean) for (_, label), one in grid.cells.items() if label == at]
    mean = marked_number(
        metric.number(cell.mean), marked.get((row, at)), width=max(map(len, column))
    )
    spread = "{--}" if cell.sd is None else metric.number(cell.sd)
    dagger = "" if cell.is_searched else "\\textdaggerdbl{}"
    return f"{mean} & {spread} & ({cell.n}){dagger}"
