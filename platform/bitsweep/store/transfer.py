"""Rows of a store taken out as plain values: of some sweeps, or all that another store may take.

Ids are local to a store; `merge` translates them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Select, Table, Text, cast, select
from sqlalchemy.exc import SQLAlchemyError

from bitsweep.errors import StoreError
from bitsweep.store import schema
from bitsweep.store.database import first_line
from bitsweep.store.reader import Reader

Rows = list[dict[str, Any]]
CARRIED: tuple[Table, ...] = (
    schema.sweeps,
    schema.arms,
    schema.configurations,
    schema.comparisons,
    schema.models,
    schema.layers,
    schema.trials,
    schema.parameters,
    schema.memberships,
    schema.provenance,
    schema.attempts,
    schema.evaluations,
    schema.allocations,
    schema.layer_bits,
    schema.measurements,
    schema.sample_costs,
    schema.answers,
    schema.conflicts,
    schema.outcomes,
)
_BATCH = 500
_WHOLE_BATCH = 50_000


def described_rows(reader: Reader, names: Sequence[str] = ()) -> dict[str, Rows]:
    """All but the measurements of these sweeps, by table, each row once; of all without a name.

    Raises UnknownName for a sweep that is not there. An attempt or an outcome that a sweep beyond
    these saw is told as seen by the first of these that contains the trial.
    """
    if not names:
        tables = [table for table in CARRIED if table is not schema.measurements]
        return _readable(lambda: {table.name: reader.rows(select(table)) for table in tables})
    sweep_ids = [reader.sweep(name).id for name in dict.fromkeys(names)]
    members = _where(reader, schema.memberships, "sweep_id", sweep_ids)
    contained = {row["trial_id"]: row["sweep_id"] for row in reversed(members)}
    rows = _of_trials(reader, sorted(contained))
    for table in (schema.attempts, schema.outcomes):
        for row in rows[table.name]:
            if row["sweep_id"] not in sweep_ids:
                row["sweep_id"] = contained[row["trial_id"]]
    arms = _where(reader, schema.arms, "sweep_id", sweep_ids)
    arm_ids = [row["id"] for row in arms]
    return {
        "sweeps": _where(reader, schema.sweeps, "id", sweep_ids),
        "arms": arms,
        "configurations": _where(reader, schema.configurations, "arm_id", arm_ids),
        "comparisons": _where(reader, schema.comparisons, "sweep_id", sweep_ids),
        "memberships": members,
        **rows,
    }


def measured_batches(
    reader: Reader, trial_ids: Sequence[str] | None
) -> Iterator[Sequence[tuple[Any, ...]]]:
    """Measurements of these trials (None: of all) in the table's columns, sums as JSON text.

    Tuples in batches: a store may hold millions, and only a file's columns are made of them.
    """
    table = schema.measurements
    columns = [cast(one, Text) if one.name == "metric_sums" else one for one in table.columns]
    query = select(*columns).order_by(table.c.id)
    if trial_ids is None:
        yield from reader.batches(query, size=_WHOLE_BATCH)
        return
    for some in batches(trial_ids):
        yield from reader.batches(query.where(table.c.trial_id.in_(some)), size=_WHOLE_BATCH)


def _of_trials(reader: Reader, trial_ids: Sequence[str]) -> dict[str, Rows]:
    """What hangs on trials but their measurements: bits, models, attempts and outcomes."""
    trials = _where(reader, schema.trials, "id", trial_ids)
    by_trial = (
        schema.parameters,
        schema.attempts,
        schema.evaluations,
        schema.conflicts,
        schema.outcomes,
    )
    rows = {table.name: _where(reader, table, "trial_id", trial_ids) for table in by_trial}
    model_ids = sorted({row["model_id"] for row in trials})
    provenance_ids = sorted({row["provenance_id"] for row in rows["attempts"]})
    allocation_ids = _allocation_ids(reader, trial_ids)
    return {
        **rows,
        "trials": trials,
        "models": _where(reader, schema.models, "id", model_ids),
        "layers": _where(reader, schema.layers, "model_id", model_ids),
        "provenance": _where(reader, schema.provenance, "id", provenance_ids),
        "allocations": _where(reader, schema.allocations, "id", allocation_ids),
        "layer_bits": _where(reader, schema.layer_bits, "allocation_id", allocation_ids),
        "sample_costs": _of_measurements(reader, schema.sample_costs, trial_ids),
        "answers": _of_measurements(reader, schema.answers, trial_ids),
    }


def _allocation_ids(reader: Reader, trial_ids: Sequence[str]) -> list[int]:
    table = schema.measurements
    query = select(table.c.allocation_id).distinct()
    return sorted({row["allocation_id"] for row in _each(reader, query, table, trial_ids)})


def _of_measurements(reader: Reader, table: Table, trial_ids: Sequence[str]) -> Rows:
    measured = schema.measurements
    joined = table.join(measured, measured.c.id == table.c.measurement_id)
    return _each(reader, select(table).select_from(joined), measured, trial_ids)


def _each(reader: Reader, query: Select[Any], table: Table, trial_ids: Sequence[str]) -> Rows:
    rows = []
    for some in batches(trial_ids):
        rows += reader.rows(query.where(table.c.trial_id.in_(some)))
    return rows


def store_rows(reader: Reader) -> dict[str, Rows]:
    """Every row of a store that another one may take over."""
    return _readable(lambda: {table.name: reader.rows(select(table)) for table in CARRIED})


def _readable(read: Callable[[], dict[str, Rows]]) -> dict[str, Rows]:
    try:
        return read()
    except SQLAlchemyError as error:
        raise StoreError(
            f"the store cannot be read ({first_line(error)}): was it made by another version? "
            "`bitsweep store upgrade` brings it to this one"
        ) from error


def _where(reader: Reader, table: Table, column: str, values: Sequence[Any]) -> Rows:
    order = list(table.primary_key.columns)
    rows = []
    for some in batches(values):
        rows += reader.rows(select(table).where(table.c[column].in_(some)).order_by(*order))
    return rows


def batches(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """The values in pieces that a statement may name one by one."""
    return (values[start : start + _BATCH] for start in range(0, len(values), _BATCH))
