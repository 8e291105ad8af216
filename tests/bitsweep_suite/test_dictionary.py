"""The data dictionary is what the schema says, and each table says what it is."""

from pathlib import Path

from sqlalchemy import inspect

from bitsweep.store.database import open_to_write
from bitsweep.store.dictionary import dictionary
from bitsweep.store.schema import metadata
from bitsweep.store.views import VIEWS

DOCUMENT = Path(__file__).parents[2] / "docs" / "data-dictionary.md"


def test_the_committed_dictionary_is_the_one_that_the_schema_makes() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == dictionary(), "run make docs"


def test_every_table_says_what_it_is() -> None:
    assert [table.name for table in metadata.sorted_tables if not table.comment] == []


def test_the_dictionary_names_every_table_and_view_of_a_migrated_store(tmp_path: Path) -> None:
    engine = open_to_write(str(tmp_path / "store.db"))
    found = inspect(engine)
    names = {*found.get_table_names(), *found.get_view_names()} - {"alembic_version"}
    engine.dispose()

    assert names == {*metadata.tables, *VIEWS}
    assert all(f"\n### {name}\n" in dictionary() for name in names)
