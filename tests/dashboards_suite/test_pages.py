"""The layouts: what they show is what analysis returns, and text stays text."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.dashboards_suite.stores import HOSTILE, reader_of, run_toy, toy_sweep

from bitsweep.analysis.render import notes, table_rows
from bitsweep.analysis.table import sweep_table
from bitsweep.store.database import open_to_write
from bitsweep_dashboards.pages import page, title
from bitsweep_dashboards.pages.overview import picker
from bitsweep_dashboards.pages.sweep import result_table
from bitsweep_dashboards.reading import (
    StoreGone,
    SweepView,
    UnknownSweep,
    read_view,
    without_password,
)


def parts(component: Any) -> Iterator[Any]:
    """A component and all below it, texts among them."""
    yield component
    below = getattr(component, "children", None)
    for child in below if isinstance(below, list) else [below]:
        if child is not None:
            yield from parts(child)


def text_of(component: Any) -> str:
    return "\n".join(str(one) for one in parts(component) if isinstance(one, str | int))


def of_type(component: Any, name: str) -> list[Any]:
    return [one for one in parts(component) if type(one).__name__ == name]


def exact_rows(table: Any) -> list[dict[str, Any]]:
    """The values that the cells carry, row by row."""
    rows = []
    for line in of_type(table, "Tr"):
        cells = [cell for cell in line.children if hasattr(cell, "data-value")]
        if cells:
            rows.append(
                {getattr(one, "data-key"): json.loads(getattr(one, "data-value")) for one in cells}
            )
    return rows


def test_the_table_holds_each_value_that_the_json_form_has(toy_store: str) -> None:
    table = sweep_table(reader_of(toy_store), "toy")
    shown = exact_rows(result_table(table))
    expected = [{key: row[key] for key in shown[0]} for row in table_rows(table)]

    assert shown == expected


def test_an_arm_without_a_finished_trial_has_its_line(toy_store: str) -> None:
    text = text_of(page(read_view(toy_store, "toy")))

    assert "bad\nno finished trial" in text


def test_the_page_shows_the_question_and_each_note(toy_store: str) -> None:
    text = text_of(page(read_view(toy_store, "toy")))
    expected = ["Does the toy work?", *notes(sweep_table(reader_of(toy_store), "toy"))]

    assert [line for line in expected if line not in text] == []


def test_each_trial_is_counted_once(toy_store: str) -> None:
    view = read_view(toy_store, "toy")
    assert isinstance(view, SweepView)
    reader = reader_of(toy_store)
    trials = {row.trial_id for row in reader.trial_rows(reader.sweep("toy").id)}

    assert sum(view.counts.values()) == len(trials)
    assert {"finished", "pruned", "failed"} <= set(view.counts)


def test_the_picker_marks_the_chosen_sweep(toy_store: str) -> None:
    view = read_view(toy_store, "toy")
    links = of_type(picker(view, chosen="toy"), "Link")

    assert [(one.href, one.className) for one in links] == [("/?sweep=toy", "chosen")]


def test_the_overview_lists_every_sweep(own_store: str) -> None:
    run_toy(Path(own_store), toy_sweep("second", "And again?"))
    text = text_of(page(read_view(own_store, None)))

    assert "toy" in text
    assert "second" in text
    assert "And again?" in text


def test_text_of_the_store_stays_text(tmp_path: Path) -> None:
    store = run_toy(tmp_path / "store.db", toy_sweep(question=HOSTILE))
    view = read_view(store, "toy")
    kinds = {type(one).__name__ for one in parts(page(view))}

    assert HOSTILE in text_of(page(view))
    assert not kinds & {"Markdown", "DangerouslySetInnerHTML", "Script", "Iframe", "Img"}


def test_an_empty_store_says_what_to_run(tmp_path: Path) -> None:
    store = str(tmp_path / "empty.db")
    open_to_write(store).dispose()
    view = read_view(store, None)

    assert title(view) == "Sweeps - bitsweep"
    assert f"bitsweep run sweeps/quickstart.toml --store {store}" in text_of(page(view))


def test_an_unknown_sweep_names_the_nearest_one(toy_store: str) -> None:
    view = read_view(toy_store, "tox")

    assert isinstance(view, UnknownSweep)
    assert "did you mean 'toy'?" in text_of(page(view))


@pytest.mark.parametrize("content", [None, b"", b"no database at all, but long enough to be one"])
def test_a_store_that_cannot_be_read_is_a_page(tmp_path: Path, content: bytes | None) -> None:
    store = tmp_path / "gone.db"
    if content is not None:
        store.write_bytes(content)
    view = read_view(str(store), "toy")

    assert isinstance(view, StoreGone)
    assert "looks again" in text_of(page(view))


def test_a_password_is_never_shown() -> None:
    store = "postgresql://ada:s3cret@127.0.0.1:1/lab"
    view = read_view(store, None)

    assert isinstance(view, StoreGone)
    assert "s3cret" not in repr(view)
    assert "s3cret" not in without_password(f"store {store!r} cannot be read", store)
