"""Bit-lengths per layer that CPQ with DropBits learns: their price, their reading, their end.

Section 2.7 of the method card: L = task loss + lambda sum_l c_l R_l.
"""

from collections.abc import Iterator, Sequence

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
    quantizers,
)

CORE_BITS = 2


def body_layers(trial: Trial) -> tuple[Layer, ...]:
    """The declared layers of the body of the trial's model on its data, in `modules()` order."""
    data = data_of(trial)
    layers = MODELS[trial.model].layers(data.shape, data.classes)
    return tuple(layer for layer in layers if layer.place == "body")


def length_penalty(network: nn.Module, trial: Trial) -> Tensor | None:
    """lambda sum c_l R_l of the lengths that still learn; None where none does.

    With a target of T mean bits, weighted by c: lambda max(0, sum c_l (2 + R_l) / sum c_l - T).
    """
    parameters = trial.parameters
    if parameters.get("task") != "hetero":
        return None
    shares = layer_shares(body_layers(trial), str(parameters["reg_weight"]))
    terms = list(_terms(network, shares))
    if not terms:
        return None
    levels = expected_levels([one for _, one in terms])
    price = (levels * levels.new_tensor([share for share, _ in terms])).sum()
    if target := float(parameters.get("target_bits", 0.0)):
        excess = price / sum(share for share, _ in terms) + CORE_BITS - target
        price = excess.clamp_min(0.0)
    return float(parameters["lambda"]) * price


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


def freeze_lengths(network: nn.Module) -> None:
    """Keep the lengths as they stand; a second time changes nothing."""
    for one in quantizers(network):
        if one.frozen is None:
            one.freeze()


def learned_allocation(network: nn.Module) -> Allocation:
    """The lengths of the body's layers as they stand."""
    pairs = []
    for _, layer in quantized_layers(network.get_submodule("body")):
        weights, inputs = layer.weight_quantizer, layer.input_quantizer
        assert isinstance(weights, ClusterPromoting) and isinstance(inputs, ClusterPromoting)
        pairs.append(Bits(weight=weights.length, activation=inputs.length))
    return Allocation(layers=tuple(pairs))
