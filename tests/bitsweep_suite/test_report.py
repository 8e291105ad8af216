"""The report: one page with all of a sweep, whose texts are shown and never executed."""

import re
from pathlib import Path

import pytest
from tests.bitsweep_suite.toys import FIXED, SEARCHED, STARTED, acting, run_toy, toy_sweep

from bitsweep.errors import UnknownName
from bitsweep.report import sweep_report
from bitsweep.store.database import open_to_read
from bitsweep.store.reader import Reader

HOSTILE = "<script>alert(1)</script> & '; DROP TABLE trials; -- \u00e9\u4e2d"


def page_of(folder: Path) -> str:
    """The report on the folder's sweep."""
    reader = Reader(open_to_read(str(folder / "store.db")))
    try:
        return sweep_report(reader, "toy")
    finally:
        reader.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report on a sweep in which one arm failed and whose question is hostile."""
    folder = tmp_path_factory.mktemp("made")
    run_toy(toy_sweep(SEARCHED, FIXED, acting("raise"), task=STARTED, question=HOSTILE), folder)
    return page_of(folder)


def test_the_page_holds_every_part(page: str) -> None:
    titles = re.findall(r"<h2>(.*?)</h2>", page)

    assert titles == [
        "Table",
        "Accuracy against BitOps",
        "Learning curves",
        "Bits per layer",
        "What mattered in the search",
        "Arms",
        "Trials",
        "Provenance",
        "Again",
    ]
    assert "RuntimeError: the toy was told to fail" in page
    assert "name = &#x27;toy&#x27;" in page


def test_the_page_needs_nothing_from_outside_and_runs_nothing(page: str) -> None:
    links = re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"')>\s]+)", page)

    assert [one for one in links if not one.startswith(("#", "data:"))] == []
    assert "<script" not in page


def test_hostile_text_is_shown_as_it_stands(page: str) -> None:
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#x27;; DROP TABLE trials" in page


def test_ids_of_different_figures_do_not_meet(page: str) -> None:
    found = re.findall(r"\bid=\"([^\"]+)\"", page)

    assert len(found) == len(set(found))


def test_a_sweep_in_which_all_failed_has_a_page_that_says_so(tmp_path: Path) -> None:
    run_toy(toy_sweep(acting("raise")), tmp_path)
    page = page_of(tmp_path)

    assert "no finished trial" in page and "<svg" not in page


def test_an_unknown_sweep_has_no_page(tmp_path: Path) -> None:
    run_toy(toy_sweep(FIXED, name="other"), tmp_path)

    with pytest.raises(UnknownName, match="no sweep is named 'toy'"):
        page_of(tmp_path)
