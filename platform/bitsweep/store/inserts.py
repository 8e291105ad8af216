"""Inserts that may be repeated, and the facts that stand: shared by whatever writes."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    Connection,
    Table,
    Update,
    bindparam,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from bitsweep.store import schema
from bitsweep.store.rows import facts


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
