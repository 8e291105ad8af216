"""The verbs for papers as scripts see them: files, exit codes, one line for a mistake."""

import json
from pathlib import Path

import pytest
from tests.bitsweep_suite import plugin
from tests.bitsweep_suite.plugin import bitsweep, run_sweep


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plug-in and a sweep that ran in it."""
    folder = tmp_path_factory.mktemp("made")
    plugin.install(folder)
    run_sweep(folder)
    return folder


def test_the_table_is_printed_as_latex_at_some_bits_against_an_arm(made: Path) -> None:
    done = bitsweep(
        made, "table", "toy", "--format", "latex", "--at", "w3a3", "--against", "fixed"
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "\\toprule" in done.stdout and "w2a2" not in done.stdout
    assert "declared before it was measured" in done.stdout  # as its sweep file does


def test_several_sweeps_are_blocks_and_one_list_of_rows(made: Path) -> None:
    text = bitsweep(made, "table", "toy", "toy").stdout
    rows = json.loads(bitsweep(made, "table", "toy", "--format", "json").stdout)

    assert text.count("Does it run?") == 1
    assert {row["sweep"] for row in rows} == {"toy"}


def test_published_says_that_nothing_agrees_with_a_toy(made: Path) -> None:
    assert "no paper's number agrees" in bitsweep(made, "table", "toy", "--published").stdout


def test_published_numbers_are_listed_and_filtered(made: Path) -> None:
    rows = json.loads(
        bitsweep(made, "published", "--model", "resnet20", "--bits", "w4a4", "--json").stdout
    )

    assert rows and {row["model"] for row in rows} == {"ResNet-20"}
    assert {"top1", "paper", "place", "provenance", "source"} <= set(rows[0])


def test_a_plot_and_a_report_are_written(made: Path, tmp_path: Path) -> None:
    figure, page = tmp_path / "a.svg", tmp_path / "a.html"
    drawn = bitsweep(made, "plot", "toy", "--kind", "pareto", "--output", str(figure))
    told = bitsweep(made, "report", "toy", "--output", str(page))

    assert (drawn.returncode, told.returncode) == (0, 0)
    assert figure.stat().st_size > 1000 and page.stat().st_size > 1000


def test_an_export_comes_back_with_import(made: Path, tmp_path: Path) -> None:
    file, store = str(tmp_path / "toy.csv"), str(tmp_path / "other.db")
    bitsweep(made, "export", "toy", "--output", file)
    first = json.loads(bitsweep(made, "import", file, "--store", store, "--json").stdout)
    again = json.loads(bitsweep(made, "import", file, "--store", store, "--json").stdout)

    assert first["added"]["sweeps"] == 1 and first["conflicts"] == []
    assert again == {"added": {}, "conflicts": []}


def test_a_query_answers_as_parquet_and_latex(made: Path, tmp_path: Path) -> None:
    sql = "SELECT name FROM sweeps"
    file = tmp_path / "a.parquet"
    written = bitsweep(made, "query", sql, "--format", "parquet", "--output", str(file))

    assert written.returncode == 0 and file.read_bytes()[:4] == b"PAR1"
    assert "\\begin{tabular}{l}" in bitsweep(made, "query", sql, "--format", "latex").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("plot", "tou", "--kind", "pareto", "--output", "a.svg"),
        ("plot", "toy", "--kind", "pareto", "--output", "a.gif"),
        ("plot", "toy", "--kind", "importance", "--output", "a.svg"),
        ("plot", "toy", "--kind", "pareto", "--output", "absent/a.svg"),
        ("report", "tou", "--output", "a.html"),
        ("report", "toy", "--output", "absent/a.html"),
        ("export", "toy", "--output", "a.xlsx"),
        ("export", "toy", "--output", "absent/a.csv"),
        ("import", "absent.csv"),
        ("import", "toy.toml"),
        ("table", "toy", "--at", "w9a9"),
        ("table", "toy", "--against", "nobody"),
        ("query", "SELECT 1", "--format", "parquet"),
    ],
)
def test_bad_input_ends_with_2_and_one_line(arguments: tuple[str, ...], made: Path) -> None:
    done = bitsweep(made, *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
