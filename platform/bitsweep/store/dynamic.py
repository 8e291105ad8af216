"""Measurements whose samples have bits of their own, with how their BitOps spread."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select

from bitsweep.cost import SampleCosts
from bitsweep.store import schema
from bitsweep.store.reader import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicRow:
    """One measurement of a trial at bits chosen per sample; `price` is its lambda."""

    epoch: int
    split: str
    allocation: str
    allocator: str
    price: float | None
    correct: int | None
    total: int
    sums: Mapping[str, float]
    costs: SampleCosts


def dynamic_rows(reader: Reader, trial_id: str) -> list[DynamicRow]:
    """Those of one trial, by epoch, in the order they were measured."""
    table, costs, allocations = schema.measurements, schema.sample_costs, schema.allocations
    mine = table.c.trial_id == trial_id
    joined = costs.join(table, table.c.id == costs.c.measurement_id)
    points: dict[int, list[tuple[float, int]]] = {}
    spread = select(costs).select_from(joined).where(mine).order_by(costs.c.bitops)
    for row in reader.rows(spread):
        points.setdefault(row["measurement_id"], []).append((row["bitops"], row["count"]))
    named = table.join(allocations, allocations.c.id == table.c.allocation_id)
    query = (
        select(table, allocations.c.label).select_from(named).where(mine & table.c.id.in_(points))
    )
    return [
        DynamicRow(
            epoch=row["epoch"],
            split=row["split"],
            allocation=row["label"],
            allocator=row["allocator"],
            price=row["lambda"],
            correct=row["correct"],
            total=row["total"],
            sums=row["metric_sums"],
            costs=SampleCosts(points=tuple(points[row["id"]])),
        )
        for row in reader.rows(query.order_by(table.c.epoch, table.c.id))
    ]
