"""A visitor's SQL: read by a connection of its own that can neither write nor last nor swell."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from sqlalchemy import Connection, CursorResult
from sqlalchemy.exc import SQLAlchemyError

from bitsweep.errors import StoreError
from bitsweep.store.database import first_line, open_to_read, place_in

_STEPS_BETWEEN_LOOKS = 10_000  # of SQLite's virtual machine: about a millisecond
_LARGEST_CELL_BYTES = 1_000_000
_LARGEST_ANSWER_LETTERS = 8_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Columns and rows; `is_cut` where there were more rows than were asked for."""

    names: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    is_cut: bool
    seconds: float


def ask(address: str, sql: str, *, limit: int, timeout_seconds: float) -> Answer:
    """Run one statement; raise StoreError with the database's words, or that it took too long.

    The database itself refuses to write: SQLite opens the file for reading, PostgreSQL runs a
    read-only transaction of a single prepared statement.
    """
    engine = open_to_read(address)
    began = monotonic()
    try:
        with engine.connect() as connection:
            _limit(connection, began + timeout_seconds, timeout_seconds)
            as_it_is = {"no_parameters": True}  # a % is no placeholder
            result = connection.exec_driver_sql(sql, execution_options=as_it_is)
            if not result.returns_rows:
                raise StoreError("the statement returns no rows: only SELECT is of use here")
            names = tuple(result.keys())
            rows, is_cut = _first_rows(result, limit)
    except SQLAlchemyError as error:
        said = f"{first_line(error)}{place_in(error, sql)}"
        if said.startswith("interrupted") or "statement timeout" in said:
            said = f"it took longer than {timeout_seconds:g} s and was stopped"
        raise StoreError(f"the query failed: {said}") from error
    finally:
        engine.dispose()
    return Answer(
        names=names,
        rows=tuple(rows),
        is_cut=is_cut,
        seconds=monotonic() - began,
    )


def _limit(connection: Connection, end: float, timeout_seconds: float) -> None:
    if connection.dialect.name != "sqlite":
        milliseconds = max(1, round(1000 * timeout_seconds))
        connection.exec_driver_sql(f"SET statement_timeout = {milliseconds}")
        return
    driver: Any = connection.connection.driver_connection
    driver.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST_CELL_BYTES)
    driver.set_progress_handler(lambda: int(monotonic() > end), _STEPS_BETWEEN_LOOKS)


def _first_rows(result: CursorResult[Any], limit: int) -> tuple[list[tuple[Any, ...]], bool]:
    """Rows up to the limit, and up to a size; whether there were more."""
    rows: list[tuple[Any, ...]] = []
    letters = 0
    for row in result:
        letters += sum(len(cell) for cell in row if isinstance(cell, str | bytes))
        if len(rows) == limit or letters > _LARGEST_ANSWER_LETTERS:
            return rows, True
        rows.append(readable(row))
    return rows, False


def readable(row: Iterable[Any]) -> tuple[Any, ...]:
    """A row for people: bytes (answers per image) as hexadecimal digits.

    >>> readable((1, bytes([255, 0])))
    (1, 'ff00')
    """
    return tuple(cell.hex() if isinstance(cell, bytes) else cell for cell in row)
