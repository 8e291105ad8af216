"""Tables as LaTeX: booktabs rules, numbers aligned by siunitx, what went wrong in footnotes.

A document needs `\\usepackage{booktabs,siunitx}` and, for accents, `\\usepackage[T1]{fontenc}`.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from bitsweep.analysis.cell import Cell
from bitsweep.analysis.selection import Mark, marks
from bitsweep.analysis.shown import Shown, shown
from bitsweep.analysis.table import Table

PREAMBLE = "\\usepackage[T1]{fontenc}\n\\usepackage{booktabs,siunitx}\n"
_SIGNS = {
    "\\": "\\textbackslash{}",
    "{": "\\{",
    "}": "\\}",
    "&": "\\&",
    "%": "\\%",
    "$": "\\$",
    "#": "\\#",
    "_": "\\_",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    '"': "\\textquotedbl{}",
    "-": "-{}",
    "`": "\\textasciigrave{}",
    "'": "\\textquotesingle{}",
    "\u00b1": "\\ensuremath{\\pm}",
    "\u00d7": "\\ensuremath{\\times}",
    "\u00b5": "\\ensuremath{\\mu}",
    "\u2013": "--",
    "\u2014": "---",
    "\u2021": "\\textdaggerdbl{}",
    "\u2019": "\\textquoteright{}",
    "\u2026": "\\dots{}",
}
Unit = tuple[float, str]
_UNITS: tuple[Unit, ...] = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_LAST_LATIN = 0x17F
_CAPITALS = re.compile("gamma|delta|theta|lambda|xi|pi|sigma|upsilon|phi|psi|omega")
_ONLY_SMALL = re.compile("alpha|beta|epsilon|zeta|eta|iota|kappa|mu|nu|rho|tau|chi")


def escaped(text: str) -> str:
    """Text that LaTeX prints as it stands: nothing in it is a command.

    Letters that pdflatex's T1 fonts lack are named by their code point, never dropped.

    >>> escaped("50% of a_b & \\\\input")
    '50\\\\% of a\\\\_b \\\\& \\\\textbackslash{}input'
    """
    return "".join(_letter(one) for one in unicodedata.normalize("NFC", " ".join(text.split())))


def _letter(letter: str) -> str:
    if letter in _SIGNS:
        return _SIGNS[letter]
    if " " <= letter <= "~" or (letter.isalpha() and ord(letter) <= _LAST_LATIN):
        return letter
    return _greek(letter) or f"[U+{ord(letter):04X}]"


def _greek(letter: str) -> str | None:
    """A Greek letter as mathematics; None for the few that LaTeX has no command for."""
    words = unicodedata.name(letter, "").split()
    if len(words) != 4 or words[0] != "GREEK" or words[2] != "LETTER":
        return None
    name = {"LAMDA": "lambda"}.get(words[3], words[3].lower())
    is_capital = words[1] == "CAPITAL"
    has_small = _ONLY_SMALL.fullmatch(name) is not None and not is_capital
    if not has_small and _CAPITALS.fullmatch(name) is None:
        return None
    return f"\\ensuremath{{\\{name.capitalize() if is_capital else name}}}"


def latex_table(table: Table, *, footnotes: Sequence[str], convention: str) -> str:
    """The table as a LaTeX float: blocks by bit-width, best bold and second underlined."""
    bitops_unit, size_unit = _units(table)
    body = list(_blocks(table))
    lines = [
        "% needs \\usepackage{booktabs,siunitx} and \\usepackage[T1]{fontenc}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{_caption(table, convention)}}}",
        f"\\label{{tab:{_label(table.sweep)}}}",
        "\\medskip",
        f"\\begin{{tabular}}{{{_columns(table)}}}",
        "\\toprule",
        f"{{Bits}} & {{Arm}} & \\multicolumn{{2}}{{c}}{{{_metric_head(table)}}} & {{$n$}}"
        f" & {{BitOps{_in(bitops_unit)}}} & {{Size ({size_unit[1]}bit)}} \\\\",
        *body,
        *_published_block(table),
        "\\bottomrule",
        "\\end{tabular}",
        *_notes(footnotes),
        "\\end{table}",
    ]
    return "\n".join(lines)


def _units(table: Table) -> tuple[Unit, Unit]:
    """The largest units of BitOps and size in which no number falls below 1."""
    cells = table.cells.values()
    return (
        _unit(min((cell.bitops for cell in cells), default=1.0)),
        _unit(min((cell.size_bits for cell in cells), default=1.0)),
    )


def _unit(smallest: float) -> Unit:
    return next((one for one in _UNITS if smallest >= one[0]), _UNITS[-1])


def _decimals(unit: float) -> int:
    """Single bits have no fractions."""
    return 0 if unit == 1 else 3


def _in(unit: Unit) -> str:
    return f" ({unit[1]})" if unit[1] else ""


def _columns(table: Table) -> str:
    """Bits, arm, mean and sd side by side, n, BitOps and size: as wide as the numbers are."""
    cells = list(table.cells.values())
    (one_bitops, _), (one_size, _) = _units(table)
    decimals = shown(table.metric).decimals
    mean, sd, n, bitops, size = (
        number_column((cell.mean for cell in cells), decimals),
        number_column((cell.sd or 0.0 for cell in cells), decimals),
        number_column((cell.n for cell in cells), 0),
        number_column((cell.bitops / one_bitops for cell in cells), 3),
        number_column((cell.size_bits / one_size for cell in cells), _decimals(one_size)),
    )
    return f"l l {mean}@{{$\\,\\pm\\,$}}{sd} {n} {bitops} {size}"


def number_column(values: Iterable[float], decimals: int) -> str:
    """A column of siunitx as wide as its numbers with so many decimals."""
    found = list(values)
    digits = max((len(f"{abs(one):.{decimals}f}".partition(".")[0]) for one in found), default=1)
    sign = "-" if any(one < 0 for one in found) else ""
    return f"S[table-format={sign}{digits}.{decimals}]"


def _caption(table: Table, convention: str) -> str:
    kind = "confirmed configurations" if table.stage == "confirm" else "search, unconfirmed"
    return (
        f"{escaped(table.sweep)}: {escaped(table.question)}"
        f" {_metric_words(table)} on {table.split} ({kind}),"
        " mean $\\pm$ sample sd over $n$ seeds; best in bold, second underlined."
        f" BitOps and size: {escaped(convention)}."
    )


def _metric_head(table: Table) -> str:
    metric = shown(table.metric)
    return escaped(metric.title[:1].upper() + metric.title[1:] + metric.in_brackets)


def _metric_words(table: Table) -> str:
    title = shown(table.metric).title
    words = "top-1 accuracy" if table.metric == "top1_percent" else title
    return escaped(words[:1].upper() + words[1:])


def _label(name: str) -> str:
    """A name as a label: letters, digits and hyphens alone."""
    return "".join(one if one.isascii() and one.isalnum() else "-" for one in name)


def _blocks(table: Table) -> Iterable[str]:
    marked, units = marks(table), _units(table)
    metric = shown(table.metric)
    width = max((len(metric.number(cell.mean)) for cell in table.cells.values()), default=0)
    for allocation in table.allocations:
        yield "\\midrule"
        for arm in table.arms:
            cell = table.cells.get((arm, allocation))
            if cell is not None:
                mark = marked.get((arm, allocation))
                yield _row(cell, mark, metric=metric, width=width, units=units)
    absent = [arm for arm in table.arms if all(key[0] != arm for key in table.cells)]
    if absent:
        yield "\\midrule"
    for arm in absent:
        yield f"{{--}} & {escaped(arm)} & \\multicolumn{{5}}{{l}}{{no finished trial}} \\\\"


def _row(
    cell: Cell, mark: Mark | None, *, metric: Shown, width: int, units: tuple[Unit, Unit]
) -> str:
    spread = "{--}" if cell.sd is None else metric.number(cell.sd)
    arm = escaped(cell.arm) + ("" if cell.is_searched else "\\textdaggerdbl{}")
    numbers = (
        marked_number(metric.number(cell.mean), mark, width=width),
        spread,
        str(cell.n),
        f"{cell.bitops / units[0][0]:.3f}",
        f"{cell.size_bits / units[1][0]:.{_decimals(units[1][0])}f}",
    )
    return " & ".join((escaped(cell.allocation), arm, *numbers)) + " \\\\"


def marked_number(number: str, mark: Mark | None, *, width: int) -> str:
    """A number as siunitx aligns it; a marked one is text of the column's own width."""
    if mark is None:
        return number
    blank = f"\\phantom{{{'0' * (width - len(number))}}}" if len(number) < width else ""
    command = "\\textbf" if mark == "best" else "\\underline"
    return f"{{{blank}{command}{{{number}}}}}"


def _published_block(table: Table) -> Iterable[str]:
    if table.published:
        yield "\\midrule"
        yield "\\multicolumn{7}{l}{\\emph{Printed by papers, in their settings}} \\\\"
    for row in table.published:
        name = f"{row.method} ({row.paper}, {row.provenance})"
        wide = f"\\parbox[t]{{0.45\\linewidth}}{{\\raggedright {escaped(name)}}}"
        yield f"{escaped(row.bits)} & {wide} & {row.top1} & {{--}} & {{--}} & {{--}} & {{--}} \\\\"


def _notes(footnotes: Sequence[str]) -> list[str]:
    if not footnotes:
        return []
    shown = [f"{escaped(line)}\\par" for line in footnotes]
    return [
        "",
        "\\medskip",
        "\\begin{minipage}{\\linewidth}\\footnotesize\\raggedright",
        *shown,
        "\\end{minipage}",
    ]


def latex_rows(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows of a query as a tabular: columns of numbers to the right, text to the left."""
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    kinds = "".join("r" if _is_numeric(column) else "l" for column in columns)
    lines = [
        " & ".join("" if cell is None else escaped(str(cell)) for cell in row) for row in rows
    ]
    return "\n".join(
        [
            f"\\begin{{tabular}}{{{kinds}}}",
            "\\toprule",
            " & ".join(escaped(name) for name in names) + " \\\\",
            "\\midrule",
            *(f"{line} \\\\" for line in lines),
            "\\bottomrule",
            "\\end{tabular}",
        ]
    )


def _is_numeric(column: Sequence[Any]) -> bool:
    kept = [cell for cell in column if cell is not None]
    return bool(kept) and all(isinstance(cell, int | float) for cell in kept)
