"""Outages of a database: which of its complaints they are, and that they are told as StoreAway.

An outage passes or is repaired outside of the program (a server restarts, a file is locked, a disk
is full): what was to be written may be written again later. Everything else is a mistake.
"""

import sqlite3

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from bitsweep.errors import StoreAway

_SQLITE_OUTAGES = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PROTOCOL,
    }
)
# Of PostgreSQL: connection, resources, operator's intervention, system, read-only (a standby),
# and the two that say "try again": a deadlock and a serialization failure.
_POSTGRES_OUTAGES = ("08", "53", "57P", "58", "25006", "40P01", "40001")


def is_outage(error: BaseException) -> bool:
    """Whether a driver's error says that the database is out of reach or cannot write now."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)  # a result's primary code: the low byte
        return code is not None and code & 0xFF in _SQLITE_OUTAGES
    import psycopg

    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:  # no answer of the server's: the connection is gone, or never was
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return error.sqlstate.startswith(_POSTGRES_OUTAGES)


def tell_outages(engine: Engine, name: str) -> None:
    """Make every outage of this engine a StoreAway of one line that names the store."""

    def translate(context: ExceptionContext) -> StoreAway | None:
        cause = context.original_exception
        if not is_outage(cause):
            return None
        said = str(cause).strip().splitlines()[0]
        return StoreAway(f"store {name!r} cannot be used now: {said}")

    event.listen(engine, "handle_error", translate)
