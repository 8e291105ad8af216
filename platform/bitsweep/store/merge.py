"""Rows of one store merged into another one.

Ids are local to a store: rows are recognised by what they are (names, digests, epochs). What
stands in the target is never changed by other facts: those are kept aside and told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, Table, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from bitsweep.errors import StoreError
from bitsweep.store import schema
from bitsweep.store.database import first_line
from bitsweep.store.measured import answers_key, insert_measured, keep_answers, standing_facts
from bitsweep.store.rows import facts
from bitsweep.store.transfer import CARRIED, Rows, batches
from bitsweep.store.writer import utc_now
from bitsweep.trial import digest


@dataclass(slots=True, kw_only=True)
class Merged:
    """What a merge added, in rows by table, and in words what it found to differ."""

    added: dict[str, int] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)

    def count(self, table: Table, number: int = 1) -> None:
        """Note that rows were added."""
        if number:
            self.added[table.name] = self.added.get(table.name, 0) + number


def merge(engine: Engine, rows: Mapping[str, Rows]) -> Merged:
    """Add what the target lacks, wholly or not at all; doing it twice changes nothing."""
    unknown = set(rows) - {table.name for table in CARRIED}
    if unknown:
        raise StoreError(f"rows of tables that this version does not know: {sorted(unknown)}")
    try:
        with engine.begin() as connection:
            return _Merge(connection, rows).run()
    except KeyError as error:
        raise StoreError(
            f"nothing was merged: a row refers to {error}, which is absent"
        ) from error
    except SQLAlchemyError as error:
        raise StoreError(f"nothing was merged: {first_line(error)}") from error


class _Merge:
    """One merge in one transaction; `_ids` translates the source's ids to the target's."""

    def __init__(self, connection: Connection, rows: Mapping[str, Rows]) -> None:
        self._connection = connection
        self._rows = {table.name: list(rows.get(table.name, ())) for table in CARRIED}
        self._ids: dict[str, dict[Any, int]] = {}
        self._done = Merged()
        self._costs: dict[int, Rows] = {}  # by the source's id of the measurement
        for row in self._rows["sample_costs"]:
            self._costs.setdefault(row["measurement_id"], []).append(row)
        self._answers = {row["measurement_id"]: row["bits"] for row in self._rows["answers"]}

    def run(self) -> Merged:
        self._named(schema.sweeps, ("name",), compared=("text_sha256",))
        self._arms()
        self._configurations()
        self._plain(schema.comparisons, ("sweep_id", "arm", "against", "at", "against_at"))
        new_models = self._named(schema.models, ("digest",))
        self._children(schema.layers, "model_id", new_models, parent="models")
        new_trials = self._trials()
        self._add(schema.parameters, self._of(schema.parameters, new_trials))
        self._plain(
            schema.memberships, ("sweep_id", "arm_id", "configuration_id", "trial_id", "stage")
        )
        self._named(schema.provenance, ("digest",))
        self._plain(schema.attempts, ("trial_id", "sweep_id", "owner", "started_at"))
        self._allocations()
        self._evaluations()
        self._plain(schema.conflicts, ("trial_id", "epoch", "recorded_at"))
        self._outcomes()
        return self._done

    def _of(self, table: Table, trial_ids: set[str]) -> Rows:
        return [row for row in self._rows[table.name] if row["trial_id"] in trial_ids]

    def _translated(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row with the target's ids in place of the source's, and without its own."""
        translated = {name: value for name, value in row.items() if name != "id"}
        for column, table in _FOREIGN.items():
            if translated.get(column) is not None:
                translated[column] = self._ids[table][translated[column]]
        return translated

    def _find(self, table: Table, key: Mapping[str, Any]) -> dict[str, Any] | None:
        query = select(table)
        for name, value in key.items():
            column = table.c[name]
            query = query.where(column.is_(None) if value is None else column == value)
        found = self._connection.execute(query).mappings().first()
        return None if found is None else dict(found)

    def _insert(self, table: Table, row: Mapping[str, Any]) -> int:
        done = self._connection.execute(insert(table).values(**row).returning(table.c.id))
        self._done.count(table)
        return int(done.scalar_one())

    def _add(self, table: Table, rows: Rows) -> None:
        if rows:
            self._connection.execute(insert(table), rows)
        self._done.count(table, len(rows))

    def _named(
        self, table: Table, key: Sequence[str], *, compared: Sequence[str] = ()
    ) -> set[Any]:
        """Rows with an id and a name of their own; return the source's ids of the added ones."""
        ids = self._ids.setdefault(table.name, {})
        new = set()
        for row in self._rows[table.name]:
            arrived = self._translated(row)
            standing = self._find(table, {name: arrived[name] for name in key})
            if standing is None:
                ids[row["id"]] = self._insert(table, arrived)
                new.add(row["id"])
                continue
            ids[row["id"]] = standing["id"]
            if any(standing[name] != arrived[name] for name in compared):
                name = " ".join(str(arrived[part]) for part in key)
                self._done.conflicts.append(
                    f"{table.name} {name}: differs in {', '.join(compared)}; what stands is kept"
                )
        return new

    def _plain(self, table: Table, key: Sequence[str]) -> None:
        """Rows that nothing refers to: added where their key does not stand."""
        for row in self._rows[table.name]:
            arrived = self._translated(row)
            if self._find(table, {name: arrived[name] for name in key}) is None:
                self._add(table, [arrived])

    def _children(self, table: Table, column: str, new: set[Any], *, parent: str) -> None:
        """Rows that stand and fall with a parent which was added."""
        ids = self._ids[parent]
        mine = [row for row in self._rows[table.name] if row[column] in new]
        self._add(table, [row | {column: ids[row[column]]} for row in mine])

    def _arms(self) -> None:
        """An arm added to a sweep that stands with another text is not current there."""
        table, ids = schema.arms, self._ids.setdefault("arms", {})
        sweeps = {row["id"]: row for row in self._rows["sweeps"]}
        for row in self._rows["arms"]:
            arrived = self._translated(row)
            standing = self._find(table, {n: arrived[n] for n in ("sweep_id", "name", "digest")})
            if standing is not None:
                ids[row["id"]] = standing["id"]
                continue
            kept = self._find(schema.sweeps, {"id": arrived["sweep_id"]})
            is_same = kept is not None and (
                kept["text_sha256"] == sweeps[row["sweep_id"]]["text_sha256"]
            )
            arrived["is_current"] = bool(arrived["is_current"] and is_same)
            ids[row["id"]] = self._insert(table, arrived)

    def _configurations(self) -> None:
        """Numbers go on after those that stand in the study."""
        table, ids = schema.configurations, self._ids.setdefault("configurations", {})
        for row in self._rows["configurations"]:
            arrived = self._translated(row)
            standing = self._find(table, {n: arrived[n] for n in ("arm_id", "study", "digest")})
            if standing is not None:
                ids[row["id"]] = standing["id"]
                continue
            taken = {n: arrived[n] for n in ("arm_id", "study", "number")}
            if self._find(table, taken) is not None:
                study = (table.c.arm_id == arrived["arm_id"]) & (table.c.study == arrived["study"])
                numbers = self._connection.execute(select(table.c.number).where(study)).scalars()
                arrived["number"] = max(numbers) + 1
            ids[row["id"]] = self._insert(table, arrived)

    def _trials(self) -> set[str]:
        """Trials are what their id says; return those that were added."""
        table = schema.trials
        new = []
        for row in self._rows["trials"]:
            if self._find(table, {"id": row["id"]}) is None:
                new.append(row | {"model_id": self._ids["models"][row["model_id"]]})
        # Rises again with the evaluations, so that it never names one that did not arrive.
        self._add(table, [row | {"last_epoch": None} for row in new])
        return {row["id"] for row in new}

    def _allocations(self) -> None:
        """The digest holds the model's id, so that it is made anew for the target."""
        ids, table = self._ids.setdefault("allocations", {}), schema.allocations
        bits: dict[int, Rows] = {}
        for row in self._rows["layer_bits"]:
            plain = {name: value for name, value in row.items() if name != "allocation_id"}
            bits.setdefault(row["allocation_id"], []).append(plain)
        for row in self._rows["allocations"]:
            arrived = self._translated(row)
            mine = sorted(bits.get(row["id"], []), key=lambda one: (one["layer"], one["variant"]))
            arrived["digest"] = digest([arrived["model_id"], arrived["label"], mine])
            standing = self._find(table, {"digest": arrived["digest"]})
            if standing is not None:
                ids[row["id"]] = standing["id"]
                continue
            ids[row["id"]] = self._insert(table, arrived)
            self._add(schema.layer_bits, [r | {"allocation_id": ids[row["id"]]} for r in mine])

    def _evaluations(self) -> None:
        """An evaluation stands or arrives as a whole; other numbers are kept in `conflicts`."""
        measured: dict[tuple[str, int], Rows] = {}
        for row in self._rows["measurements"]:
            measured.setdefault((row["trial_id"], row["epoch"]), []).append(row)
        standing = self._standing_evaluations()
        fresh: Rows = []
        differing: set[tuple[str, int]] = set()
        for row in self._rows["evaluations"]:
            key = (row["trial_id"], row["epoch"])
            if key in standing:
                if not self._agree(key, measured.get(key, [])):
                    differing.add(key)
            else:
                fresh.append(row)
        self._add(schema.evaluations, [self._translated(row) for row in fresh])
        keys = {(row["trial_id"], row["epoch"]) for row in fresh}
        self._measurements([row for key in measured if key in keys for row in measured[key]])
        for key, mine in measured.items():
            if key not in differing:
                self._keep_answers(*key, mine)
        newest: dict[str, int] = {}
        for trial_id, epoch in keys:
            newest[trial_id] = max(epoch, newest.get(trial_id, epoch))
        for trial_id, epoch in newest.items():
            self._raise_last_epoch(trial_id, epoch)

    def _standing_evaluations(self) -> set[tuple[str, int]]:
        table = schema.evaluations
        trial_ids = sorted({row["trial_id"] for row in self._rows["evaluations"]})
        found: set[tuple[str, int]] = set()
        for some in batches(trial_ids):
            query = select(table.c.trial_id, table.c.epoch).where(table.c.trial_id.in_(some))
            found |= {(row.trial_id, row.epoch) for row in self._connection.execute(query)}
        return found

    def _measurements(self, rows: Rows) -> None:
        costs = [self._costs.get(row["id"], []) for row in rows]
        insert_measured(self._connection, [self._translated(row) for row in rows], costs)
        self._done.count(schema.measurements, len(rows))
        self._done.count(schema.sample_costs, sum(map(len, costs)))

    def _keep_answers(self, trial_id: str, epoch: int, rows: Rows) -> None:
        """Answers also come to measurements that stand without: they are no other numbers."""
        arrived = {
            answers_key(self._translated(row)): self._answers[row["id"]]
            for row in rows
            if row["id"] in self._answers
        }
        added, others = keep_answers(self._connection, trial_id, epoch, arrived)
        self._done.count(schema.answers, added)
        if others:
            self._done.conflicts.append(
                f"trial {trial_id[:12]}, epoch {epoch}: answers per image differ in "
                f"{len(others)} measurements; what stands is kept"
            )

    def _agree(self, key: tuple[str, int], rows: Rows) -> bool:
        """Whether an evaluation that stands has the same facts; others are kept aside."""
        stands = standing_facts(self._connection, *key)
        arrived = sorted(
            facts(self._translated(row), self._costs.get(row["id"], ())) for row in rows
        )
        if stands == arrived:
            return True
        told = {"trial_id": key[0], "epoch": key[1]}
        self._done.conflicts.append(
            f"trial {key[0][:12]}, epoch {key[1]}: measured with other numbers; "
            "what stands is kept, the others are in the table conflicts"
        )
        kept = self._connection.execute(
            select(schema.conflicts.c.arrived).where(
                (schema.conflicts.c.trial_id == key[0]) & (schema.conflicts.c.epoch == key[1])
            )
        ).scalars()
        if arrived not in list(kept):
            facts_ = {"recorded": stands, "arrived": arrived, "recorded_at": utc_now()}
            self._add(schema.conflicts, [told | facts_])
        return False

    def _raise_last_epoch(self, trial_id: str, epoch: int) -> None:
        table = schema.trials
        lower = table.c.last_epoch.is_(None) | (table.c.last_epoch < epoch)
        mine = (table.c.id == trial_id) & lower
        self._connection.execute(update(table).where(mine).values(last_epoch=epoch))

    def _outcomes(self) -> None:
        """A finished trial stays finished; any other outcome may become that."""
        table = schema.outcomes
        for row in self._rows["outcomes"]:
            arrived = self._translated(row)
            standing = self._find(table, {"trial_id": row["trial_id"]})
            if standing is None:
                self._add(table, [arrived])
            elif standing["status"] != "finished" and arrived["status"] == "finished":
                mine = table.c.trial_id == row["trial_id"]
                self._connection.execute(update(table).where(mine).values(**arrived))
                self._done.count(table)


_FOREIGN = {
    "sweep_id": "sweeps",
    "arm_id": "arms",
    "configuration_id": "configurations",
    "model_id": "models",
    "provenance_id": "provenance",
    "allocation_id": "allocations",
}
