"""Bits of layers over epochs, and what rules that choose bits per sample did, arm by arm."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import case, func, select

from bitsweep.bits import LEARNED
from bitsweep.store import schema
from bitsweep.store.history import metric_column
from bitsweep.store.reader import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerEpoch:
    """Weight bits of a layer after an epoch at one allocation: the mean over the arm's trials."""

    epoch: int
    layer: int
    name: str
    weight_bits: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleRow:
    """What a rule that chooses bits per sample measured on a split at its last epoch.

    price: its lambda. sums: counts behind it, "images of LAYER at BITS" among them.
    sample_bitops: (BitOps of the body, samples of that cost), where that was kept.
    """

    arm: str
    seed: int
    allocator: str
    price: float | None
    allocation: str
    value: float
    total: int
    bitops_body: float
    sums: Mapping[str, float]
    sample_bitops: tuple[tuple[float, int], ...]


# Bits that are learned change from epoch to epoch: they stand under one label.
_LABEL = case((schema.trials.c.bits == LEARNED, LEARNED), else_=schema.allocations.c.label)
# A list of random allocations has no price; that of a policy's rivals has one.
_NOT_LISTED = (schema.measurements.c.allocator != "random") | (
    schema.measurements.c["lambda"].is_not(None)
)
_MEMBERS = schema.memberships.join(schema.arms, schema.arms.c.id == schema.memberships.c.arm_id)


def layered_arms(reader: Reader, sweep_id: int) -> list[tuple[str, str]]:
    """(arm, allocation) that the current arms' confirmed trials measured on validation."""
    members, arms, trials = schema.memberships, schema.arms, schema.trials
    table, allocations = schema.measurements, schema.allocations
    newest = (table.c.trial_id == trials.c.id) & (table.c.epoch == trials.c.last_epoch)
    query = (
        select(arms.c.name.label("arm"), _LABEL.label("label"), arms.c.position)
        .distinct()
        .select_from(
            _MEMBERS.join(trials, trials.c.id == members.c.trial_id)
            .join(table, newest)
            .join(allocations, allocations.c.id == table.c.allocation_id)
        )
        .where((members.c.sweep_id == sweep_id) & arms.c.is_current)
        .where((members.c.stage == "confirm") & (table.c.split == "validation"))
        .where(_NOT_LISTED)
        .order_by(arms.c.position, "label")
    )
    return [(row["arm"], row["label"]) for row in reader.rows(query)]


def layer_epochs(reader: Reader, sweep_id: int, *, arm: str, allocation: str) -> list[LayerEpoch]:
    """Weight bits per layer and epoch of an arm's confirmed trials, from validation."""
    members, arms, table = schema.memberships, schema.arms, schema.measurements
    trials, allocations = schema.trials, schema.allocations
    bits, layers = schema.layer_bits, schema.layers
    per_trial = (
        select(
            table.c.trial_id,
            table.c.epoch,
            bits.c.layer,
            layers.c.name,
            func.sum(bits.c.weight_bits * bits.c.share).label("weight_bits"),
        )
        .select_from(
            table.join(trials, trials.c.id == table.c.trial_id)
            .join(allocations, allocations.c.id == table.c.allocation_id)
            .join(bits, bits.c.allocation_id == allocations.c.id)
            .join(
                layers,
                (layers.c.model_id == allocations.c.model_id) & (layers.c.layer == bits.c.layer),
            )
        )
        .where(
            table.c.trial_id.in_(
                select(members.c.trial_id)
                .select_from(_MEMBERS)
                .where((members.c.sweep_id == sweep_id) & arms.c.is_current)
                .where((members.c.stage == "confirm") & (arms.c.name == arm))
            )
        )
        .where((table.c.split == "validation") & (allocation == _LABEL))
        .group_by(table.c.trial_id, table.c.epoch, bits.c.layer, layers.c.name)
        .subquery()
    )
    query = (
        select(
            per_trial.c.epoch,
            per_trial.c.layer,
            per_trial.c.name,
            func.avg(per_trial.c.weight_bits).label("weight_bits"),
        )
        .group_by(per_trial.c.epoch, per_trial.c.layer, per_trial.c.name)
        .order_by(per_trial.c.layer, per_trial.c.epoch)
    )
    return [LayerEpoch(**row) for row in reader.rows(query)]


def rule_rows(reader: Reader, sweep_id: int, *, metric: str, split: str) -> list[RuleRow]:
    """Every rule that the confirmed trials of a sweep measured on a split, arm by arm."""
    members, arms, trials = schema.memberships, schema.arms, schema.trials
    table, allocations, costs = schema.measurements, schema.allocations, schema.sample_costs
    newest = (table.c.trial_id == trials.c.id) & (table.c.epoch == trials.c.last_epoch)
    value = metric_column(metric)
    # Not DISTINCT: PostgreSQL's JSON has no equality. One trial may serve several configurations.
    query = (
        select(
            table.c.id,
            arms.c.name.label("arm"),
            trials.c.seed,
            table.c.allocator,
            table.c["lambda"].label("price"),
            allocations.c.label.label("allocation"),
            value.label("value"),
            table.c.total,
            table.c.bitops_body,
            table.c.metric_sums.label("sums"),
        )
        .select_from(
            _MEMBERS.join(trials, trials.c.id == members.c.trial_id)
            .join(table, newest)
            .join(allocations, allocations.c.id == table.c.allocation_id)
        )
        .where((members.c.sweep_id == sweep_id) & arms.c.is_current)
        .where((members.c.stage == "confirm") & (table.c.split == split))
        .where((table.c.allocator != "fixed") & value.is_not(None) & _NOT_LISTED)
        .order_by(arms.c.name, table.c.allocator, table.c["lambda"], trials.c.seed)
    )
    rows = list({(row["arm"], row["id"]): row for row in reader.rows(query)}.values())
    found = select(costs).where(costs.c.measurement_id.in_([row["id"] for row in rows]))
    points: dict[int, list[tuple[float, int]]] = {}
    for row in reader.rows(found.order_by(costs.c.bitops)) if rows else ():
        points.setdefault(row["measurement_id"], []).append((row["bitops"], row["count"]))
    return [
        RuleRow(
            **{key: one for key, one in row.items() if key != "id"},
            sample_bitops=tuple(points.get(row["id"], ())),
        )
        for row in rows
    ]
