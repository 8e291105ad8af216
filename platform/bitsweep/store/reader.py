"""Reading the result database: plain records out, no SQL beyond this package."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from sqlalchemy import ColumnElement, Engine, Executable, Select, case, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from bitsweep.cost import Convention
from bitsweep.errors import InputError, StoreError, UnknownName, nearest
from bitsweep.store import schema
from bitsweep.store.database import first_line, place_in
from bitsweep.store.records import (
    ArmRow,
    ComparisonRow,
    Ended,
    Proposal,
    ResultRow,
    Score,
    SweepRow,
    TrialRow,
)
from bitsweep.trial import (
    Diverged,
    Failed,
    Finished,
    Interrupted,
    Outcome,
    Pruned,
    Trial,
    parse_trial,
)


class Reader:
    """Questions to a store. Opens no transaction longer than one question."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def rows(
        self, query: Executable, parameters: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """What a statement of this package answers, as plain mappings."""
        with self._engine.connect() as connection:
            result = connection.execute(query, parameters)
            names = tuple(result.keys())  # a mapping of each row would cost three times as much
            return [dict(zip(names, row, strict=True)) for row in result]

    def batches(self, query: Select[Any], *, size: int) -> Iterator[Sequence[tuple[Any, ...]]]:
        """The same as tuples, so many at a time, for answers that are too long to be held.

        As the driver gives them, past SQLAlchemy, whose rows take as long as the database does:
        for columns of numbers and text, which need no conversion.
        """
        dialect = self._engine.dialect
        sql = str(query.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
        on_server = {"name": "batches"} if dialect.name == "postgresql" else {}
        with self._engine.connect() as connection:
            driver: Any = connection.connection.driver_connection  # of the DB-API
            cursor = driver.cursor(**on_server)  # else PostgreSQL would send all at once
            try:
                cursor.execute(sql)
                while part := cursor.fetchmany(size):
                    yield part
            finally:
                cursor.close()

    def sweeps(self) -> list[SweepRow]:
        """Every sweep, the newest first."""
        table = schema.sweeps
        columns = [table.c[name] for name in SweepRow.__dataclass_fields__]
        query = select(*columns).order_by(table.c.updated_at.desc(), table.c.id.desc())
        return [SweepRow(**row) for row in self.rows(query)]

    def sweep(self, name: str) -> SweepRow:
        """The sweep of that name; raise UnknownName with the nearest one."""
        known = {one.name: one for one in self.sweeps()}
        if name not in known:
            hint = nearest(name, list(known))
            listed = ", ".join(known) or "none yet"
            raise UnknownName(f"no sweep is named {name!r}{hint}; sweeps: {listed}")
        return known[name]

    def arms(self, sweep_id: int) -> list[ArmRow]:
        """The current arms of a sweep in the order of its file."""
        arms, configurations = schema.arms, schema.configurations
        members = schema.memberships
        searched = (
            select(func.count(func.distinct(configurations.c.id)))
            .select_from(
                configurations.join(members, members.c.configuration_id == configurations.c.id)
            )
            .where((configurations.c.arm_id == arms.c.id) & (members.c.stage == "search"))
            .scalar_subquery()
        )
        query = (
            select(arms.c.id, arms.c.name, arms.c.method, searched.label("configurations"))
            .where((arms.c.sweep_id == sweep_id) & arms.c.is_current)
            .order_by(arms.c.position)
        )
        return [ArmRow(**row) for row in self.rows(query)]

    def comparisons(self, sweep_id: int) -> list[ComparisonRow]:
        """The declared comparisons that stand in the sweep file as last run."""
        table = schema.comparisons
        query = (
            select(
                table.c.arm,
                table.c.against,
                table.c["at"],
                table.c.against_at,
                table.c.is_primary,
            )
            .where((table.c.sweep_id == sweep_id) & table.c.is_current)
            .order_by(table.c.id)
        )
        return [ComparisonRow(**row) for row in self.rows(query)]

    def proposals(self, arm_id: int, study: str, *, after: int = 0) -> list[Proposal]:
        """The configurations of a study from this number on, in the order of their proposal."""
        table = schema.configurations
        query = (
            select(table.c.id, table.c.number, table.c.parameters)
            .where((table.c.arm_id == arm_id) & (table.c.study == study))
            .where(table.c.number >= after)
            .order_by(table.c.number)
        )
        return [Proposal(**row) for row in self.rows(query)]

    def ended(self, trial_ids: Sequence[str]) -> dict[str, Ended]:
        """The outcomes of those of the trials that have one."""
        table = schema.outcomes
        query = select(table).where(table.c.trial_id.in_(trial_ids))
        return {
            row["trial_id"]: Ended(outcome=_outcome(row), sweep_id=row["sweep_id"])
            for row in self.rows(query)
        }

    def claimant(self, trial_id: str) -> tuple[str, float] | None:
        """The driver that has claimed the trial and its last sign of life, if one has."""
        table = schema.claims
        rows = self.rows(select(table).where(table.c.trial_id == trial_id))
        return (rows[0]["owner"], rows[0]["heartbeat_at"]) if rows else None

    def trial(self, prefix: str) -> Trial:
        """The trial whose id begins so; raise UnknownName for none, InputError for several."""
        table = schema.trials
        query = select(table.c.document).where(table.c.id.startswith(prefix, autoescape=True))
        found = self.rows(query.limit(2))
        if not found:
            raise UnknownName(f"no trial's id begins with {prefix!r}; `bitsweep show SWEEP` lists")
        if len(found) > 1:
            raise InputError(f"several trials begin with {prefix!r}: give more digits")
        return parse_trial(found[0]["document"])

    def recorded_size(
        self, trial: Trial, labels: Collection[str], convention: Convention
    ) -> int | None:
        """Bits of the stored model by a convention, the largest recorded at these allocations."""
        table, allocations = schema.measurements, schema.allocations
        query = (
            select(func.max(table.c[f"size_bits_{convention}"]).label("size_bits"))
            .select_from(table.join(allocations, allocations.c.id == table.c.allocation_id))
            .where(table.c.trial_id == trial.id)
            .where(allocations.c.label.in_(sorted(labels)))
        )
        found = self.rows(query)[0]["size_bits"]
        return None if found is None else int(found)

    def sweep_of(self, trial_id: str) -> str:
        """The name of the newest sweep that contains the trial."""
        members, sweeps = schema.memberships, schema.sweeps
        query = (
            select(sweeps.c.name)
            .select_from(members.join(sweeps, sweeps.c.id == members.c.sweep_id))
            .where(members.c.trial_id == trial_id)
            .order_by(sweeps.c.updated_at.desc())
            .limit(1)
        )
        return str(self.rows(query)[0]["name"])

    def trial_seconds(self, *, method: str, data: str, epochs: int) -> float | None:
        """The median training time of finished trials of this kind; None if there is none."""
        trials, evaluations, outcomes = schema.trials, schema.evaluations, schema.outcomes
        last = (evaluations.c.trial_id == trials.c.id) & (
            evaluations.c.epoch == trials.c.last_epoch
        )
        joined = trials.join(evaluations, last).join(outcomes, outcomes.c.trial_id == trials.c.id)
        alike = (trials.c.method == method) & (trials.c.data == data)
        query = (
            select(evaluations.c.seconds)
            .select_from(joined)
            .where(alike & (trials.c.epochs == epochs) & (outcomes.c.status == "finished"))
        )
        seconds = [row["seconds"] for row in self.rows(query)]
        return median(seconds) if seconds else None

    def scores(self, trial_id: str, *, split: str | None = None) -> list[Score]:
        """What a trial measured, by epoch."""
        table, allocations = schema.measurements, schema.allocations
        evaluations = schema.evaluations
        same = (evaluations.c.trial_id == table.c.trial_id) & (
            evaluations.c.epoch == table.c.epoch
        )
        query = (
            select(
                table.c.epoch,
                table.c.split,
                allocations.c.label.label("allocation"),
                table.c.allocator,
                table.c.protocol,
                table.c.correct,
                table.c.total,
                table.c.loss_sum,
                table.c.metric_sums,
                evaluations.c.recorded_at,
            )
            .select_from(
                table.join(allocations, allocations.c.id == table.c.allocation_id).join(
                    evaluations, same
                )
            )
            .where(table.c.trial_id == trial_id)
            .order_by(table.c.epoch, table.c.id)
        )
        if split is not None:
            query = query.where(table.c.split == split)
        return [Score(**row) for row in self.rows(query)]

    def results(self, sweep: str, *, where: Mapping[str, str] | None = None) -> list[ResultRow]:
        """What the trials of one sweep measured at their last epoch, filtered by equal columns.

        Without listed allocations: of these `listed_results` tells.
        """
        return [row for row in self._results(sweep, where) if not row.is_listed]

    def listed_results(self, sweep: str) -> list[ResultRow]:
        """What the trials of one sweep measured at a list of random allocations."""
        return [row for row in self._results(sweep, {"allocator": "random"}) if row.is_listed]

    def _results(self, sweep: str, where: Mapping[str, str] | None) -> list[ResultRow]:
        conditions = "".join(f" AND r.{name} = :{name}" for name in where or {})
        names = [name for name in ResultRow.__dataclass_fields__ if name != "bits"]
        columns = ", ".join(f"r.{name}" for name in names)
        statement = text(
            f"SELECT DISTINCT {columns}, t.bits AS bits "
            f"FROM member_results r JOIN trials t ON t.id = r.trial_id "
            f"WHERE r.sweep = :sweep{conditions} ORDER BY r.allocation, r.seed"
        )
        with self._engine.connect() as connection:
            rows = connection.execute(statement, {"sweep": sweep, **(where or {})}).mappings()
            return [ResultRow(**dict(row)) for row in rows]

    def trial_rows(self, sweep_id: int) -> list[TrialRow]:
        """Every trial of a sweep's current arms with its status."""
        return [TrialRow(**row) for row in self.rows(trials_query(sweep_id))]

    def provenance(self, trial_id: str) -> list[dict[str, Any]]:
        """The attempts of a trial with code, packages and machine."""
        attempts, provenance = schema.attempts, schema.provenance
        query = (
            select(
                attempts.c.started_at,
                attempts.c.ended_at,
                provenance.c.hostname,
                provenance.c.device,
                provenance.c.git_commit,
                provenance.c.git_is_dirty,
                provenance.c.versions,
            )
            .select_from(attempts.join(provenance, provenance.c.id == attempts.c.provenance_id))
            .where(attempts.c.trial_id == trial_id)
            .order_by(attempts.c.id)
        )
        return self.rows(query)

    def query(self, sql: str, *, limit: int = 10_000) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Run a statement of the user's; raise StoreError with the database's own words."""
        try:
            with self._engine.connect() as connection:
                as_it_is = {"no_parameters": True}  # a % is no placeholder
                result = connection.exec_driver_sql(sql, execution_options=as_it_is)
                if not result.returns_rows:
                    raise StoreError("the statement returns no rows: only SELECT is of use here")
                return list(result.keys()), [tuple(row) for row in result.fetchmany(limit)]
        except SQLAlchemyError as error:
            raise StoreError(
                f"the query failed: {first_line(error)}{place_in(error, sql)}"
            ) from error


def trials_query(sweep_id: int) -> Select[Any]:
    """The trials of a sweep's current arms as columns of TrialRow, in the order of planning."""
    members, trials, arms, outcomes = (
        schema.memberships,
        schema.trials,
        schema.arms,
        schema.outcomes,
    )
    joined = (
        members.join(trials, trials.c.id == members.c.trial_id)
        .outerjoin(arms, arms.c.id == members.c.arm_id)
        .outerjoin(outcomes, outcomes.c.trial_id == trials.c.id)
    )
    return (
        select(
            trials.c.id.label("trial_id"),
            arms.c.name.label("arm"),
            trials.c.method,
            trials.c.bits,
            trials.c.seed,
            members.c.stage,
            status_column().label("status"),
            func.coalesce(outcomes.c.reason, "").label("reason"),
            trials.c.last_epoch,
            trials.c.epochs,
        )
        .select_from(joined)
        .where((members.c.sweep_id == sweep_id) & func.coalesce(arms.c.is_current, True))
        .order_by(members.c.id)
    )


def status_column() -> ColumnElement[Any]:
    """How a trial ended; running or planned where it has not. Joins trials with outcomes."""
    unended = case((schema.trials.c.last_epoch.is_(None), "planned"), else_="running")
    return func.coalesce(schema.outcomes.c.status, unended)


def _outcome(row: Mapping[str, Any]) -> Outcome:
    status, reason = row["status"], row["reason"]
    if status == "finished":
        return Finished(epoch=row["epoch"] or 0, checkpoint=row["checkpoint"])
    if status == "pruned":
        return Pruned(epoch=row["epoch"] or 0, reason=reason)
    if status == "diverged":
        return Diverged(reason=reason)
    return Failed(reason=reason) if status == "failed" else Interrupted(reason=reason)
