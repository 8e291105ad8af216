"""Paper tables as LaTeX: aligned, escaped, complete, and accepted by a real TeX."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bitsweep_suite.tables import THREE, cell, table
from tests.real_parts import missing

from bitsweep.analysis.grid import Source, grids
from bitsweep.analysis.grid_text import render_grids
from bitsweep.analysis.latex import PREAMBLE, escaped, latex_rows
from bitsweep.analysis.render import render
from bitsweep.store.history import Setting

HOSTILE = r"50% of $x_1$ & \input{/etc/passwd} #1 {a} ~ ^ <b> |c| 'd' `e` \"f\" -- fi"


def test_each_sign_that_latex_reads_as_a_command_is_escaped() -> None:
    assert escaped("a_b & 5% #1 {x} $y$") == "a\\_b \\& 5\\% \\#1 \\{x\\} \\$y\\$"
    assert escaped("\\input") == "\\textbackslash{}input"


def test_greek_is_mathematics_and_what_the_fonts_lack_is_named() -> None:
    assert escaped("\u03bb\u03a3") == "\\ensuremath{\\lambda}\\ensuremath{\\Sigma}"
    assert escaped("\u4e2d") == "[U+4E2D]"
    assert escaped("caf\u00e9") == "caf\u00e9"


@given(st.text())
def test_no_text_leaves_an_open_brace_or_a_comment(text: str) -> None:
    plain = escaped(text).replace("\\{", "").replace("\\}", "")

    assert plain.count("{") == plain.count("}")
    assert "%" not in plain.replace("\\%", "") and "\n" not in plain


def test_the_best_is_bold_and_the_second_underlined_within_each_bit_width() -> None:
    text = render(THREE, "latex")

    assert "w2a2 & b & {\\textbf{86.00}} & 1.41" in text
    assert "w2a2 & a & {\\underline{81.00}} & 1.41" in text
    assert "w2a2 & c & 10.00 & 1.41" in text


def test_an_arm_alone_at_its_bits_bears_no_mark() -> None:
    assert "w3a3 & a & 90.50 & 0.71 & 2 & 1.234 & 1.235" in render(THREE, "latex")


def test_arms_that_tie_for_the_best_are_both_bold_and_none_is_second() -> None:
    tied = table(*(cell(arm, "w2a2", (800, 820)) for arm in "ab"), cell("c", "w2a2", (700, 700)))
    text = render(tied, "latex")

    assert text.count("\\textbf") == 2 and "\\underline" not in text


def test_markdown_bears_the_same_marks_and_text_bears_none() -> None:
    assert "| **86.00** \u00b1 1.41 |" in render(THREE, "markdown")
    assert "| <ins>81.00</ins> \u00b1 1.41 |" in render(THREE, "markdown")
    assert "*" not in render(THREE, "text")


def test_the_caption_states_the_convention_and_footnotes_what_failed() -> None:
    failed = table(*THREE.cells.values(), footnotes=("failed: a w2a2 seed 3: out_of_memory",))
    text = render(failed, "latex")

    assert "first and last layer counted at 8 bits" in text.partition("\\begin{tabular}")[0]
    assert "out\\_of\\_memory" in text.partition("\\end{tabular}")[2]


def test_an_arm_without_a_finished_trial_has_a_row_that_says_so() -> None:
    lost = table(*THREE.cells.values(), arms=("a", "b", "c", "lost"))

    assert "lost & \\multicolumn{5}{l}{no finished trial}" in render(lost, "latex")


def compiled(folder: Path, body: str) -> str:
    """The text of the page that pdflatex makes of the body; it must not complain."""
    tools = [shutil.which(name) for name in ("pdflatex", "pdftotext")]
    styles = Path("/usr/share/texlive/texmf-dist/tex/latex/siunitx/siunitx.sty")
    fonts = Path("/usr/share/texmf/tex/latex/lm/lmodern.sty")
    if None in tools or not (styles.exists() and fonts.exists()):
        missing("no pdflatex with siunitx, or no pdftotext: make system-packages")
    head = f"\\documentclass{{article}}\n\\usepackage{{lmodern}}\n{PREAMBLE}"
    head += "\\input{glyphtounicode}\\pdfgentounicode=1\n"
    source = f"{head}\\begin{{document}}\n{body}\n\\end{{document}}"
    (folder / "page.tex").write_text(source, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    reader = ["pdftotext", "-layout", "page.pdf", "-"]
    return subprocess.run(reader, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.real
def test_the_table_compiles_and_the_page_says_what_the_table_says(tmp_path: Path) -> None:
    page = compiled(tmp_path, render(THREE, "latex"))
    words = page.split()

    assert all(number in words for number in ("86.00", "81.00", "10.00", "90.50"))
    assert "BitOps" in words and "first and last layer" in " ".join(words)


@pytest.mark.real
def test_hostile_names_compile_and_are_printed_as_they_stand(tmp_path: Path) -> None:
    odd = table(cell(HOSTILE[:14], "w2a2", (1000, 1000)), sweep=HOSTILE, footnotes=(HOSTILE,))
    page = " ".join(compiled(tmp_path, render(odd, "latex")).split())

    assert "50% of $x_1$ & \\input{/etc/passwd} #1 {a}" in page


@pytest.mark.real
def test_a_grid_compiles_and_names_what_is_missing(tmp_path: Path) -> None:
    bits = ("w2a2", "w3a3", "w4a4", "w8a8")
    cells = [cell(arm, at, (900, 910, 905)) for arm in ("lsq", "50% & co") for at in bits[:3]]
    wide = table(*cells, cell("lsq", "w8a8", (95,)), missing={("50% & co", "w8a8"): "diverged"})
    setting = Setting(data="a_b", model="net", epochs=4)
    made = grids([Source(table=wide, settings=(setting,), store="a.db")], rows="arms")
    page = compiled(tmp_path, render_grids(made, "latex"))
    words = " ".join(page.split())

    assert all(label in words for label in bits)
    assert "90.50" in words and "(3)" in words and "9.50" in words
    assert "50% & co" in words and "diverged" in words


@pytest.mark.real
def test_rows_of_a_query_compile(tmp_path: Path) -> None:
    page = compiled(tmp_path, latex_rows(["name", "n"], [("a_b", 1), (None, None)]))

    assert "a_b" in page
