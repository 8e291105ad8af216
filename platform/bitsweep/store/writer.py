"""Writing into the result database: every verb is one transaction and may be repeated.

One recorder writes a trial at a time. Writing the same facts again changes nothing; other facts
under a key that stands are kept aside as a conflict and raise `Conflict`.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from bitsweep.cost import Layer, LayerBits
from bitsweep.errors import Conflict
from bitsweep.measurement import Evaluation, Measurement
from bitsweep.space import Parameters
from bitsweep.store import schema
from bitsweep.store.inserts import insert_new, newest_epoch
from bitsweep.store.measured import (
    Key,
    answers_key,
    insert_measured,
    keep_answers,
    standing_facts,
)
from bitsweep.store.registration import register
from bitsweep.store.rows import (
    facts,
    layer_bits_row,
    layer_rows,
    measurement_row,
    parameter_rows,
    parse_layer,
    sample_cost_rows,
)
from bitsweep.sweep import Arm, Stage, Sweep
from bitsweep.trial import Finished, Outcome, Pruned, Trial, digest, status_of, trial_document

CLAIM_SECONDS = 60.0


class Overtaken(Exception):
    """Another driver proposed a configuration in the meantime."""


def utc_now() -> str:
    """The time as the store writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Writer:
    """The verbs of a run. Not shared between threads; several processes may each have one."""

    def __init__(self, engine: Engine, *, now: Callable[[], str] = utc_now) -> None:
        self._engine = engine
        self._now = now
        self._allocations: dict[tuple[int, str, tuple[LayerBits, ...]], int] = {}
        self._models: dict[str, tuple[int, tuple[Layer, ...]]] = {}

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def register_sweep(
        self, sweep: Sweep, arms: Sequence[tuple[Arm, str]]
    ) -> tuple[int, list[int]]:
        """Write the sweep and its arms (each with its digest); return their ids.

        An arm that is no longer in the file stays, but is not current. A comparison is primary if
        it was declared before any confirmed measurement of its arms.
        """
        with self._engine.begin() as connection:
            return register(connection, sweep, arms, now=self._now())

    def add_configuration(
        self,
        arm_id: int,
        study: str,
        parameters: Parameters,
        *,
        is_repeat: bool = False,
        after: int | None = None,
    ) -> int:
        """Write a proposal under the next number of its study; return its id.

        A sampler's repetition is a row of its own, so that a rebuilt search knows of it. after:
        how many proposals the caller knows of; raise Overtaken where there are others.
        """
        table = schema.configurations
        found = (table.c.arm_id == arm_id) & (table.c.study == study)
        with self._engine.begin() as connection:
            arm = select(schema.arms.c.id).where(schema.arms.c.id == arm_id)
            connection.execute(arm.with_for_update())  # two drivers count one after the other
            number = connection.execute(select(func.count()).where(found)).scalar_one()
            if after is not None and number != after:
                raise Overtaken
            content = dict(parameters)
            name = digest(["repeat", number, content] if is_repeat else content)
            row = {
                "arm_id": arm_id,
                "study": study,
                "digest": name,
                "number": number,
                "parameters": dict(parameters),
            }
            insert_new(connection, table, row)
            chosen = select(table.c.id).where(found & (table.c.digest == name))
            return int(connection.execute(chosen).scalar_one())

    def add_trial(
        self,
        trial: Trial,
        *,
        layers: tuple[Layer, ...],
        sweep_id: int,
        stage: Stage,
        arm_id: int | None = None,
        configuration_id: int | None = None,
    ) -> None:
        """Write a trial, its parameters, its model and its place in a sweep."""
        with self._engine.begin() as connection:
            model_id = self._model(connection, trial, layers)
            row = {
                "id": trial.id,
                "method": trial.method,
                "model_id": model_id,
                "data": trial.data,
                "bits": trial.bits_label,
                "epochs": trial.epochs,
                "seed": trial.seed,
                "start_id": trial.start,
                "document": trial_document(trial),
                "created_at": self._now(),
            }
            if insert_new(connection, schema.trials, row) and trial.parameters:
                connection.execute(insert(schema.parameters), parameter_rows(trial))
            member = {
                "sweep_id": sweep_id,
                "arm_id": arm_id,
                "configuration_id": configuration_id,
                "trial_id": trial.id,
                "stage": stage,
            }
            insert_new(connection, schema.memberships, member)
        self._models[trial.id] = (model_id, layers)

    def forget(self, trial_id: str, *, sweep_id: int, arm_id: int) -> None:
        """Take a trial out of an arm of a sweep; what is known of the trial itself stays."""
        table = schema.memberships
        mine = (table.c.sweep_id == sweep_id) & (table.c.arm_id == arm_id)
        with self._engine.begin() as connection:
            connection.execute(delete(table).where(mine & (table.c.trial_id == trial_id)))

    def _model(self, connection: Connection, trial: Trial, layers: tuple[Layer, ...]) -> int:
        rows = layer_rows(layers)
        name = digest([trial.model, trial.data, rows])
        row = {"name": trial.model, "data": trial.data, "digest": name}
        is_new = insert_new(connection, schema.models, row)
        found = select(schema.models.c.id).where(schema.models.c.digest == name)
        model_id = int(connection.execute(found).scalar_one())
        if is_new:
            connection.execute(insert(schema.layers), [{"model_id": model_id, **r} for r in rows])
        return model_id

    def start_attempt(
        self,
        trial_id: str,
        *,
        sweep_id: int,
        owner: str,
        provenance: Mapping[str, Any],
        at: str | None = None,
    ) -> None:
        """Note that a worker was given the trial. at: when, and once only; None: now."""
        name = digest(dict(provenance))
        with self._engine.begin() as connection:
            insert_new(connection, schema.provenance, {"digest": name, **provenance})
            found = select(schema.provenance.c.id).where(schema.provenance.c.digest == name)
            row = {
                "trial_id": trial_id,
                "sweep_id": sweep_id,
                "provenance_id": connection.execute(found).scalar_one(),
                "owner": owner,
                "started_at": at or self._now(),
            }
            table = schema.attempts
            same = (table.c.trial_id == trial_id) & (table.c.owner == owner)
            noted = select(table.c.id).where(same & (table.c.started_at == at))
            if at is None or connection.execute(noted).first() is None:
                connection.execute(insert(table).values(**row))

    def ping(self) -> None:
        """Touch the database as a write does; raise StoreAway if it is out of reach."""
        with self._engine.begin() as connection:
            connection.execute(select(1))

    def record(self, trial_id: str, evaluation: Evaluation, *, at: str | None = None) -> bool:
        """Commit an evaluation; return False if it stood already; raise Conflict if it differs.

        Answers are kept where it has any, also where it stands without. at: when it came; None:
        now.
        """
        try:
            return self._record(trial_id, evaluation, at or self._now())
        except BaseException:
            self._allocations.clear()  # may hold rows that were rolled back
            raise

    def _record(self, trial_id: str, evaluation: Evaluation, at: str) -> bool:
        table = schema.evaluations
        with self._engine.begin() as connection:
            row = {
                "trial_id": trial_id,
                "epoch": evaluation.epoch,
                "seconds": evaluation.seconds,
                "examples": evaluation.examples,
                "recorded_at": at,
            }
            is_new = insert_new(connection, table, row)
            model_id, layers = self._model_of(connection, trial_id)
            rows = [
                measurement_row(trial_id, evaluation.epoch, one, layers)
                | {"allocation_id": self._allocation(connection, model_id, one)}
                for one in evaluation.measurements
            ]
            if not is_new:
                rows = [
                    row | {"allocation_id": self._standing_name(connection, model_id, row, one)}
                    for row, one in zip(rows, evaluation.measurements, strict=True)
                ]
            costs = [sample_cost_rows(one) for one in evaluation.measurements]
            answers = {
                answers_key(row): one.answers
                for row, one in zip(rows, evaluation.measurements, strict=True)
                if one.answers is not None
            }
            if is_new:
                insert_measured(connection, rows, costs)
                keep_answers(connection, trial_id, evaluation.epoch, answers)
                newest = {"trial": trial_id, "newest": evaluation.epoch}
                connection.execute(newest_epoch(), newest)
                return True
            standing = standing_facts(connection, trial_id, evaluation.epoch)
            arrived = sorted(facts(row, cost) for row, cost in zip(rows, costs, strict=True))
            others: list[Key] = []
            if standing == arrived:
                _, others = keep_answers(connection, trial_id, evaluation.epoch, answers)
        if standing == arrived and not others:
            return False
        if others:
            standing, arrived = ["answers"], [f"other answers: {one}" for one in others]
        self._keep_conflict(trial_id, evaluation.epoch, standing, arrived)
        raise Conflict(
            f"trial {trial_id[:12]}, epoch {evaluation.epoch}: measured again with other numbers; "
            "the first ones stand, the others are in the table conflicts"
        )

    def _keep_conflict(
        self, trial_id: str, epoch: int, recorded: list[str], arrived: list[str]
    ) -> None:
        with self._engine.begin() as connection:
            row = {"trial_id": trial_id, "epoch": epoch, "recorded_at": self._now()}
            connection.execute(
                insert(schema.conflicts).values(recorded=recorded, arrived=arrived, **row)
            )

    def _model_of(self, connection: Connection, trial_id: str) -> tuple[int, tuple[Layer, ...]]:
        if trial_id not in self._models:
            found = select(schema.trials.c.model_id).where(schema.trials.c.id == trial_id)
            model_id = int(connection.execute(found).scalar_one())
            table = schema.layers
            query = select(table).where(table.c.model_id == model_id).order_by(table.c.layer)
            layers = tuple(parse_layer(dict(row)) for row in connection.execute(query).mappings())
            self._models[trial_id] = (model_id, layers)
        return self._models[trial_id]

    def _allocation(self, connection: Connection, model_id: int, one: Measurement) -> int:
        key = (model_id, one.allocation.label, one.layer_bits)
        if key not in self._allocations:
            rows = [layer_bits_row(index, bits) for index, bits in enumerate(one.layer_bits)]
            name = digest([model_id, one.allocation.label, rows])
            row = {"digest": name, "label": one.allocation.label, "model_id": model_id}
            is_new = insert_new(connection, schema.allocations, row)
            found = select(schema.allocations.c.id).where(schema.allocations.c.digest == name)
            allocation_id = int(connection.execute(found).scalar_one())
            if is_new:
                connection.execute(
                    insert(schema.layer_bits),
                    [{"allocation_id": allocation_id, **r} for r in rows],
                )
            self._allocations[key] = allocation_id
        return self._allocations[key]

    def _standing_name(
        self, connection: Connection, model_id: int, row: Mapping[str, Any], one: Measurement
    ) -> int:
        """The allocation of a row that stands already, where that has its bits layer by layer.

        Equal bits in all layers had two names once (decision 093); a trial measured then may come
        again.
        """
        _, layers = self._models[row["trial_id"]]
        spelled = one.allocation.spelled_out(sum(layer.place == "body" for layer in layers))
        bits = [layer_bits_row(index, bits) for index, bits in enumerate(one.layer_bits)]
        allocations, measured = schema.allocations, schema.measurements
        found = connection.execute(
            select(allocations.c.id)
            .join_from(allocations, measured, measured.c.allocation_id == allocations.c.id)
            .where(allocations.c.digest == digest([model_id, spelled, bits]))
            .where(measured.c.trial_id == row["trial_id"], measured.c.epoch == row["epoch"])
        ).scalar()
        return row["allocation_id"] if found is None else int(found)

    def end(
        self, trial_id: str, outcome: Outcome, *, sweep_id: int, at: str | None = None
    ) -> None:
        """Write how the trial ended; a finished trial stays finished. at: when; None: now."""
        at = at or self._now()
        row = {
            "trial_id": trial_id,
            "status": status_of(outcome),
            "reason": _reason(outcome),
            "epoch": outcome.epoch if isinstance(outcome, Finished | Pruned) else None,
            "checkpoint": outcome.checkpoint if isinstance(outcome, Finished) else None,
            "sweep_id": sweep_id,
            "ended_at": at,
        }
        table = schema.outcomes
        mine = table.c.trial_id == trial_id
        with self._engine.begin() as connection:
            if not insert_new(connection, table, row):
                open_ended = mine & (table.c.status != "finished")
                connection.execute(update(table).where(open_ended).values(**row))
            if isinstance(outcome, Finished) and outcome.checkpoint is not None:
                kept = update(table).where(mine).values(checkpoint=outcome.checkpoint)
                connection.execute(kept)
            attempts = schema.attempts
            last = (attempts.c.trial_id == trial_id) & (attempts.c.ended_at.is_(None))
            connection.execute(update(attempts).where(last).values(ended_at=at))
            connection.execute(delete(schema.claims).where(schema.claims.c.trial_id == trial_id))

    def claim(self, trial_id: str, owner: str, *, at: float) -> bool:
        """Take the trial for this driver; False while any other one has it."""
        table = schema.claims
        with self._engine.begin() as connection:
            row = {"trial_id": trial_id, "owner": owner, "heartbeat_at": at}
            if insert_new(connection, table, row):
                return True
            ours = (table.c.trial_id == trial_id) & (table.c.owner == owner)
            taken = update(table).where(ours)
            return bool(connection.execute(taken.values(owner=owner, heartbeat_at=at)).rowcount)

    def heartbeat(self, owner: str, *, at: float) -> None:
        """Show that this driver is alive, on all its claims."""
        table = schema.claims
        with self._engine.begin() as connection:
            connection.execute(update(table).where(table.c.owner == owner).values(heartbeat_at=at))

    def release(self, owner: str, *, trial_id: str | None = None) -> None:
        """Give back the claim of this driver on one trial, or on every one."""
        table = schema.claims
        mine = table.c.owner == owner
        if trial_id is not None:
            mine &= table.c.trial_id == trial_id
        with self._engine.begin() as connection:
            connection.execute(delete(table).where(mine))


def _reason(outcome: Outcome) -> str:
    return "" if isinstance(outcome, Finished) else outcome.reason
