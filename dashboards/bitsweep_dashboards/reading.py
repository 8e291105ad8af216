"""What a page shows, read from the store at one moment: a store that cannot be read is a view too.

Nothing here is kept between two calls, so that a store that was moved or replaced is noticed.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from bitsweep.analysis.table import Table, sweep_table
from bitsweep.errors import StoreError, UnknownName
from bitsweep.store.database import first_line, open_to_read, store_url
from bitsweep.store.reader import Reader, SweepRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The sweeps of a store, the newest first; none in a store that is empty."""

    store: str
    sweeps: tuple[SweepRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepView:
    """One sweep: its table, and how many of its trials stand where, by status."""

    sweep: SweepRow
    sweeps: tuple[SweepRow, ...]
    counts: Mapping[str, int]
    table: Table


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownSweep:
    """A sweep was asked for that the store does not have."""

    name: str
    message: str
    sweeps: tuple[SweepRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreGone:
    """The store cannot be read; `message` says why, without a password."""

    store: str
    message: str


View = Overview | SweepView | UnknownSweep | StoreGone


def read_view(store: str, sweep_name: str | None) -> View:
    """Read the store at this address; None asks for all sweeps. Every failure is a view."""
    try:
        reader = Reader(open_to_read(store))
    except StoreError as error:
        return StoreGone(store=shown_address(store), message=without_password(str(error), store))
    try:
        return _read(reader, store, sweep_name)
    # The reader passes on what the driver raises in mid-query: a lost server, a locked file.
    except SQLAlchemyError as error:
        return StoreGone(store=shown_address(store), message=first_line(error))
    finally:
        reader.close()


def _read(reader: Reader, store: str, sweep_name: str | None) -> View:
    sweeps = tuple(reader.sweeps())
    if sweep_name is None:
        return Overview(store=shown_address(store), sweeps=sweeps)
    try:
        sweep = reader.sweep(sweep_name)
        table = sweep_table(reader, sweep_name)
    except UnknownName as error:
        return UnknownSweep(name=sweep_name, message=str(error), sweeps=sweeps)
    return SweepView(
        sweep=sweep, sweeps=sweeps, counts=_counts_by_status(reader, sweep.id), table=table
    )


def _counts_by_status(reader: Reader, sweep_id: int) -> dict[str, int]:
    """Each trial once, however many configurations of the sweep it serves."""
    status_by_trial = {row.trial_id: row.status for row in reader.trial_rows(sweep_id)}
    return dict(sorted(Counter(status_by_trial.values()).items()))


def shown_address(store: str) -> str:
    """The address of a store as it may be shown: a password in it becomes three stars.

    >>> shown_address("postgresql://ada:secret@db/lab")
    'postgresql+psycopg://ada:***@db/lab'
    """
    if "://" not in store:
        return store
    try:
        return store_url(store).render_as_string(hide_password=True)
    except StoreError:
        return "the given address"


def without_password(message: str, store: str) -> str:
    """A message of the store's in which its address stands as it may be shown."""
    shown = shown_address(store)
    return message.replace(repr(store), repr(shown)).replace(store, shown)
