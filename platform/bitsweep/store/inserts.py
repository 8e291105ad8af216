"""Statements that are made once and may be repeated: shared by whatever writes."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    Connection,
    Table,
    Update,
    bindparam,
    func,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from bitsweep.store import schema


def insert_new(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert unless a unique key stands already; tell whether a row was added."""
    statement = _insert_unless_known(table, connection.dialect.name)
    return connection.execute(statement, dict(row)).first() is not None


@cache
def _insert_unless_known(table: Table, dialect_name: str) -> Any:  # an insert that returns keys
    """The statement, made once: a run executes it ten times a trial."""
    dialect = postgresql if dialect_name == "postgresql" else sqlite
    statement = dialect.insert(table).on_conflict_do_nothing()
    return statement.returning(*table.primary_key.columns)


@cache
def newest_epoch() -> Update:
    """The last epoch of a `trial` becomes `newest`, unless a later one was there before."""
    table = schema.trials
    newest: BindParameter[int] = bindparam("newest")
    is_later = func.coalesce(table.c.last_epoch, -1) < newest
    mine = table.c.id == bindparam("trial")
    return update(table).where(mine & is_later).values(last_epoch=newest)
