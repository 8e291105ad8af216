"""PTQ: rounding a trained network to min-max or least-error grids, without training."""

from collections.abc import Sequence

from bitsweep.bits import Bits
from bitsweep.cost import Layer, LayerBits
from bitsweep.declaration import MethodDeclaration
from bitsweep.space import Parameter, Parameters
from bitsweep_trainers.methods.declared.common import (
    ALL_KINDS,
    CHOSEN,
    END_BITS,
    activation_bits,
    norm_storage,
)


def _layer_bits(
    layers: Sequence[Layer], bits: Bits, parameters: Parameters, all_bits: tuple[Bits, ...]
) -> tuple[LayerBits, ...]:
    """A scale (and a zero-point, if asymmetric) per weight grid; both for each activation.

    A folded batch norm leaves a shift a channel, counted among the scalars.
    """
    return tuple(
        LayerBits(
            weight=width.weight,
            activation=width.activation,
            scalars=_weight_scalars(layer, parameters)
            + (2 if width.activation < 32 else 0)
            + norm_storage(layer, parameters)[1],
            norm_copies=norm_storage(layer, parameters)[0],
        )
        for layer in layers
        for width in [
            bits if layer.place == "body" else Bits(weight=END_BITS, activation=END_BITS)
        ]
    )


def _weight_scalars(layer: Layer, parameters: Parameters) -> int:
    grids = layer.out_channels if parameters["granularity"] == "channel" else 1
    return grids * (2 if parameters["scheme"] == "asymmetric" else 1)


DECLARATION = MethodDeclaration(
    name="ptq",
    title="PTQ",
    source="round to nearest; no paper",
    serves="one",
    weight_bits=(2, 3, 4, 5, 6, 7, 8),
    numerics=2,
    layer_kinds=ALL_KINDS,
    learning=("classification", "regression"),
    parameters=(
        Parameter(
            name="granularity",
            kind="choice",
            choices=("tensor", "channel"),
            default="channel",
            meaning="one grid for a layer's weights, or one for each output channel",
            source=CHOSEN,
        ),
        Parameter(
            name="scheme",
            kind="choice",
            choices=("symmetric", "asymmetric"),
            default="symmetric",
            meaning="grid of the weights: 2^b - 1 values around 0, or 2^b from minimum to maximum",
            source=CHOSEN,
        ),
        Parameter(
            name="range",
            kind="choice",
            choices=("min_max", "mse"),
            default="min_max",
            meaning="what a grid spans: all values, or the share of their range with the least "
            "squared error",
            source=CHOSEN,
        ),
        activation_bits(),
        Parameter(
            name="fold_batch_norm",
            kind="bool",
            default=True,
            meaning="fold each batch norm into the layer before it, then round",
            source=CHOSEN,
        ),
    ),
    layer_bits=_layer_bits,
    takes_allocations=True,
    trains=False,
    needs_start=True,
    summary=(
        "Rounds the weights of the trained network to the grid over all or part of their range.",
        "Activations: asymmetric grids over the range seen on 1024 training images.",
        "First and last layer run at 8 bits.",
    ),
)
