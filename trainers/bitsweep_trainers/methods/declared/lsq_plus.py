"""LSQ+: LSQ with learned offsets of the inputs (Bhalgat et al., 2020), one network per width."""

from collections.abc import Sequence

from bitsweep.bits import Bits
from bitsweep.cost import Layer, LayerBits
from bitsweep.declaration import MethodDeclaration
from bitsweep.space import Parameter, Parameters
from bitsweep_trainers.methods.declared.common import (
    ALL_KINDS,
    activation_bits,
    learning_rate,
    one_network_bits,
    weight_decay,
)

PAPER = "arXiv 2004.09576"


def _layer_bits(
    layers: Sequence[Layer], bits: Bits, parameters: Parameters, all_bits: tuple[Bits, ...]
) -> tuple[LayerBits, ...]:
    """In the body one weight step, and a step and an offset of the input; two steps at the ends.

    The offset adds no products: its share of each output is a constant, folded into a bias.
    """
    body = one_network_bits(layers, bits, activation_scalars=2)
    ends = one_network_bits(layers, bits)
    return tuple(
        inner if layer.place == "body" else end
        for layer, inner, end in zip(layers, body, ends, strict=True)
    )


DECLARATION = MethodDeclaration(
    name="lsq_plus",
    title="LSQ+",
    source=PAPER,
    serves="one",
    weight_bits=(2, 3, 4, 5, 6, 7, 8),
    numerics=1,
    has_kernels=True,
    groups_seeds=True,
    layer_kinds=ALL_KINDS,
    learning=("classification", "regression"),
    parameters=(
        learning_rate(0.03),
        weight_decay(1e-4),
        activation_bits(),
        Parameter(
            name="step_learning_rate_ratio",
            kind="float",
            low=0.0,
            high=100.0,
            default=1.0,
            meaning="learning rate of steps and offsets over that of the weights",
            source="arXiv 1902.08153",
        ),
        Parameter(
            name="activation_init",
            kind="choice",
            choices=("mse", "min_max"),
            default="mse",
            meaning="steps and offsets of inputs at the start: least squared error on training "
            "images, or over their whole range",
            source=PAPER,
            when={"activation_bits": ("tied", 8)},
        ),
    ),
    layer_bits=_layer_bits,
    takes_allocations=True,
    summary=(
        "Learns steps as LSQ does, and an offset of each layer's input.",
        "Starts: weights from mean and standard deviation, inputs from the least squared error.",
        "Made for activations with negative values; after ReLU it should tie with LSQ.",
        "First and last layer run at 8 bits.",
    ),
)
