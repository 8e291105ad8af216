"""LSQ: learned step size quantization (Esser et al., ICLR 2020), one network per bit-width."""

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

PAPER = "arXiv 1902.08153"


def _layer_bits(
    layers: Sequence[Layer], bits: Bits, parameters: Parameters, all_bits: tuple[Bits, ...]
) -> tuple[LayerBits, ...]:
    """One weight step and one activation step per layer."""
    return one_network_bits(layers, bits)


DECLARATION = MethodDeclaration(
    name="lsq",
    title="LSQ",
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
        weight_decay(1e-4, source=PAPER),
        activation_bits(),
        Parameter(
            name="step_learning_rate_ratio",
            kind="float",
            low=0.0,
            high=100.0,
            default=1.0,
            meaning="learning rate of the step sizes over that of the weights",
            source=PAPER,
        ),
        Parameter(
            name="n_counts_batch",
            kind="bool",
            default=False,
            meaning="the gradient scale of an activation step counts the features of the batch, "
            "not of one sample",
            source="false: paper; true: much public code",
        ),
    ),
    layer_bits=_layer_bits,
    takes_allocations=True,
    summary=(
        "Learns the step size of each layer's weights and of its input by gradient descent.",
        "Codes of weights run from -2^(b-1) to 2^(b-1)-1, of activations after ReLU from 0.",
        "First and last layer run at 8 bits.",
    ),
)
