"""Entering a sweep: its row, its arms, its declared comparisons. One transaction of the writer."""

from collections.abc import Sequence

from sqlalchemy import Connection, and_, select, update

from bitsweep.store import schema
from bitsweep.store.inserts import insert_new
from bitsweep.sweep import Arm, Sweep
from bitsweep.trial import digest


def register(
    connection: Connection, sweep: Sweep, arms: Sequence[tuple[Arm, str]], *, now: str
) -> tuple[int, list[int]]:
    """Write the sweep and its arms (each with its digest); return their ids.

    An arm that is no longer in the file stays, but is not current. A comparison is primary if it
    was declared before any confirmed measurement of its arms.
    """
    sweep_id = _sweep_row(connection, sweep, now)
    stale = update(schema.arms).where(schema.arms.c.sweep_id == sweep_id)
    connection.execute(stale.values(is_current=False))
    arm_ids = [
        _arm_row(connection, sweep_id, arm, digest=digest_, position=position)
        for position, (arm, digest_) in enumerate(arms)
    ]
    _comparison_rows(connection, sweep_id, sweep, now)
    return sweep_id, arm_ids


def _sweep_row(connection: Connection, sweep: Sweep, now: str) -> int:
    values = {
        "question": sweep.question,
        "reproduces": sweep.reproduces,
        "expects": sweep.expects,
        "cost": sweep.cost,
        "text": sweep.text,
        "text_sha256": digest(sweep.text),
        "command": sweep.command,
        "goal": sweep.goal,
        "metric": sweep.metric,
        "convention": str(sweep.task.convention),
        "updated_at": now,
    }
    insert_new(connection, schema.sweeps, {"name": sweep.name, "created_at": now, **values})
    named = schema.sweeps.c.name == sweep.name
    connection.execute(update(schema.sweeps).where(named).values(**values))
    return int(connection.execute(select(schema.sweeps.c.id).where(named)).scalar_one())


def _arm_row(
    connection: Connection, sweep_id: int, arm: Arm, *, digest: str, position: int
) -> int:
    key = {"sweep_id": sweep_id, "name": arm.name, "digest": digest}
    values = {"method": arm.method, "position": position, "is_current": True}
    insert_new(connection, schema.arms, {**key, **values})
    table = schema.arms
    found = (
        (table.c.sweep_id == sweep_id) & (table.c.name == arm.name) & (table.c.digest == digest)
    )
    connection.execute(update(table).where(found).values(**values))
    return int(connection.execute(select(table.c.id).where(found)).scalar_one())


def _comparison_rows(connection: Connection, sweep_id: int, sweep: Sweep, now: str) -> None:
    table = schema.comparisons
    mine = table.c.sweep_id == sweep_id
    connection.execute(update(table).where(mine).values(is_current=False))
    for one in sweep.comparisons:
        key = {
            "arm": one.arm,
            "against": one.against,
            "at": one.at_label,
            "against_at": one.against_at_label,
        }
        is_primary = not _is_confirmed(connection, sweep_id, (one.arm, one.against))
        insert_new(
            connection,
            table,
            {
                "sweep_id": sweep_id,
                **key,
                "declared_at": now,
                "is_primary": is_primary,
                "is_current": True,
            },
        )
        found = and_(*(table.c[name] == value for name, value in key.items()))
        connection.execute(update(table).where(mine & found).values(is_current=True))


def _is_confirmed(connection: Connection, sweep_id: int, names: tuple[str, str]) -> bool:
    joined = (
        schema.memberships.join(schema.arms, schema.arms.c.id == schema.memberships.c.arm_id)
    ).join(
        schema.measurements,
        schema.measurements.c.trial_id == schema.memberships.c.trial_id,
    )
    query = (
        select(schema.measurements.c.id)
        .select_from(joined)
        .where(schema.memberships.c.sweep_id == sweep_id)
        .where(schema.memberships.c.stage == "confirm")
        .where(schema.measurements.c.split == "test")
        .where(schema.arms.c.name.in_(names))
        .limit(1)
    )
    return connection.execute(query).first() is not None
