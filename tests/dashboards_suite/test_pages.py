"""The layouts: what they show is what analysis returns, and text stays text."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.bitsweep_suite.rules import rules_store
from tests.dashboards_suite.layouts import exact_rows, of_type, parts, text_of
from tests.dashboards_suite.stores import HOSTILE, reader_of, run_toy, toy_sweep

from bitsweep.analysis.render import notes, render, table_rows
from bitsweep.analysis.table import sweep_table
from bitsweep.store.asking import ask
from bitsweep.store.database import open_to_write
from bitsweep_dashboards.address import parse_place
from bitsweep_dashboards.examples import EXAMPLES
from bitsweep_dashboards.pages import page, title
from bitsweep_dashboards.pages.result_table import result_table
from bitsweep_dashboards.reading import Library, without_password
from bitsweep_dashboards.views import (
    CompareView,
    LayersView,
    NotThere,
    OneTrial,
    Overview,
    SpaceView,
    SqlView,
    StoreGone,
    SweepView,
)


def shown(store: str, address: str) -> tuple[Any, Any]:
    """The view of an address, and its layout."""
    path, _, search = address.partition("?")
    place = parse_place(path, search)
    view = Library(store).view(place)
    return view, page(view, place)


def test_the_table_holds_each_value_that_the_json_form_has(toy_store: str) -> None:
    table = sweep_table(reader_of(toy_store), "toy")
    cells = exact_rows(result_table(table))
    expected = [{key: row[key] for key in cells[0]} for row in table_rows(table)]

    assert cells == expected


def test_an_arm_without_a_finished_trial_has_its_line(toy_store: str) -> None:
    _, layout = shown(toy_store, "/sweep/toy")

    assert "bad\nno finished trial" in text_of(layout)


def test_the_page_shows_the_question_each_note_and_the_latex(toy_store: str) -> None:
    table = sweep_table(reader_of(toy_store), "toy")
    text = text_of(shown(toy_store, "/sweep/toy")[1])
    expected = ["Does the toy work?", *notes(table), render(table, "latex")]

    assert [line for line in expected if line not in text] == []


def test_a_declared_comparison_of_rules_stands_on_the_page(tmp_path: Path) -> None:
    text = text_of(shown(str(rules_store(tmp_path)), "/sweep/toy")[1])

    assert "fixed at policy:learned@0.2 - fixed at policy:shuffled@0.2: +2.50" in text


def test_each_trial_is_counted_once(toy_store: str) -> None:
    view, _ = shown(toy_store, "/sweep/toy")
    assert isinstance(view, SweepView)
    reader = reader_of(toy_store)
    trials = {row.trial_id for row in reader.trial_rows(reader.sweep("toy").id)}

    assert sum(view.activity.counts.values()) == len(trials)
    assert {"finished", "pruned", "failed"} <= set(view.activity.counts)


def test_a_failure_stands_with_its_reason(toy_store: str) -> None:
    view, layout = shown(toy_store, "/sweep/toy?trials=failed")

    assert isinstance(view, SweepView)
    assert {row.status for row in view.trials.rows} == {"failed"}
    assert "the toy was told to fail" in text_of(layout)


def test_trials_are_sorted_and_filtered_by_the_address(toy_store: str) -> None:
    view, layout = shown(toy_store, "/sweep/toy?arm=b&sort=-epochs&page=1")
    assert isinstance(view, SweepView)
    epochs = [row.last_epoch or 0 for row in view.trials.rows]
    heads = [one for one in of_type(layout, "Th") if hasattr(one, "aria-sort")]

    assert {row.arm for row in view.trials.rows} == {"b"}
    assert epochs == sorted(epochs, reverse=True) and len(set(epochs)) > 1
    assert {text_of(one): getattr(one, "aria-sort") for one in heads}["epochs"] == "descending"
    assert [getattr(one, "aria-sort") for one in heads].count("none") == len(heads) - 1


def test_a_columns_name_leads_up_then_down_then_back(toy_store: str) -> None:
    address, seen = "/sweep/toy?bits=w2a2", []
    for _ in range(3):
        links = of_type(shown(toy_store, address)[1], "A")
        address = next(one.href for one in links if text_of(one) == "seed")
        seen.append(address)

    assert seen == [
        "/sweep/toy?bits=w2a2&sort=seed",
        "/sweep/toy?bits=w2a2&sort=-seed",
        "/sweep/toy?bits=w2a2",
    ]


def test_bits_and_arms_are_picked_by_the_address(toy_store: str) -> None:
    view, _ = shown(toy_store, "/sweep/toy?bits=w3a3&hide=a")

    assert isinstance(view, SweepView)
    assert view.table.allocations == ("w3a3",)
    assert "a" not in view.table.arms
    assert {arm for arm, _ in view.table.cells} == {"b"}
    assert view.command.startswith("bitsweep table toy --at w3a3")


def test_the_overview_lists_every_sweep_with_its_best(own_store: str) -> None:
    run_toy(Path(own_store), toy_sweep("second", "And again?"))
    view, layout = shown(own_store, "/")
    text = text_of(layout)

    assert isinstance(view, Overview)
    assert {"toy", "second", "And again?"} <= set(text.splitlines())
    assert view.sweeps[0].best is not None
    assert view.sweeps[0].best.text in text


def test_arms_of_two_sweeps_are_compared_on_common_seeds(own_store: str) -> None:
    run_toy(Path(own_store), toy_sweep("second", "And again?"))
    view, layout = shown(own_store, "/compare?arm=toy/a&arm=second/b&against=toy/a")

    assert isinstance(view, CompareView)
    assert view.across is not None
    assert {one.result.n for one in view.across.contrasts} == {3}
    assert "second / b" in text_of(layout)


@pytest.mark.parametrize(
    ("address", "kind", "said"),
    [
        ("/space/toy", SpaceView, "Parallel coordinates"),
        ("/space/toy?arm=b&bits=w3a3", SpaceView, "finished configurations of b at w3a3"),
        ("/layers/toy?arm=a", LayersView, "Bits per layer over epochs"),
        ("/sql?q=SELECT+1+AS+one", SqlView, "1 rows; "),
        ("/sql?q=DELETE+FROM+trials", SqlView, "readonly"),
        ("/sql?q=nonsense", SqlView, "the query failed"),
        ("/compare", CompareView, "all arms of toy"),
    ],
)
def test_each_page_has_its_view(toy_store: str, address: str, kind: type, said: str) -> None:
    view, layout = shown(toy_store, address)

    assert isinstance(view, kind)
    assert said in text_of(layout)


def test_a_trial_is_found_by_the_first_digits_of_its_id(toy_store: str) -> None:
    reader = reader_of(toy_store)
    row = next(one for one in reader.trial_rows(reader.sweep("toy").id) if one.arm == "b")
    view, layout = shown(toy_store, f"/trial/{row.trial_id[:12]}")

    assert isinstance(view, OneTrial)
    assert view.trial.trial.id == row.trial_id
    assert f"--trial {row.trial_id[:12]}" in text_of(layout)


def test_a_trial_shows_the_end_of_its_log_or_says_who_can_read_it(
    toy_store: str, own_store: str
) -> None:
    reader = reader_of(toy_store)
    row = next(one for one in reader.trial_rows(reader.sweep("toy").id) if one.arm == "bad")
    here, elsewhere = (
        text_of(shown(one, f"/trial/{row.trial_id}")[1]) for one in (toy_store, own_store)
    )

    assert "RuntimeError: the toy was told to fail" in here
    assert f"bitsweep logs {row.trial_id[:12]} --workspaces PLACE" in elsewhere
    assert "told to fail" not in elsewhere.partition("Log")[2]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("/sweep/tox", "did you mean 'toy'?"),
        ("/space/tox", "did you mean 'toy'?"),
        ("/sweep/toy?bits=w9a9", "nothing at 'w9a9'"),
        ("/sweep/toy?hide=nobody", "no arm 'nobody'"),
        ("/sweep/toy?page=0", "expected a whole number"),
        ("/sweep/toy?page=%F0%9F%92%A9", "expected a whole number"),
        ("/sweep/toy?split=training", "expected one of validation, test"),
        ("/sweep/toy?trials=%3Cscript%3E", "expected one of"),
        ("/sweep/toy?sort=--seed", "expected one of trial, status"),
        ("/sweep/toy?arm=nobody", "expected one of"),
        ("/space/toy?arm=nobody", "no searched arm"),
        ("/layers/toy?bits=w9a9", "is no bits of"),
        ("/layers/toy?lambda=many", "expected a number"),
        ("/compare?arm=nothing", "expected SWEEP/ARM"),
        ("/trial/zzz", "no trial's id begins"),
        ("/trial/%20", "first digits"),
        ("/nowhere/at/all", "There is no page"),
        ("/sweep", "There is no page"),
    ],
)
def test_what_is_not_there_is_a_page_that_says_so(toy_store: str, address: str, said: str) -> None:
    view, layout = shown(toy_store, address)

    assert isinstance(view, NotThere)
    assert said in text_of(layout)
    assert "All sweeps" in text_of(layout)


@pytest.mark.parametrize("path", ["/", "/sweep/toy", "/compare", "/space/toy", "/layers/toy"])
def test_text_of_the_store_stays_text(tmp_path: Path, path: str) -> None:
    store = run_toy(tmp_path / "store.db", toy_sweep(question=HOSTILE))
    _, layout = shown(store, path)
    kinds = {type(one).__name__ for one in parts(layout)}

    assert HOSTILE in text_of(layout) or path == "/compare"
    assert not kinds & {"Markdown", "DangerouslySetInnerHTML", "Script", "Iframe", "Img"}


def test_an_empty_store_says_what_to_run(tmp_path: Path) -> None:
    store = str(tmp_path / "empty.db")
    open_to_write(store).dispose()
    view, layout = shown(store, "/")

    assert title(view) == "Sweeps - bitsweep"
    assert f"bitsweep run sweeps/quickstart.toml --store {store}" in text_of(layout)


@pytest.mark.parametrize("content", [None, b"", b"no database at all, but long enough to be one"])
def test_a_store_that_cannot_be_read_is_a_page(tmp_path: Path, content: bytes | None) -> None:
    store = tmp_path / "gone.db"
    if content is not None:
        store.write_bytes(content)
    view, layout = shown(str(store), "/sweep/toy")

    assert isinstance(view, StoreGone)
    assert "looks again" in text_of(layout)


def test_a_store_of_an_older_version_says_how_to_upgrade(tmp_path: Path) -> None:
    store = tmp_path / "old.db"
    with sqlite3.connect(store) as connection:
        connection.executescript("CREATE TABLE measurements (id); CREATE TABLE sweeps (id)")
    view, layout = shown(str(store), "/")

    assert isinstance(view, StoreGone)
    assert "older version" in view.message
    assert "bitsweep store upgrade" in text_of(layout)


def test_the_examples_are_those_of_the_documentation(toy_store: str) -> None:
    documented = (Path(__file__).parents[2] / "docs" / "queries.md").read_text("utf-8")

    assert len(EXAMPLES) == 10
    assert [title for title, _ in EXAMPLES if f". {title}\n" not in documented] == []
    assert [title for title, sql in EXAMPLES if sql not in documented] == []
    for _, sql in EXAMPLES:
        ask(toy_store, sql, limit=10, timeout_seconds=10)


def test_a_password_is_never_shown() -> None:
    store = "postgresql://ada:s3cret@127.0.0.1:1/lab"
    view, _ = shown(store, "/")

    assert isinstance(view, StoreGone)
    assert "s3cret" not in repr(view)
    assert "s3cret" not in without_password(f"store {store!r} cannot be read", store)


def test_every_link_leads_to_a_page(toy_store: str) -> None:
    seen: set[str] = set()
    todo = ["/", "/compare", "/sql"]
    while todo and len(seen) < 50:
        address = todo.pop(0)
        seen.add(address)
        view, layout = shown(toy_store, address)
        assert not isinstance(view, NotThere | StoreGone), address
        found = {str(one.href) for one in of_type(layout, "A") if not hasattr(one, "download")}
        todo += sorted(found - seen - set(todo))

    assert any(address.startswith("/trial/") for address in seen)


def test_decimal_points_of_an_answer_stand_below_each_other(toy_store: str) -> None:
    sql = "SELECT 83.9 AS a, 1e-9 AS b, 1 AS c UNION ALL SELECT 83.85, 2.5, 22"
    _, layout = shown(toy_store, f"/sql?q={sql.replace(' ', '+')}")
    cells = [text_of(one) for one in of_type(layout, "Td")]

    assert cells == ["83.90", "1e-09", "1", "83.85", "2.5", "22"]
