"""The data dictionary as Markdown, made from the comments of the schema: `make docs` writes it."""

from collections.abc import Iterable

from sqlalchemy import Column, Table

from bitsweep.store.schema import metadata
from bitsweep.store.views import VIEW_COLUMNS, VIEW_PURPOSES, VIEWS

_HEAD = """# Data dictionary

Generated from the schema's own comments by `make docs`; do not edit it by hand. Ready-made
questions are in [queries.md](queries.md).

Times are ISO 8601 text in UTC, sizes in bits, durations in seconds. Counts and sums are raw facts:
percents and means are derived in views and tables. BitOps and sizes stand once per convention:
`body` (body layers only), `whole_ends8` (whole network, first and last layer at 8 bits, or at
what they run at where that is more), `whole_ends32` (the same at 32 bits), `whole_agent`
(`whole_ends8` and the agent).
"""


def dictionary() -> str:
    """Every table with its columns, then every view with its columns and definition."""
    tables = [line for table in metadata.sorted_tables for line in _table(table)]
    views = [line for name, text in VIEWS.items() for line in _view(name, text)]
    return "\n".join([_HEAD, "## Tables", *tables, "", "## Views", *views]) + "\n"


def _table(table: Table) -> Iterable[str]:
    yield f"\n### {table.name}\n"
    yield f"{_sentence(table.comment or '')}\n"
    yield "| column | type | key | meaning |"
    yield "| --- | --- | --- | --- |"
    for column in table.columns:
        meaning = (column.comment or "").replace("|", "\\|")
        kind = str(column.type).lower()
        kind += " or empty" if column.nullable else ""
        yield f"| {column.name} | {kind} | {_key(column)} | {meaning} |"


def _key(column: Column[object]) -> str:
    targets = [f"refers to {one.target_fullname}" for one in column.foreign_keys]
    return ", ".join((["primary"] if column.primary_key else []) + targets)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _view(name: str, text: str) -> Iterable[str]:
    yield f"\n### {name}\n"
    yield f"{_sentence(VIEW_PURPOSES[name])}\n"
    yield "| column | meaning |"
    yield "| --- | --- |"
    for column, meaning in VIEW_COLUMNS[name].items():
        yield f"| {column} | {meaning} |"
    yield f"\n```sql\n{text.strip()}\n```"


if __name__ == "__main__":
    print(dictionary(), end="")
