"""Lists of sweeps, arms and trials for pages: counted, filtered and cut by the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, FromClause, case, func, select

from bitsweep.measurement import OWN_ALLOCATORS
from bitsweep.store import schema
from bitsweep.store.history import metric_column
from bitsweep.store.reader import Reader, status_column, trials_query
from bitsweep.store.records import TrialRow

STATUSES = ("finished", "running", "planned", "pruned", "failed", "diverged", "interrupted")
STAGES = ("start", "search", "confirm")
TrialOrder = Literal["trial", "status", "arm", "bits", "seed", "stage", "epochs", "reason"]
TRIAL_ORDERS: tuple[TrialOrder, ...] = get_args(TrialOrder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """How far a sweep came: distinct trials by status, training time spent, newest sign of life.

    `last_at` is None before the first attempt. Trials that several sweeps share count in each.
    """

    counts: Mapping[str, int]
    training_seconds: float
    last_at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPage:
    """Some of a sweep's trials in the order that was asked for, and how many there are in all."""

    rows: tuple[TrialRow, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchStep:
    """A search trial: its number in its study, how it stands, and its newest validation value."""

    arm: str
    method: str
    study: str
    number: int
    trial_id: str
    status: str
    epoch: int | None
    allocation: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStatus:
    """How one trial stands; `seconds` is its training time up to its newest evaluation."""

    status: str
    reason: str
    seconds: float | None


def activities(reader: Reader) -> dict[int, Activity]:
    """The activity of every sweep that has a trial, by the sweep's id."""
    members, trials, outcomes = schema.memberships, schema.trials, schema.outcomes
    arms, evaluations = schema.arms, schema.evaluations
    mine = (
        select(members.c.sweep_id, members.c.trial_id)
        .distinct()
        .select_from(members.outerjoin(arms, arms.c.id == members.c.arm_id))
        .where(func.coalesce(arms.c.is_current, True))
        .subquery()
    )
    newest = (evaluations.c.trial_id == trials.c.id) & (evaluations.c.epoch == trials.c.last_epoch)
    joined = (
        mine.join(trials, trials.c.id == mine.c.trial_id)
        .outerjoin(outcomes, outcomes.c.trial_id == trials.c.id)
        .outerjoin(evaluations, newest)
    )
    # Grouped from outside: PostgreSQL takes an expression with parameters for another one.
    each = (
        select(
            mine.c.sweep_id,
            status_column().label("status"),
            evaluations.c.seconds,
            evaluations.c.recorded_at,
            outcomes.c.ended_at,
        )
        .select_from(joined)
        .subquery()
    )
    query = select(
        each.c.sweep_id,
        each.c.status,
        func.count().label("trials"),
        func.sum(each.c.seconds).label("seconds"),
        func.max(each.c.recorded_at).label("measured_at"),
        func.max(each.c.ended_at).label("ended_at"),
    ).group_by(each.c.sweep_id, each.c.status)
    by_sweep: dict[int, list[dict[str, Any]]] = {}
    for row in reader.rows(query):
        by_sweep.setdefault(row["sweep_id"], []).append(row)
    return {sweep_id: _activity(rows) for sweep_id, rows in by_sweep.items()}


def _activity(rows: Sequence[Mapping[str, Any]]) -> Activity:
    times = [row[key] for row in rows for key in ("measured_at", "ended_at") if row[key]]
    return Activity(
        counts={row["status"]: row["trials"] for row in sorted(rows, key=lambda r: r["status"])},
        training_seconds=sum(row["seconds"] or 0.0 for row in rows),
        last_at=max(times, default=None),
    )


def all_arms(reader: Reader) -> list[tuple[str, str, str]]:
    """(sweep, arm, method) of every current arm, the newest sweep first."""
    arms, sweeps = schema.arms, schema.sweeps
    query = (
        select(sweeps.c.name.label("sweep"), arms.c.name.label("arm"), arms.c.method)
        .select_from(arms.join(sweeps, sweeps.c.id == arms.c.sweep_id))
        .where(arms.c.is_current)
        .order_by(sweeps.c.updated_at.desc(), sweeps.c.id.desc(), arms.c.position)
    )
    return [(row["sweep"], row["arm"], row["method"]) for row in reader.rows(query)]


def trial_page(
    reader: Reader,
    sweep_id: int,
    *,
    offset: int,
    limit: int,
    statuses: Sequence[str] = (),
    arm: str | None = None,
    order: TrialOrder | None = None,
    is_descending: bool = False,
) -> TrialPage:
    """Trials of a sweep's current arms that stand so (none given: all), cut by the database.

    They come in the order of their planning, which also decides between equal ones in another
    `order`. Arms are ordered as in the sweep file, statuses and stages as in STATUSES and STAGES,
    texts as the database compares them.
    """
    query = trials_query(sweep_id)
    if statuses:
        query = query.where(status_column().in_(statuses))
    if arm is not None:
        query = query.where(schema.arms.c.name == arm)
    counted = query.with_only_columns(func.count(), maintain_column_froms=True).order_by(None)
    total = next(iter(reader.rows(counted)[0].values()))
    if order is not None:
        query = query.order_by(None).order_by(
            _ordered(order, is_descending), schema.memberships.c.id
        )
    rows = reader.rows(query.offset(offset).limit(limit))
    return TrialPage(rows=tuple(TrialRow(**row) for row in rows), total=total)


def _ordered(order: TrialOrder, is_descending: bool) -> ColumnElement[Any]:
    """What is sorted by before the order of planning."""
    trials = schema.trials
    columns: dict[TrialOrder, ColumnElement[Any]] = {
        "trial": trials.c.id,
        "status": _place_in(STATUSES, status_column()),
        "arm": func.coalesce(schema.arms.c.position, -1),  # a start serves every arm
        "bits": trials.c.bits,
        "seed": trials.c.seed,
        "stage": _place_in(STAGES, schema.memberships.c.stage),
        "epochs": func.coalesce(trials.c.last_epoch, 0),
        "reason": func.coalesce(schema.outcomes.c.reason, ""),
    }
    return columns[order].desc() if is_descending else columns[order].asc()


def _place_in(known: Sequence[str], column: ColumnElement[Any]) -> ColumnElement[Any]:
    places = {name: place for place, name in enumerate(known)}
    return case(places, value=column, else_=len(known))


def trial_status(reader: Reader, trial_id: str) -> TrialStatus:
    """The status of a trial that exists."""
    trials, outcomes, evaluations = schema.trials, schema.outcomes, schema.evaluations
    newest = (evaluations.c.trial_id == trials.c.id) & (evaluations.c.epoch == trials.c.last_epoch)
    query = (
        select(
            status_column().label("status"),
            func.coalesce(outcomes.c.reason, "").label("reason"),
            evaluations.c.seconds,
        )
        .select_from(
            trials.outerjoin(outcomes, outcomes.c.trial_id == trials.c.id).outerjoin(
                evaluations, newest
            )
        )
        .where(trials.c.id == trial_id)
    )
    return TrialStatus(**reader.rows(query)[0])


def search_steps(reader: Reader, sweep_id: int, *, metric: str) -> list[SearchStep]:
    """Every measured search trial at its newest epoch on validation, pruned ones among them.

    Without the rules that stand beside a policy: they are not what was searched.
    """
    trials, arms, configurations = schema.trials, schema.arms, schema.configurations
    table, allocations = schema.measurements, schema.allocations
    value = metric_column(metric)
    query = (
        select(
            arms.c.name.label("arm"),
            arms.c.method,
            configurations.c.study,
            configurations.c.number,
            trials.c.id.label("trial_id"),
            status_column().label("status"),
            trials.c.last_epoch.label("epoch"),
            allocations.c.label.label("allocation"),
            value.label("value"),
        )
        .select_from(_searched_joined())
        .where((schema.memberships.c.sweep_id == sweep_id) & arms.c.is_current)
        .where((schema.memberships.c.stage == "search") & (table.c.split == "validation"))
        .where(value.is_not(None) & table.c.allocator.in_(OWN_ALLOCATORS))
        .order_by(arms.c.position, configurations.c.number, trials.c.id, allocations.c.label)
    )
    return [SearchStep(**row) for row in reader.rows(query)]


def _searched_joined() -> FromClause:
    members, trials, table = schema.memberships, schema.trials, schema.measurements
    newest = (table.c.trial_id == trials.c.id) & (table.c.epoch == trials.c.last_epoch)
    return (
        members.join(schema.arms, schema.arms.c.id == members.c.arm_id)
        .join(
            schema.configurations,
            schema.configurations.c.id == members.c.configuration_id,
        )
        .join(trials, trials.c.id == members.c.trial_id)
        .join(table, newest)
        .join(schema.allocations, schema.allocations.c.id == table.c.allocation_id)
        .outerjoin(schema.outcomes, schema.outcomes.c.trial_id == trials.c.id)
    )
