"""Rows of the store's tables made from records; nothing here touches a database."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from bitsweep.cost import Convention, Layer, LayerBits, bitops, mean_bits, size_bits
from bitsweep.measurement import Measurement
from bitsweep.trial import Trial

LAYER_COLUMNS = ("name", "kind", "place", "macs", "weights", "biases", "norm_channels")


def layer_rows(layers: Sequence[Layer]) -> list[dict[str, Any]]:
    """Rows of `layers`, without the model's id."""
    return [
        {"layer": index, **{name: getattr(layer, name) for name in LAYER_COLUMNS}}
        for index, layer in enumerate(layers)
    ]


def parse_layer(row: Mapping[str, Any]) -> Layer:
    """The inverse; channels are not stored, since no cost needs them."""
    return Layer(**{name: row[name] for name in LAYER_COLUMNS})


def parameter_rows(trial: Trial) -> list[dict[str, Any]]:
    """Rows of `parameters`: each value as text, and as a number where it is one."""
    return [
        {
            "trial_id": trial.id,
            "name": name,
            "number": float(value) if isinstance(value, int | float) else None,
            "text": str(value),
        }
        for name, value in trial.parameters.items()
    ]


def layer_bits_row(index: int, bits: LayerBits) -> dict[str, Any]:
    """A row of `layer_bits`, without the allocation's id."""
    return {
        "layer": index,
        "variant": 0,
        "weight_bits": float(bits.weight),
        "activation_bits": float(bits.activation),
        "stored_bits": float(bits.stored_bits),
        "scalars": bits.scalars,
        "norm_copies": bits.norm_copies,
        "share": float(bits.share),
    }


def measurement_row(
    trial_id: str, epoch: int, one: Measurement, layers: Sequence[Layer]
) -> dict[str, Any]:
    """A row of `measurements` with its costs, without the allocation's id."""
    sums = {name: float(value) for name, value in sorted(one.sums.items())}
    if one.agent is not None:
        layers = (*layers, one.agent)
    row = {
        "trial_id": trial_id,
        "epoch": epoch,
        "split": one.split,
        "allocator": one.allocator,
        "lambda": one.lambda_,
        "protocol": one.protocol,
        "correct": one.correct,
        "total": one.total,
        "loss_sum": sums.pop("loss", None),
        "metric_sums": sums,
    }
    return row | _costs(tuple(layers), one.layer_bits)


@lru_cache(maxsize=4096)
def _costs(layers: tuple[Layer, ...], layer_bits: tuple[LayerBits, ...]) -> dict[str, float]:
    """The cost columns: the same at every epoch of every trial of a model at these bits."""
    row = {"mean_weight_bits": mean_bits(layers, layer_bits)}
    for convention in Convention:
        row[f"bitops_{convention}"] = bitops(layers, layer_bits, convention)
        row[f"size_bits_{convention}"] = size_bits(layers, layer_bits, convention)
    return row


def sample_cost_rows(one: Measurement) -> list[dict[str, Any]]:
    """Rows of `sample_costs`, without the measurement's id."""
    points = () if one.sample_costs is None else one.sample_costs.points
    return [{"bitops": value, "count": count} for value, count in points]


_FACTS = (
    "split",
    "allocation_id",
    "allocator",
    "lambda",
    "protocol",
    "correct",
    "total",
    "loss_sum",
    "metric_sums",
)


def facts(row: Mapping[str, Any], costs: Iterable[Mapping[str, Any]] = ()) -> str:
    """What must be the same when a measurement comes again, in one comparable spelling.

    costs: its rows of `sample_costs`, in any order.
    """
    told = [row[name] for name in _FACTS]
    points = sorted((float(one["bitops"]), int(one["count"])) for one in costs)
    return json.dumps([*told, points] if points else told, sort_keys=True)
