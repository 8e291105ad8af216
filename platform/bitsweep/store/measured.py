"""Rows of measurements with what hangs on them: costs per sample, answers per image."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, insert, select

from bitsweep.store import schema
from bitsweep.store.rows import facts

Key = tuple[str, int, str, float | None, str]
_KEY = ("split", "allocation_id", "allocator", "lambda", "protocol")


def answers_key(row: Mapping[str, Any]) -> Key:
    """What tells a row of `measurements` from the others of its evaluation."""
    split, allocation_id, allocator, lambda_, protocol = (row[name] for name in _KEY)
    return (split, allocation_id, allocator, lambda_, protocol)


def keep_answers(
    connection: Connection, trial_id: str, epoch: int, arrived: Mapping[Key, bytes]
) -> tuple[int, list[Key]]:
    """Add what an evaluation lacks; return how many, and the keys where others stand."""
    if not arrived:
        return 0, []
    table, answers = schema.measurements, schema.answers
    query = (
        select(table.c.id, *(table.c[name] for name in _KEY), answers.c.bits)
        .select_from(table.outerjoin(answers, answers.c.measurement_id == table.c.id))
        .where((table.c.trial_id == trial_id) & (table.c.epoch == epoch))
    )
    new, differing = [], []
    for row in map(dict, connection.execute(query).mappings()):
        bits = arrived.get(answers_key(row))
        if bits is not None and row["bits"] is None:
            new.append({"measurement_id": row["id"], "bits": bits})
        elif bits is not None and bits != row["bits"]:
            differing.append(answers_key(row))
    if new:
        connection.execute(insert(answers), new)
    return len(new), differing


def insert_measured(
    connection: Connection,
    rows: Sequence[Mapping[str, Any]],
    costs: Sequence[Sequence[Mapping[str, Any]]],
) -> None:
    """Add measurements, each with its rows of `sample_costs`: many at once where it has none."""
    plain = [row for row, points in zip(rows, costs, strict=True) if not points]
    if plain:
        connection.execute(insert(schema.measurements), plain)
    table = schema.measurements
    for row, points in zip(rows, costs, strict=True):
        if points:
            added = insert(table).values(**row).returning(table.c.id)
            id_ = connection.execute(added).scalar_one()
            mine = [{**one, "measurement_id": id_} for one in points]
            connection.execute(insert(schema.sample_costs), mine)


def standing_facts(connection: Connection, trial_id: str, epoch: int) -> list[str]:
    """The facts of an evaluation as they stand, in order."""
    table, costs = schema.measurements, schema.sample_costs
    mine = (table.c.trial_id == trial_id) & (table.c.epoch == epoch)
    points: dict[int, list[Mapping[str, Any]]] = {}
    joined = costs.join(table, table.c.id == costs.c.measurement_id)
    query = select(costs).select_from(joined).where(mine)
    for row in connection.execute(query).mappings():
        points.setdefault(row["measurement_id"], []).append(dict(row))
    measured = connection.execute(select(table).where(mine)).mappings()
    return sorted(facts(dict(row), points.get(row["id"], ())) for row in measured)
