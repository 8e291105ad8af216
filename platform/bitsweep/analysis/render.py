"""A table as text, Markdown, LaTeX, CSV or JSON; what is said is the same in each."""

import csv
import io
import json
from collections.abc import Container, Mapping, Sequence
from typing import Any, Literal, get_args

from bitsweep.analysis.by_image import ByImage
from bitsweep.analysis.cell import FULL_PRECISION, Cell
from bitsweep.analysis.collapsed import shared_counts
from bitsweep.analysis.declared import Compared
from bitsweep.analysis.latex import latex_table
from bitsweep.analysis.paired import Paired
from bitsweep.analysis.selection import Mark, marks
from bitsweep.analysis.shown import Shown, shown
from bitsweep.analysis.table import UNSEARCHED, Difference, Table

Format = Literal["text", "markdown", "latex", "csv", "json"]
_SMALLEST_P = 1e-16
FORMATS: tuple[str, ...] = get_args(Format)
CONVENTIONS = {
    "body": "body layers only",
    "whole_ends8": "whole network, first and last layer counted at 8 bits",
    "whole_ends32": "whole network, first and last layer counted at 32 bits",
    "whole_agent": "whole network and agent, first and last layer counted at 8 bits",
}


def table_rows(table: Table) -> list[dict[str, Any]]:
    """One plain object per cell: what any form is made of."""
    ordered = [
        table.cells[arm, allocation]
        for arm in table.arms
        for allocation in table.allocations
        if (arm, allocation) in table.cells
    ]
    return [_row(cell, table) for cell in ordered]


def json_rows(table: Table) -> list[dict[str, Any]]:
    """The same, each with the declared comparisons whose first side it is: `comparisons`.

    `one_trial_with`: for how many seeds it is one trial with each other arm.
    """
    compared: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in table.comparisons:
        at = one.at if (one.arm, one.at) in table.cells else FULL_PRECISION
        compared.setdefault((one.arm, at), []).append(one.document())
    return [
        row
        | {
            "comparisons": compared.get((row["arm"], row["allocation"]), []),
            "one_trial_with": shared_counts(row["arm"], row["allocation"], table.cells),
        }
        for row in table_rows(table)
    ]


def _row(cell: Cell, table: Table) -> dict[str, Any]:
    return {
        "sweep": table.sweep,
        "arm": cell.arm,
        "method": cell.method,
        "allocation": cell.allocation,
        "split": cell.split,
        "mean": cell.mean,
        "sd": cell.sd,
        "n": cell.n,
        "unit": table.metric,
        "bitops": cell.bitops,
        "size_bits": cell.size_bits,
        "mean_weight_bits": cell.mean_weight_bits,
        "convention": table.convention,
        "stage": table.stage,
        "is_searched": cell.is_searched,
    }


def render(table: Table, form: Format) -> str:
    """The table in one of FORMATS."""
    if form == "json":
        return json.dumps(json_rows(table), indent=2)
    if form == "csv":
        return csv_text(table_rows(table))
    if form == "latex":
        under, convention = notes(table)[1:], CONVENTIONS[table.convention]
        return latex_table(table, footnotes=under, convention=convention)
    grid = _grid(table, marks(table) if form == "markdown" else {})
    numbers = range(2, len(grid[0]))
    lines = (markdown_lines if form == "markdown" else text_lines)(grid, numbers=numbers)
    return "\n".join([_title(table), "", *lines, "", *notes(table)])


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Plain objects as CSV with a header; empty for none."""
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return out.getvalue().rstrip("\n")


def _title(table: Table) -> str:
    return f"{table.sweep}: {table.question}"


def _grid(table: Table, marked: Mapping[tuple[str, str], Mark]) -> list[list[str]]:
    """Header and one line per arm and allocation: accuracy, cost and size stay side by side."""
    head = [
        "arm",
        "bits",
        f"{shown(table.metric).header} ({table.split})",
        "n",
        "BitOps",
        "size (bits)",
    ]
    body = []
    for arm in table.arms:
        cells = [table.cells.get((arm, allocation)) for allocation in table.allocations]
        present = [cell for cell in cells if cell is not None]
        if not present:
            body.append([arm, "-", "no finished trial", "0", "-", "-"])
        body += [
            _line(cell, marked.get((arm, cell.allocation)), shown(table.metric))
            for cell in present
        ]
    printed = [
        [f"{row.method} [{row.paper}]", row.bits, f"{row.top1} (printed)", "-", "-", "-"]
        for row in table.published
    ]
    return [head, *body, *printed]


def plain_cells(table: Table) -> list[list[str]]:
    """Header and lines of the table without marks, for pages that have their own."""
    return _grid(table, {})


def _line(cell: Cell, mark: Mark | None, metric: Shown) -> list[str]:
    spread = f" ± {metric.number(cell.sd)}" if cell.sd is not None else ""
    mean = metric.number(cell.mean)
    if mark is not None:
        mean = f"**{mean}**" if mark == "best" else f"<ins>{mean}</ins>"
    return [
        cell.arm,
        cell.allocation,
        f"{mean}{spread}{'' if cell.is_searched else UNSEARCHED}",
        str(cell.n),
        engineering(cell.bitops),
        f"{cell.size_bits:,}",
    ]


def engineering(value: float) -> str:
    """A large count with three digits: 1.23 G.

    >>> engineering(640_000_000)
    '640 M'
    """
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {letter}"
    return f"{value:.3g}"


def text_lines(grid: Sequence[Sequence[str]], *, numbers: Container[int] = ()) -> list[str]:
    """A grid with its header underlined; the columns `numbers` are aligned to the right."""
    columns = range(len(grid[0]))
    widths = [max(len(row[column]) for row in grid) for column in columns]
    lines = [
        "  ".join(
            text.rjust(widths[column]) if column in numbers else text.ljust(widths[column])
            for column, text in enumerate(row)
        ).rstrip()
        for row in grid
    ]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def markdown_lines(grid: Sequence[Sequence[str]], *, numbers: Container[int] = ()) -> list[str]:
    """A grid as a Markdown table; a bar inside a cell is escaped."""
    rule = ["---:" if column in numbers else "---" for column in range(len(grid[0]))]
    escaped = [[text.replace("|", "\\|") for text in row] for row in grid]
    return [f"| {' | '.join(row)} |" for row in (escaped[0], rule, *escaped[1:])]


def notes(table: Table) -> list[str]:
    """What stands under the table: convention, comparisons, and what went wrong."""
    lines = [f"BitOps and size: {CONVENTIONS[table.convention]}. ± is the sample sd over seeds."]
    lines += [comparison_text(one, metric=table.metric) for one in table.comparisons]
    lines += [difference_text(one, metric=table.metric) for one in table.differences]
    lines += [
        f"printed: {row.bits} {row.top1}: {row.method}; {row.paper}, {row.place} "
        f"({row.provenance}: {row.source})"
        for row in table.published
    ]
    return lines + list(table.footnotes)


def difference_text(one: Difference, *, metric: str = "top1_percent") -> str:
    """A difference that was asked for: effect and interval, without a claim of significance."""
    text = f"{one.arm} - {one.against} at {one.at}: {_effect(one.result, shown(metric))}"
    if one.equivalence is not None:
        unit = f"{shown(metric).difference_unit} ".lstrip()
        text += f", equivalence within {one.equivalence.margin:g} {unit}p = "
        text += f"{one.equivalence.p:.4g}"
    text += f"){by_image_text(one.by_image)}"
    return f"{text}; {'declared before it was measured' if one.is_declared else 'exploratory'}."


def by_image_text(one: ByImage | None) -> str:
    """What the answers to single images add; nothing where they were not kept."""
    if one is None:
        return ""
    tests = ", ".join(
        "no image differs" if pair is None else f"{pair.left}:{pair.right} {_p_text(pair.p_exact)}"
        for pair in one.pairs.values()
    )
    seeds = f"{len(one.pairs)} seed{'s' if len(one.pairs) > 1 else ''}"
    return (
        f"; image by image on {seeds}: {one.mean:+.2f} points, 95 % bootstrap CI "
        f"[{one.low95:+.2f}, {one.high95:+.2f}]; McNemar of the two checkpoints of each seed: "
        f"{tests}"
    )


def _effect(result: Paired, metric: Shown) -> str:
    """Mean, sd and interval, in the unit of the metric; the bracket stays open."""
    sd = f" ± {metric.number(result.sd)}" if result.sd is not None else ""
    unit = f" {metric.difference_unit}".rstrip()
    text = f"{metric.difference(result.mean)}{sd}{unit} (n = {result.n}"
    if result.low95 is None or result.high95 is None:
        return text
    low, high = metric.difference(result.low95), metric.difference(result.high95)
    return f"{text}, 95 % CI [{low}, {high}]"


def _p_text(p: float) -> str:
    """A p-value; far below what any assumption bears it is a bound."""
    return f"p = {p:.3g}" if p >= _SMALLEST_P else f"p < {_SMALLEST_P:g}"


def comparison_text(one: Compared, *, metric: str = "top1_percent") -> str:
    """A declared comparison in one sentence, with what its seeds could show at most."""
    if one.result is None:
        return f"{one.name}: not measured on common seeds yet."
    result = one.result
    text = f"{one.name}: {_effect(result, shown(metric))}"
    if one.at != one.against_at and one.bitops is not None:  # else the table has them side by side
        text += f", {' against '.join(map(engineering, one.bitops))} BitOps"
    if not one.is_primary or one.adjusted_p is None:
        later = "exploratory: declared after its arms were measured"
        return f"{text}){by_image_text(one.by_image)}; {later}."
    text += f", exact paired p = {result.p_permutation:.4g}, Holm {one.adjusted_p:.4g})"
    if one.attainable is not None and one.attainable > 0.05:
        text += f"; {result.n} seeds can reach {one.attainable:.4g} at best, never 0.05"
    else:
        text += f"; {'significant' if one.adjusted_p <= 0.05 else 'not significant'} at 0.05"
    return f"{text}{by_image_text(one.by_image)}."
