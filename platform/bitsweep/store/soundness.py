"""Whether a store holds together: its schema, its references, and what must always be true."""

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from bitsweep.store.database import first_line, version_of
from bitsweep.store.schema import SCHEMA_VERSION, metadata
from bitsweep.store.views import VIEW_COLUMNS
from bitsweep.trial import parse_trial

_EXAMPLES = 3
_BATCH = 1000

# What must not be found, in words, and the query that finds it: the first column names it.
INVARIANTS = {
    "measurements without their evaluation": """
        SELECT m.trial_id, m.epoch, m.split FROM measurements m
        LEFT JOIN evaluations e ON e.trial_id = m.trial_id AND e.epoch = m.epoch
        WHERE e.id IS NULL""",
    "measurements that stand twice": """
        SELECT trial_id, epoch, split, allocation_id, COUNT(*) FROM measurements
        GROUP BY trial_id, epoch, split, allocation_id, allocator, COALESCE(lambda, -1.0), protocol
        HAVING COUNT(*) > 1""",
    "evaluations without a measurement": """
        SELECT e.trial_id, e.epoch FROM evaluations e
        LEFT JOIN measurements m ON m.trial_id = e.trial_id AND m.epoch = e.epoch
        WHERE m.id IS NULL""",
    "measurements with more right answers than samples": """
        SELECT trial_id, epoch, split, correct, total FROM measurements
        WHERE total < 1 OR correct > total OR correct < 0""",
    "finished trials without a measurement": """
        SELECT o.trial_id FROM outcomes o LEFT JOIN measurements m ON m.trial_id = o.trial_id
        WHERE o.status = 'finished' AND m.id IS NULL""",
    "finished trials whose last evaluation is not that of their outcome": """
        SELECT o.trial_id, o.epoch, t.last_epoch FROM outcomes o JOIN trials t ON t.id = o.trial_id
        WHERE o.status = 'finished' AND o.epoch <> t.last_epoch""",
    "trials whose last epoch is not that of their newest evaluation": """
        SELECT t.id, t.last_epoch, MAX(e.epoch) FROM trials t
        LEFT JOIN evaluations e ON e.trial_id = t.id
        GROUP BY t.id, t.last_epoch
        HAVING COALESCE(t.last_epoch, -1) <> COALESCE(MAX(e.epoch), -1)""",
    "allocations that do not give every layer of their model bits": """
        SELECT a.id, a.label FROM allocations a WHERE
        (SELECT COUNT(*) FROM layers l WHERE l.model_id = a.model_id) >
        (SELECT COUNT(DISTINCT b.layer) FROM layer_bits b WHERE b.allocation_id = a.id)""",
    "spreads of costs that do not count every sample once": """
        SELECT m.trial_id, m.epoch, m.split FROM sample_costs c
        JOIN measurements m ON m.id = c.measurement_id
        GROUP BY m.id, m.trial_id, m.epoch, m.split, m.total HAVING SUM(c.count) <> m.total""",
    "trials that started from one that is not here": """
        SELECT t.id, t.start_id FROM trials t LEFT JOIN trials s ON s.id = t.start_id
        WHERE t.start_id IS NOT NULL AND s.id IS NULL""",
    "measurements that came again with other numbers": """
        SELECT trial_id, epoch, recorded_at FROM conflicts""",
}


def faults_of(engine: Engine) -> list[str]:
    """What is wrong with the database, one line each; the schema first: without it ask no more.

    Nothing is changed. Raises StoreAway where it is out of reach.
    """
    with engine.connect() as connection:
        found = [*_schema_faults(connection)]
        if found:
            return found
        for look in (_damage, _references, _broken_invariants, _identities):
            try:
                found += look(connection)
            except SQLAlchemyError as error:  # a damaged file: what else it says is worth nothing
                return [*found, f"file: {first_line(error)}"]
    return found


def _schema_faults(connection: Connection) -> Iterator[str]:
    version = version_of(connection)
    if version != SCHEMA_VERSION:
        yield (
            f"schema: version {version}, this bitsweep writes {SCHEMA_VERSION}: "
            "`bitsweep store upgrade`"
        )
        return
    here = inspect(connection)
    tables = set(here.get_table_names())
    for table in metadata.sorted_tables:
        if table.name not in tables:
            yield f"schema: the table {table.name} is missing"
            continue
        columns = {column["name"] for column in here.get_columns(table.name)}
        for column in table.columns:
            if column.name not in columns:
                yield f"schema: the column {table.name}.{column.name} is missing"
    yield from _view_faults(connection)


def _view_faults(connection: Connection) -> Iterator[str]:
    for name, columns in VIEW_COLUMNS.items():
        try:
            with connection.begin_nested():
                found = connection.execute(text(f"SELECT * FROM {name} LIMIT 1")).keys()
        except SQLAlchemyError as error:
            yield f"schema: the view {name} does not answer: {first_line(error)}"
            continue
        if list(found) != list(columns):
            yield f"schema: the view {name} has other columns than this bitsweep reads"


def _damage(connection: Connection) -> Iterator[str]:
    """What the database's own check says of its files and constraints."""
    if connection.dialect.name == "sqlite":
        for (line,) in connection.execute(text("PRAGMA integrity_check")):
            if line != "ok":
                yield f"file: {line}"
        return
    invalid = "SELECT conname FROM pg_constraint WHERE NOT convalidated"
    for (name,) in connection.execute(text(invalid)):
        yield f"constraint {name} was never validated"
    broken = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"
    for (name,) in connection.execute(text(broken)):
        yield f"index {name} is invalid: REINDEX it"


def _references(connection: Connection) -> Iterator[str]:
    """Rows that refer to rows that are not there; asked in SQL, since a server may be told to lie.

    (session_replication_role = replica, and SQLite's default, let such rows in.)
    """
    for table in metadata.sorted_tables:
        for key in table.foreign_keys:
            child, parent = key.parent, key.column
            query = (
                f'SELECT DISTINCT c."{child.name}" FROM {table.name} c '
                f'LEFT JOIN {parent.table.name} p ON p."{parent.name}" = c."{child.name}" '
                f'WHERE c."{child.name}" IS NOT NULL AND p."{parent.name}" IS NULL'
            )
            rows = [str(value) for (value,) in connection.execute(text(query))]
            if rows:
                words = f"values of {table.name}.{child.name} that {parent.table.name} lacks"
                yield _counted(words, rows)


def _broken_invariants(connection: Connection) -> Iterator[str]:
    for words, query in INVARIANTS.items():
        rows = connection.execute(text(query)).all()
        if rows:
            yield _counted(words, [" ".join(map(str, row)) for row in rows])


def _identities(connection: Connection) -> Iterator[str]:
    """Trials whose name is not the digest of their content."""
    documents = metadata.tables["trials"].select().execution_options(yield_per=_BATCH)
    wrong = [row["id"] for row in connection.execute(documents).mappings() if _is_renamed(row)]
    if wrong:
        yield _counted("trials whose id is not the digest of their content", wrong)


def _is_renamed(row: Any) -> bool:  # a row of `trials`
    try:
        return parse_trial(row["document"]).id != str(row["id"])
    except (KeyError, TypeError, ValueError):
        return True


def _counted(words: str, rows: Iterable[str]) -> str:
    found = list(rows)
    examples = "; ".join(one[:80] for one in found[:_EXAMPLES])
    more = ", ..." if len(found) > _EXAMPLES else ""
    return f"{len(found)} {words}: {examples}{more}"
