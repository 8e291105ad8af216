"""ALQ: channels with adaptive numbers of binary bases (Qu et al., 2020); fractional bits."""

from collections.abc import Sequence
from math import ceil, log2

from bitsweep.bits import FULL_PRECISION_BITS, Bits
from bitsweep.cost import Layer, LayerBits
from bitsweep.declaration import MethodDeclaration
from bitsweep.space import Parameter, Parameters
from bitsweep_trainers.methods.declared.common import (
    ALL_KINDS,
    END_BITS,
    activation_bits,
    learning_rate,
    weight_decay,
)

PAPER = "arXiv 1912.08883"
CODE = "the authors' code"


def num_kept(total: int, share: float) -> int:
    """How many of a layer's bases stay; one at least.

    >>> num_kept(64, 0.75), num_kept(3, 0.1)
    (48, 1)
    """
    return max(1, round(total * share))


def _layer_bits(
    layers: Sequence[Layer], bits: Bits, parameters: Parameters, all_bits: tuple[Bits, ...]
) -> tuple[LayerBits, ...]:
    """In the body the mean number of bases, a fraction; coordinates are scalars of 32 bits.

    Which bases a channel has takes ceil(log2(b + 1)) bits a channel, stored with the weights.
    """
    share = float(parameters["kept_share"])
    return tuple(
        _body(layer, bits, share)
        if layer.place == "body"
        else LayerBits(weight=END_BITS, activation=END_BITS, scalars=2)
        for layer in layers
    )


def _body(layer: Layer, bits: Bits, share: float) -> LayerBits:
    kept = num_kept(layer.out_channels * bits.weight, share)
    mean_bits = kept / layer.out_channels
    counts_bits = layer.out_channels * ceil(log2(bits.weight + 1))
    has_step = bits.activation < FULL_PRECISION_BITS
    return LayerBits(
        weight=mean_bits,
        activation=bits.activation,
        stored=mean_bits + counts_bits / layer.weights,
        scalars=kept + has_step,
    )


DECLARATION = MethodDeclaration(
    name="alq",
    title="ALQ",
    source=PAPER,
    serves="one",
    weight_bits=(1, 2, 3, 4, 5, 6),
    numerics=1,
    has_kernels=True,
    layer_kinds=ALL_KINDS,
    parameters=(
        learning_rate(0.03),
        weight_decay(1e-4),
        activation_bits(),
        Parameter(
            name="kept_share",
            kind="float",
            low=0.01,
            high=1.0,
            default=0.75,
            meaning="part of a layer's bases that stays: its mean bits over those of the trial",
            source=f"{PAPER}; the value is chosen",
        ),
        Parameter(
            name="rounds",
            kind="int",
            low=1,
            high=100,
            default=5,
            meaning="rounds in which bases are removed, all before training",
            source=CODE,
        ),
        Parameter(
            name="basis_learning_rate",
            kind="float",
            low=1e-6,
            high=1.0,
            default=2e-4,
            meaning="peak learning rate of the body's weights (Adam) between two fits of bases",
            source=CODE,
        ),
        Parameter(
            name="keeps_master",
            kind="bool",
            default=False,
            meaning="weights in floating point are kept and get the gradient straight through",
            source=f"false: {PAPER}; true: its variant for comparison",
        ),
    ),
    layer_bits=_layer_bits,
    refuses={
        "workers_per_trial": "bases are fitted and removed outside of gradients",
        "ema_decay": "its weights are sums of bases at every step, and an average of sums is none",
    },
    summary=(
        "A channel's weights are sums of signed bases, its bits the number of them.",
        "Bases that a second-order model of the loss misses least are removed before training.",
        "At b bits no channel has more than b; `kept_share` sets the mean, a fraction.",
        "First and last layer run at 8 bits.",
    ),
)
