"""The drivers at this moment: where each runs, its priority, and whether it would start more."""

from dataclasses import dataclass

from sqlalchemy import Engine, delete, select, update

from bitsweep.store import schema
from bitsweep.store.inserts import insert_new


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """A driver as another one sees it; `heartbeat_at` is a value that changes while it lives."""

    owner: str
    sweep: str
    priority: int
    heartbeat_at: float


def show(
    engine: Engine,
    owner: str,
    *,
    sweep_id: int,
    place: str,
    priority: int,
    is_waiting: bool,
    at: float,
) -> None:
    """Write, or write anew, what a driver says of itself."""
    table = schema.drivers
    row = {
        "owner": owner,
        "sweep_id": sweep_id,
        "place": place,
        "priority": priority,
        "is_waiting": is_waiting,
        "heartbeat_at": at,
    }
    with engine.begin() as connection:
        if not insert_new(connection, table, row):
            connection.execute(update(table).where(table.c.owner == owner).values(**row))


def leave(engine: Engine, owner: str) -> None:
    """Take a driver away: it has ended, or is dead."""
    table = schema.drivers
    with engine.begin() as connection:
        connection.execute(delete(table).where(table.c.owner == owner))


def waiting_above(engine: Engine, place: str, *, priority: int) -> list[Driver]:
    """The drivers of more priority on the same machines that would start more, highest first."""
    table, sweeps = schema.drivers, schema.sweeps
    query = (
        select(table.c.owner, sweeps.c.name, table.c.priority, table.c.heartbeat_at)
        .select_from(table.join(sweeps, sweeps.c.id == table.c.sweep_id))
        .where((table.c.place == place) & (table.c.priority > priority) & table.c.is_waiting)
        .order_by(table.c.priority.desc(), table.c.owner)
    )
    with engine.connect() as connection:
        return [
            Driver(
                owner=row.owner,
                sweep=row.name,
                priority=row.priority,
                heartbeat_at=row.heartbeat_at,
            )
            for row in connection.execute(query)
        ]
