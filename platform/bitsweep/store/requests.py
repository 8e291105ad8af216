"""Requests to the drivers of a sweep: stop, cancel. Rows stay; a driver heeds the later ones."""

import os
import socket
from collections.abc import Callable
from typing import Literal

from sqlalchemy import Engine, func, insert, select

from bitsweep.store import schema
from bitsweep.store.writer import CLAIM_SECONDS, utc_now

Request = Literal["stop", "cancel"]


def ask(engine: Engine, sweep_id: int, kind: Request) -> None:
    """Ask every driver that runs the sweep at this moment."""
    row = {
        "sweep_id": sweep_id,
        "kind": kind,
        "made_at": utc_now(),
        "made_by": f"{socket.gethostname()}:{os.getpid()}",
    }
    with engine.begin() as connection:
        connection.execute(insert(schema.requests).values(**row))


def last_request(engine: Engine, sweep_id: int) -> int:
    """The number of the newest request of a sweep, 0 if there is none."""
    newest = select(func.coalesce(func.max(schema.requests.c.id), 0))
    with engine.connect() as connection:
        mine = newest.where(schema.requests.c.sweep_id == sweep_id)
        return int(connection.execute(mine).scalar_one())


def requested(engine: Engine, sweep_id: int, *, after: int) -> Request | None:
    """What was asked after that request: cancel outweighs stop; None if nothing was."""
    table = schema.requests
    query = select(table.c.kind).where((table.c.sweep_id == sweep_id) & (table.c.id > after))
    with engine.connect() as connection:
        kinds = set(connection.execute(query).scalars())
    if "cancel" in kinds:
        return "cancel"
    return "stop" if "stop" in kinds else None


def drivers_alive(engine: Engine, sweep_id: int, *, clock: Callable[[], float]) -> list[str]:
    """The drivers that have trials of the sweep and gave a sign of life lately."""
    claims, members = schema.claims, schema.memberships
    joined = claims.join(members, members.c.trial_id == claims.c.trial_id)
    query = (
        select(claims.c.owner)
        .select_from(joined)
        .where(members.c.sweep_id == sweep_id)
        .where(claims.c.heartbeat_at >= clock() - CLAIM_SECONDS)
        .distinct()
        .order_by(claims.c.owner)
    )
    with engine.connect() as connection:
        return [str(owner) for owner in connection.execute(query).scalars()]
