"""What the trials of a sweep did over time, layer by layer and parameter by parameter.

The table asks for last epochs alone; figures ask here for the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, case, func, select

from bitsweep.bits import LEARNED
from bitsweep.measurement import OWN_ALLOCATORS
from bitsweep.space import Value
from bitsweep.store import schema
from bitsweep.store.reader import Reader
from bitsweep.trial import Trial, digest, parse_trial


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """The sweep's metric as a trial of a current arm measured it, at any epoch."""

    arm: str
    method: str
    stage: str
    configuration_id: int | None
    trial_id: str
    seed: int
    split: str
    allocation: str
    epoch: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWidth:
    """The mean weight and activation bits of one layer over the shares of one measurement."""

    trial_id: str
    epoch: int
    allocation: str
    layer: int
    name: str
    weight_bits: float
    activation_bits: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """A finished search trial: the resolved parameters and where they led on validation."""

    arm: str
    configuration_id: int | None
    trial_id: str
    allocation: str
    parameters: Mapping[str, Value]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the trials of a sweep's current arms share or differ in."""

    data: str
    model: str
    epochs: int


_MEMBERS = schema.memberships.join(schema.arms, schema.arms.c.id == schema.memberships.c.arm_id)


def metric_column(metric: str) -> ColumnElement[Any]:
    """A metric as a column of `measurements`, empty where it was not measured."""
    table = schema.measurements
    value: ColumnElement[Any]
    if metric == "top1_percent":
        value = 100.0 * table.c.correct / table.c.total
    elif metric == "loss":
        value = table.c.loss_sum / table.c.total
    else:
        value = table.c.metric_sums[metric].as_float() / table.c.total
    return value


def curve_points(reader: Reader, sweep_id: int, *, metric: str, split: str) -> list[CurvePoint]:
    """A metric that the current arms measured on a split, epoch by epoch.

    Learned bits change over epochs and between seeds: all stand under "learned".
    """
    members, arms, trials = schema.memberships, schema.arms, schema.trials
    table, allocations = schema.measurements, schema.allocations
    joined = (
        _MEMBERS.join(trials, trials.c.id == members.c.trial_id)
        .join(table, table.c.trial_id == trials.c.id)
        .join(allocations, allocations.c.id == table.c.allocation_id)
    )
    query = (
        select(
            arms.c.name.label("arm"),
            trials.c.method,
            members.c.stage,
            members.c.configuration_id,
            trials.c.id.label("trial_id"),
            trials.c.seed,
            table.c.split,
            case((trials.c.bits == LEARNED, LEARNED), else_=allocations.c.label).label(
                "allocation"
            ),
            table.c.epoch,
            metric_column(metric).label("value"),
        )
        .distinct()
        .select_from(joined)
        .where((members.c.sweep_id == sweep_id) & arms.c.is_current)
        .where((table.c.split == split) & metric_column(metric).is_not(None))
        .order_by(arms.c.name, "allocation", trials.c.seed, trials.c.id, table.c.epoch)
    )
    return [CurvePoint(**row) for row in reader.rows(query)]


def layer_widths(reader: Reader, sweep_id: int) -> list[LayerWidth]:
    """Bits per layer of every confirmed measurement on test, epoch by epoch."""
    members, arms, table = schema.memberships, schema.arms, schema.measurements
    allocations, bits, layers = schema.allocations, schema.layer_bits, schema.layers
    same_layer = (layers.c.model_id == allocations.c.model_id) & (layers.c.layer == bits.c.layer)
    joined = (
        _MEMBERS.join(table, table.c.trial_id == members.c.trial_id)
        .join(allocations, allocations.c.id == table.c.allocation_id)
        .join(bits, bits.c.allocation_id == allocations.c.id)
        .join(layers, same_layer)
    )
    keys = (table.c.trial_id, table.c.epoch, allocations.c.label, layers.c.layer, layers.c.name)
    pieces = (
        select(
            *keys,
            bits.c.variant,
            (bits.c.weight_bits * bits.c.share).label("weight_part"),
            (bits.c.activation_bits * bits.c.share).label("activation_part"),
        )
        .distinct()
        .select_from(joined)
        .where((members.c.sweep_id == sweep_id) & arms.c.is_current)
        .where((members.c.stage == "confirm") & (table.c.split == "test"))
        .subquery()
    )
    group = (pieces.c.trial_id, pieces.c.epoch, pieces.c.label, pieces.c.layer, pieces.c.name)
    query = (
        select(
            pieces.c.trial_id,
            pieces.c.epoch,
            pieces.c.label.label("allocation"),
            pieces.c.layer,
            pieces.c.name,
            func.sum(pieces.c.weight_part).label("weight_bits"),
            func.sum(pieces.c.activation_part).label("activation_bits"),
        )
        .group_by(*group)
        .order_by(pieces.c.trial_id, pieces.c.label, pieces.c.epoch, pieces.c.layer)
    )
    return [LayerWidth(**row) for row in reader.rows(query)]


def final_layer_widths(reader: Reader, trial_id: str) -> list[LayerWidth]:
    """Bits per layer of each allocation that one trial measured at its last epoch."""
    trials, table, allocations = schema.trials, schema.measurements, schema.allocations
    bits, layers = schema.layer_bits, schema.layers
    same_layer = (layers.c.model_id == allocations.c.model_id) & (layers.c.layer == bits.c.layer)
    is_last = (table.c.trial_id == trials.c.id) & (table.c.epoch == trials.c.last_epoch)
    used = (
        select(table.c.trial_id, table.c.epoch, table.c.allocation_id)
        .select_from(trials.join(table, is_last))
        .where(trials.c.id == trial_id)
        .distinct()
        .subquery()
    )
    joined = (
        used.join(allocations, allocations.c.id == used.c.allocation_id)
        .join(bits, bits.c.allocation_id == allocations.c.id)
        .join(layers, same_layer)
    )
    keys = (used.c.trial_id, used.c.epoch, allocations.c.label, layers.c.layer, layers.c.name)
    query = (
        select(
            *keys,
            func.sum(bits.c.weight_bits * bits.c.share).label("weight_bits"),
            func.sum(bits.c.activation_bits * bits.c.share).label("activation_bits"),
        )
        .select_from(joined)
        .group_by(*keys)
        .order_by(allocations.c.label, layers.c.layer)
    )
    return [
        LayerWidth(allocation=row.pop("label"), **row) for row in map(dict, reader.rows(query))
    ]


def searched(reader: Reader, sweep_id: int, *, metric: str) -> list[Searched]:
    """The finished trials of the search with their configuration, at their last epoch.

    Without the rules that stand beside a policy: they are not what was searched.
    """
    members, arms, configurations = schema.memberships, schema.arms, schema.configurations
    trials, table, allocations = schema.trials, schema.measurements, schema.allocations
    outcomes = schema.outcomes
    last = (table.c.trial_id == trials.c.id) & (table.c.epoch == trials.c.last_epoch)
    joined = (
        _MEMBERS.join(configurations, configurations.c.id == members.c.configuration_id)
        .join(trials, trials.c.id == members.c.trial_id)
        .join(outcomes, outcomes.c.trial_id == trials.c.id)
        .join(table, last)
        .join(allocations, allocations.c.id == table.c.allocation_id)
    )
    query = (
        select(
            arms.c.name.label("arm"),
            configurations.c.id.label("configuration_id"),
            trials.c.id.label("trial_id"),
            case((trials.c.bits == LEARNED, LEARNED), else_=allocations.c.label).label(
                "allocation"
            ),
            configurations.c.parameters,
            metric_column(metric).label("value"),
        )
        .select_from(joined)
        .where((members.c.sweep_id == sweep_id) & arms.c.is_current)
        .where((members.c.stage == "search") & (table.c.split == "validation"))
        .where((outcomes.c.status == "finished") & metric_column(metric).is_not(None))
        .where(table.c.allocator.in_(OWN_ALLOCATORS))
        .order_by(arms.c.position, configurations.c.id, "allocation")
    )
    return [Searched(**row) for row in reader.rows(query)]


def settings(reader: Reader, sweep_id: int) -> list[Setting]:
    """Data, model and epochs of the trials of a sweep's current arms, each once."""
    members, arms, trials, models = (
        schema.memberships,
        schema.arms,
        schema.trials,
        schema.models,
    )
    joined = _MEMBERS.join(trials, trials.c.id == members.c.trial_id).join(
        models, models.c.id == trials.c.model_id
    )
    query = (
        select(trials.c.data, models.c.name.label("model"), trials.c.epochs)
        .distinct()
        .select_from(joined)
        .where((members.c.sweep_id == sweep_id) & arms.c.is_current)
        .order_by(trials.c.data, models.c.name, trials.c.epochs)
    )
    return [Setting(**row) for row in reader.rows(query)]


def finished_in_search(reader: Reader, sweep_id: int) -> dict[int, list[Trial]]:
    """The finished search trials of a sweep by configuration, edited arms included."""
    members, trials, outcomes = schema.memberships, schema.trials, schema.outcomes
    joined = members.join(trials, trials.c.id == members.c.trial_id).join(
        outcomes, outcomes.c.trial_id == trials.c.id
    )
    query = (
        select(members.c.configuration_id, trials.c.document)
        .select_from(joined)
        .where((members.c.sweep_id == sweep_id) & (members.c.stage == "search"))
        .where((outcomes.c.status == "finished") & members.c.configuration_id.is_not(None))
        .order_by(members.c.configuration_id, members.c.id)
    )
    found: dict[int, list[Trial]] = {}
    for row in reader.rows(query):
        found.setdefault(row["configuration_id"], []).append(parse_trial(row["document"]))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """The training time of one trial of a sweep; arm None: a start."""

    arm: str | None
    trial_id: str
    seconds: float
    threads: int
    workers: int


def spent(reader: Reader, sweep_id: int, *, is_own: bool = False) -> list[Spent]:
    """The time of each trial of the current arms, once per arm; is_own: only what it ran."""
    members, arms, trials = schema.memberships, schema.arms, schema.trials
    evaluations, attempts = schema.evaluations, schema.attempts
    last = (evaluations.c.trial_id == trials.c.id) & (evaluations.c.epoch == trials.c.last_epoch)
    joined = (
        members.join(trials, trials.c.id == members.c.trial_id)
        .join(evaluations, last)
        .outerjoin(arms, arms.c.id == members.c.arm_id)
    )
    query = (
        select(arms.c.name.label("arm"), trials.c.id, evaluations.c.seconds, trials.c.document)
        .select_from(joined)
        .where((members.c.sweep_id == sweep_id) & func.coalesce(arms.c.is_current, True))
        .order_by(members.c.id)
    )
    if is_own:
        tried = select(attempts.c.trial_id).where(attempts.c.sweep_id == sweep_id)
        query = query.where(trials.c.id.in_(tried))
    found = {
        (row["arm"], row["id"]): Spent(
            arm=row["arm"],
            trial_id=row["id"],
            seconds=row["seconds"],
            threads=row["document"]["threads"],
            workers=row["document"]["world_size"],
        )
        for row in reader.rows(query)
    }
    return list(found.values())


def refused_counts(reader: Reader, sweep_id: int) -> dict[str, int]:
    """By current arm, the proposals that have no trial: a constraint refused them."""
    members, arms, configurations = schema.memberships, schema.arms, schema.configurations
    tried = select(members.c.configuration_id).where(members.c.configuration_id.is_not(None))
    query = (
        select(arms.c.name, configurations.c.parameters, configurations.c.digest)
        .select_from(configurations.join(arms, arms.c.id == configurations.c.arm_id))
        .where((arms.c.sweep_id == sweep_id) & arms.c.is_current)
        .where(configurations.c.id.not_in(tried))
        .order_by(arms.c.position)
    )
    found: dict[str, int] = {}
    for row in reader.rows(query):
        is_repeat = row["digest"] != digest(row["parameters"])
        found[row["name"]] = found.get(row["name"], 0) + (not is_repeat)
    return {name: count for name, count in found.items() if count}
