"""Bit-lengths per layer that CPQ with DropBits learns: their price, their reading, their end.

Section 2.7 of the method card: L = task loss + lambda sum_l c_l R_l.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from bitsweep.bits import Allocation, Bits
from bitsweep.cost import Layer
from bitsweep.trial import Trial
from bitsweep_trainers.data.cache import data_of
from bitsweep_trainers.layers import quantized_layers
from bitsweep_trainers.models.declared import MODELS
from bitsweep_trainers.quantizers.cluster_promoting import (
    ClusterPromoting,
    expected_levels,
    kept_levels,
    quantizers,
)

CORE_BITS = 2
LEAST_EXCESS = 1e-4  # mean bits: less is the rounding of a weighted mean


def body_layers(trial: Trial) -> tuple[Layer, ...]:
    """The declared layers of the body of the trial's model on its data, in `modules()` order."""
    data = data_of(trial)
    layers = MODELS[trial.model].layers(data.shape, data.classes)
    return tuple(layer for layer in layers if layer.place == "body")


def length_penalty(network: nn.Module, trial: Trial) -> Tensor | None:
    """lambda sum c_l R_l of the lengths that still learn; None where none does.

    With a target of T mean bits, weighted by c: lambda max(0, sum c_l b_l / sum c_l - T), b_l the
    lengths as they would be read out; its slope is that of sum c_l R_l / sum c_l. R itself
    would not do: it counts a level by P(z > 0), which is 0.31 where the readout drops it.
    """
    parameters = trial.parameters
    if parameters.get("task") != "hetero":
        return None
    shares = layer_shares(body_layers(trial), str(parameters["reg_weight"]))
    terms = list(_terms(network, shares))
    if not terms:
        return None
    learning = [one for _, one in terms]
    levels = expected_levels(learning)
    weights = levels.new_tensor([share for share, _ in terms])
    if target := float(parameters.get("target_bits", 0.0)):
        weights = weights / weights.sum()
        excess = CORE_BITS + (kept_levels(learning) * weights).sum() - target
        price = _excess_price((levels * weights).sum(), excess)
    else:
        price = (levels * weights).sum()
    return float(parameters["lambda"]) * price


def _excess_price(slope: Tensor, excess: Tensor) -> Tensor:
    """An excess above 0, with the gradient of `slope`; else 0 without one. On the device."""
    return torch.where(excess > LEAST_EXCESS, slope - slope.detach() + excess, 0.0)


def layer_shares(body: Sequence[Layer], reg_weight: str) -> list[float]:
    """c of each layer of the body: 1, or its share of the weights or of the MACs.

    At equal bits, as at the start, the share of the MACs is that of the BitOps.
    """
    if reg_weight == "one":
        return [1.0] * len(body)
    counts = [layer.weights if reg_weight == "size" else layer.macs for layer in body]
    return [count / sum(counts) for count in counts]


def _terms(
    network: nn.Module, shares: Sequence[float]
) -> Iterator[tuple[float, ClusterPromoting]]:
    """c and quantizer of every length that learns."""
    layers = quantized_layers(network.get_submodule("body"))
    for (_, layer), share in zip(layers, shares, strict=True):
        for one in (layer.weight_quantizer, layer.input_quantizer):
            if isinstance(one, ClusterPromoting) and _is_learning(one):
                yield share, one


def _is_learning(one: ClusterPromoting) -> bool:
    has_length = one.masks is not None and one.masks.learns_length
    return has_length and one.keep_logits is not None and one.frozen is None


def freeze_lengths(network: nn.Module, trial: Trial) -> None:
    """Keep the lengths as they stand, or what a target leaves; a second time changes nothing.

    With a target of T mean bits, weighted by c, those levels stay that are kept most probably, as
    many as fit, so that a training that stands above T or fell far below it ends close below it.
    """
    shares = layer_shares(body_layers(trial), str(trial.parameters.get("reg_weight", "one")))
    terms = list(_terms(network, shares))
    if terms and (target := float(trial.parameters.get("target_bits", 0.0))):
        rows = [one.keep_logits.tolist() for _, one in terms if one.keep_logits is not None]
        found = levels_within(rows, [share for share, _ in terms], target - CORE_BITS)
        for (_, one), levels in zip(terms, found, strict=True):
            one.freeze(levels)
    for one in quantizers(network):
        if one.frozen is None:
            one.freeze()


def levels_within(
    logits: Sequence[Sequence[float]], shares: Sequence[float], most: float
) -> list[int]:
    """How many nested levels of each layer stay so that their weighted mean is at most `most`.

    logits: of each layer's levels, the lowest first; a level is no likelier than those below it.
    One after the other the likeliest stays if it fits, and no level above one that did not.

    >>> levels_within([[2.0, 1.0], [3.0, -2.0]], [1.0, 1.0], 1.5)
    [2, 1]
    >>> levels_within([[2.0, 1.0], [3.0, -2.0]], [1.0, 3.0], 1.0)
    [1, 1]
    """
    ranked = sorted(
        (-min(row[: level + 1]), level, layer)
        for layer, row in enumerate(logits)
        for level in range(len(row))
    )
    kept, room = [0] * len(logits), (most + LEAST_EXCESS) * sum(shares)
    for _, level, layer in ranked:
        if kept[layer] == level and shares[layer] <= room:
            kept[layer] += 1
            room -= shares[layer]
    return kept


def achieved_bits(network: nn.Module, trial: Trial) -> float:
    """The mean of the lengths as they stand, weighted by c: what a target is held against."""
    shares = layer_shares(body_layers(trial), str(trial.parameters["reg_weight"]))
    layers = quantized_layers(network.get_submodule("body"))
    found = [
        (share, one.length)
        for (_, layer), share in zip(layers, shares, strict=True)
        for one in (layer.weight_quantizer, layer.input_quantizer)
        if isinstance(one, ClusterPromoting) and one.kept_masks() is not None
    ]
    return sum(share * length for share, length in found) / sum(share for share, _ in found)


def learned_allocation(network: nn.Module) -> Allocation:
    """The lengths of the body's layers as they stand."""
    pairs = []
    for _, layer in quantized_layers(network.get_submodule("body")):
        weights, inputs = layer.weight_quantizer, layer.input_quantizer
        assert isinstance(weights, ClusterPromoting) and isinstance(inputs, ClusterPromoting)
        pairs.append(Bits(weight=weights.length, activation=inputs.length))
    return Allocation.of(pairs)
