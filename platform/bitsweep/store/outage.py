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
        sqlite3.SQLITE_PROTOCOL,
    }
)
# Of PostgreSQL: connection, resources, operator's intervention, system, and the two that say "try
# again": a deadlock and a serialization failure.
_POSTGRES_OUTAGES = ("08", "53", "57P", "58", "40P01", "40001")
_POSTGRES_READ_ONLY = "25006"  # the server has become a standby


def is_outage(error: BaseException, *, writes: bool) -> bool:
    """Whether a driver's error says that the database is out of reach or cannot write now.

    writes: the connection may write; to any other "read-only" is the answer, not an outage.
    """
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            return False
        primary = code & 0xFF
        return primary in _SQLITE_OUTAGES or (writes and primary == sqlite3.SQLITE_READONLY)
    import psycopg

    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:  # no answer of the server's: the connection is gone, or never was
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    if error.sqlstate == _POSTGRES_READ_ONLY:
        return writes
    return error.sqlstate.startswith(_POSTGRES_OUTAGES)


def tell_outages(engine: Engine, name: str, *, writes: bool) -> None:
    """Make every outage of this engine a StoreAway of one line that names the store."""

    def translate(context: ExceptionContext) -> StoreAway | None:
        cause = context.original_exception
        if not is_outage(cause, writes=writes):
            return None
        said = str(cause).strip().splitlines()[0]
        return StoreAway(f"store {name!r} cannot be used now: {said}")

    event.listen(engine, "handle_error", translate)
