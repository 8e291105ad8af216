"""Results in and out: lossless, idempotent, and differing facts are told, never overwritten."""

from pathlib import Path
from typing import Any

import pandas
import pytest
from tests.bitsweep_suite.toys import (
    FIXED,
    SEARCHED,
    STARTED,
    acting,
    ask_store,
    evaluation,
    measurement,
    run_toy,
    toy_sweep,
)

from bitsweep.analysis.render import render
from bitsweep.analysis.table import sweep_table
from bitsweep.cost import SampleCosts
from bitsweep.errors import InputError, StoreError, UnknownName
from bitsweep.exchange import export_sweeps, import_results, write_rows
from bitsweep.store.database import open_to_read, open_to_write
from bitsweep.store.reader import Reader
from bitsweep.store.transfer import CARRIED, store_rows
from bitsweep.store.writer import Writer
from bitsweep.sweep import Comparison

COMPARED = toy_sweep(
    SEARCHED,
    FIXED,
    acting("raise"),
    task=STARTED,
    comparisons=(Comparison(arm="a", against="fixed", at=STARTED.bits[0]),),
)
SUFFIXES = pytest.mark.parametrize("suffix", [".csv", ".parquet"])
# Ids, and what is made of them.
LOCAL = {"id", "allocation_id", "model_id", "arm_id", "sweep_id", "configuration_id"}
LOCAL |= {"provenance_id"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store of a finished sweep; tests only read."""
    folder = tmp_path_factory.mktemp("made")
    run_toy(COMPARED, folder)
    return folder


def reading(path: Path) -> Reader:
    """A reader of the store."""
    return Reader(open_to_read(str(path)))


def content(path: Path) -> dict[str, list[str]]:
    """Every row of a store without the ids that are its own."""
    reader = reading(path)
    rows = store_rows(reader)
    reader.close()
    names = {
        table.name: sorted(
            str({k: v for k, v in row.items() if k not in LOCAL}) for row in rows[table.name]
        )
        for table in CARRIED
    }
    for row in rows["allocations"]:
        del row["digest"]
    names["allocations"] = sorted(row["label"] for row in rows["allocations"])
    return names


def printed(path: Path, form: Any = "text") -> str:  # a Format
    """The table of the sweep in a store."""
    reader = reading(path)
    try:
        return render(sweep_table(reader, "toy"), form)
    finally:
        reader.close()


def exported(folder: Path, output: Path) -> int:
    """Export the sweep of the folder's store."""
    reader = reading(folder / "store.db")
    try:
        return export_sweeps(reader, ["toy"], output)
    finally:
        reader.close()


@SUFFIXES
def test_a_sweep_comes_back_as_it_was(suffix: str, made: Path, tmp_path: Path) -> None:
    exported(made, tmp_path / f"toy{suffix}")
    done = import_results(tmp_path / f"toy{suffix}", str(tmp_path / "other.db"))

    assert done.conflicts == []
    assert content(tmp_path / "other.db") == content(made / "store.db")
    assert printed(tmp_path / "other.db") == printed(made / "store.db")


def test_a_sweep_goes_through_either_kind_of_store(made: Path, store: str, tmp_path: Path) -> None:
    exported(made, tmp_path / "first.parquet")
    import_results(tmp_path / "first.parquet", store)
    reader = Reader(open_to_read(store))
    export_sweeps(reader, ["toy"], tmp_path / "second.parquet")
    reader.close()
    import_results(tmp_path / "second.parquet", str(tmp_path / "other.db"))

    assert content(tmp_path / "other.db") == content(made / "store.db")


def test_a_store_is_imported_by_its_address(made: Path, store: str, tmp_path: Path) -> None:
    import_results(made / "store.db", store)
    first = import_results(store, str(tmp_path / "other.db"))
    again = import_results(store, str(tmp_path / "other.db"))

    assert first.added["measurements"] and content(tmp_path / "other.db") == content(
        made / "store.db"
    )
    assert (again.added, again.conflicts) == ({}, [])


def test_an_export_without_a_name_is_of_all_sweeps(made: Path, tmp_path: Path) -> None:
    reader = reading(made / "store.db")
    whole = export_sweeps(reader, [], tmp_path / "all.parquet")
    named = export_sweeps(reader, ["toy", "toy"], tmp_path / "toy.parquet")
    reader.close()
    import_results(tmp_path / "all.parquet", str(tmp_path / "other.db"))

    assert whole == named > 0
    assert content(tmp_path / "other.db") == content(made / "store.db")


def test_an_export_that_fails_leaves_the_former_file(made: Path, tmp_path: Path) -> None:
    exported(made, tmp_path / "toy.csv")
    before = (tmp_path / "toy.csv").read_bytes()
    reader = reading(made / "store.db")
    with pytest.raises(UnknownName):
        export_sweeps(reader, ["toy", "toi"], tmp_path / "toy.csv")
    reader.close()

    assert (tmp_path / "toy.csv").read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["toy.csv"]


@SUFFIXES
def test_an_import_done_twice_changes_nothing(suffix: str, made: Path, tmp_path: Path) -> None:
    exported(made, tmp_path / f"toy{suffix}")
    other = tmp_path / "other.db"
    import_results(tmp_path / f"toy{suffix}", str(other))
    before = content(other)
    again = import_results(tmp_path / f"toy{suffix}", str(other))

    assert (again.added, again.conflicts) == ({}, [])
    assert content(other) == before


def test_an_import_into_where_it_came_from_changes_nothing(made: Path, tmp_path: Path) -> None:
    exported(made, tmp_path / "toy.parquet")
    done = import_results(tmp_path / "toy.parquet", str(made / "store.db"))

    assert (done.added, done.conflicts) == ({}, [])


@SUFFIXES
def test_other_tools_read_the_rows(suffix: str, made: Path, tmp_path: Path) -> None:
    path = tmp_path / f"toy{suffix}"
    number = exported(made, path)
    frame = pandas.read_csv(path, skiprows=1) if suffix == ".csv" else pandas.read_parquet(path)
    (count,) = ask_store(made, "SELECT COUNT(*), SUM(correct) FROM measurements")

    assert (len(frame), frame["correct"].sum()) == count and number == count[0]
    assert {"a", "fixed"} <= set(frame["arms"])


def test_two_stores_merge_and_a_shared_trial_stands_once(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    run_toy(toy_sweep(FIXED), tmp_path / "one")
    run_toy(toy_sweep(FIXED, SEARCHED, name="other"), tmp_path / "two")
    import_results(tmp_path / "two" / "store.db", str(tmp_path / "one" / "store.db"))
    trials = {row for (row,) in ask_store(tmp_path / "two", "SELECT id FROM trials")}
    merged = ask_store(tmp_path / "one", "SELECT id FROM trials")

    assert sorted(trials) == sorted(row for (row,) in merged)
    assert set(ask_store(tmp_path / "one", "SELECT name FROM sweeps")) == {("toy",), ("other",)}


def store_of_one(
    path: Path,
    correct: int,
    sweep_text: str = "name = 'toy'",
    *,
    costs: SampleCosts | None = None,
    answers: bytes | None = None,
) -> str:
    """A store with one evaluation of one trial; return the trial."""
    from tests.bitsweep_suite.toys import LAYERS, toy_trial

    writer = Writer(open_to_write(str(path)))
    sweep = toy_sweep(FIXED, text=sweep_text)
    sweep_id, (arm_id,) = writer.register_sweep(sweep, [(FIXED, "digest")])
    trial = toy_trial()
    writer.add_trial(trial, layers=LAYERS, sweep_id=sweep_id, stage="confirm", arm_id=arm_id)
    one = measurement(correct, split="test", sample_costs=costs, answers=answers)
    writer.record(trial.id, evaluation(1, one))
    writer.close()
    return trial.id


def test_other_numbers_are_kept_aside_and_told_once(tmp_path: Path) -> None:
    trial_id = store_of_one(tmp_path / "store.db", 700)
    store_of_one(tmp_path / "other.db", 701)
    first = import_results(tmp_path / "other.db", str(tmp_path / "store.db"))
    again = import_results(tmp_path / "other.db", str(tmp_path / "store.db"))

    assert len(first.conflicts) == len(again.conflicts) == 1
    assert trial_id[:12] in first.conflicts[0]
    assert ask_store(tmp_path, "SELECT correct FROM measurements") == [(700,)]
    assert ask_store(tmp_path, "SELECT COUNT(*) FROM conflicts") == [(1,)]


def test_a_sweep_of_the_same_name_with_another_text_is_told(tmp_path: Path) -> None:
    store_of_one(tmp_path / "store.db", 700)
    store_of_one(tmp_path / "other.db", 700, "name = 'toy' # edited")
    done = import_results(tmp_path / "other.db", str(tmp_path / "store.db"))

    assert done.conflicts == ["sweeps toy: differs in text_sha256; what stands is kept"]


def test_costs_per_sample_come_along(tmp_path: Path) -> None:
    costs = SampleCosts(points=((12.5, 400), (25.0, 600)))
    store_of_one(tmp_path / "store.db", 700, costs=costs)
    import_results(tmp_path / "store.db", str(tmp_path / "other.db"))
    again = import_results(tmp_path / "store.db", str(tmp_path / "other.db"))

    assert ask_store(tmp_path, "SELECT * FROM sample_costs") == [(1, 12.5, 400), (1, 25.0, 600)]
    assert content(tmp_path / "other.db") == content(tmp_path / "store.db")
    assert not again.conflicts


ANSWERS = b"\x81" + bytes(124)  # the first and the eighth of a thousand


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".db"])
def test_answers_per_image_come_along_whatever_the_way(suffix: str, tmp_path: Path) -> None:
    store_of_one(tmp_path / "store.db", 2, answers=ANSWERS)
    if suffix != ".db":
        exported(tmp_path, tmp_path / f"store{suffix}")
    import_results(tmp_path / f"store{suffix}", str(tmp_path / "other.db"))
    again = import_results(tmp_path / f"store{suffix}", str(tmp_path / "other.db"))

    assert ask_store(tmp_path, "SELECT bits FROM answers", name="other.db") == [(ANSWERS,)]
    assert content(tmp_path / "other.db") == content(tmp_path / "store.db")
    assert (again.added, again.conflicts) == ({}, [])


def test_answers_come_to_a_store_that_has_the_counts_alone(tmp_path: Path) -> None:
    store_of_one(tmp_path / "store.db", 2)
    store_of_one(tmp_path / "other.db", 2, answers=ANSWERS)
    done = import_results(tmp_path / "other.db", str(tmp_path / "store.db"))

    assert (done.added, done.conflicts) == ({"answers": 1}, [])
    assert ask_store(tmp_path, "SELECT bits FROM answers") == [(ANSWERS,)]


def test_answers_to_other_counts_are_left_out(tmp_path: Path) -> None:
    store_of_one(tmp_path / "store.db", 3)
    store_of_one(tmp_path / "other.db", 2, answers=ANSWERS)
    done = import_results(tmp_path / "other.db", str(tmp_path / "store.db"))

    assert len(done.conflicts) == 1
    assert ask_store(tmp_path, "SELECT COUNT(*) FROM answers") == [(0,)]


def test_other_answers_are_told_and_what_stands_is_kept(tmp_path: Path) -> None:
    store_of_one(tmp_path / "store.db", 2, answers=ANSWERS)
    store_of_one(tmp_path / "other.db", 2, answers=b"\x82" + bytes(124))
    done = import_results(tmp_path / "other.db", str(tmp_path / "store.db"))

    assert "answers per image differ" in done.conflicts[0]
    assert ask_store(tmp_path, "SELECT bits FROM answers") == [(ANSWERS,)]


def test_other_costs_per_sample_are_a_conflict(tmp_path: Path) -> None:
    for name, count in (("store.db", 400), ("other.db", 401)):
        costs = SampleCosts(points=((12.5, count), (25.0, 1000 - count)))
        store_of_one(tmp_path / name, 700, costs=costs)

    assert len(import_results(tmp_path / "other.db", str(tmp_path / "store.db")).conflicts) == 1


@pytest.mark.parametrize(
    ("name", "body"),
    [("a.csv", "x,y\n1,2\n"), ("a.csv", "#bitsweep {"), ("a.parquet", "no"), ("a.db", "no")],
)
def test_any_other_file_is_refused(name: str, body: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(body, encoding="utf-8")

    with pytest.raises((InputError, StoreError)):
        import_results(tmp_path / name, str(tmp_path / "store.db"))


def test_an_export_has_a_name_that_tells_its_form(made: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.parquet or \.csv"):
        exported(made, tmp_path / "toy.xlsx")


def test_an_export_whose_rows_refer_to_nothing_changes_nothing(made: Path, tmp_path: Path) -> None:
    exported(made, tmp_path / "toy.csv")
    body = (tmp_path / "toy.csv").read_text(encoding="utf-8")
    (tmp_path / "toy.csv").write_text(body.replace('"model_id": 1', '"model_id": 77'), "utf-8")

    with pytest.raises(StoreError, match="nothing was merged"):
        import_results(tmp_path / "toy.csv", str(tmp_path / "other.db"))
    assert ask_store(tmp_path, "SELECT COUNT(*) FROM sweeps", name="other.db") == [(0,)]


def test_rows_of_a_query_become_parquet(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.parquet", ["name", "n"], [("x", 1), (None, 2)])

    assert pandas.read_parquet(tmp_path / "a.parquet")["n"].tolist() == [1, 2]


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="stands twice"):
        write_rows(tmp_path / "a.parquet", ["n", "n"], [(1, 2)])
