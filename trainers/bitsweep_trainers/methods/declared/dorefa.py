"""DoReFa: tanh weights and clamped activations (Zhou et al., 2016), one network per bit-width."""

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

PAPER = "arXiv 1606.06160"


def detach_max() -> Parameter:
    """Whether M = max|tanh w| is a constant in the gradient of DoReFa's weights."""
    return Parameter(
        name="detach_max",
        kind="bool",
        default=True,
        meaning="M = max|tanh w| is a constant in the gradient",
        source="true: many public implementations; false: public code of AdaBits, Any-Precision",
    )


def _layer_bits(
    layers: Sequence[Layer], bits: Bits, parameters: Parameters, all_bits: tuple[Bits, ...]
) -> tuple[LayerBits, ...]:
    """No scalar in the body: ranges are fixed; the 1-bit weights have their mean."""
    return tuple(
        LayerBits(
            weight=one.weight,
            activation=one.activation,
            scalars=(1 if bits.weight == 1 else 0) if layer.place == "body" else one.scalars,
        )
        for layer, one in zip(layers, one_network_bits(layers, bits), strict=True)
    )


def canonical(given: Parameters, all_bits: tuple[Bits, ...]) -> Parameters:
    """Without M, at 1 bit, its gradient means nothing."""
    if all(bits.weight == 1 for bits in all_bits):
        return {name: value for name, value in given.items() if name != "detach_max"}
    return given


DECLARATION = MethodDeclaration(
    name="dorefa",
    title="DoReFa",
    source=PAPER,
    serves="one",
    weight_bits=(1, 2, 3, 4, 5, 6, 7, 8),
    numerics=1,
    has_kernels=True,
    groups_seeds=True,
    layer_kinds=ALL_KINDS,
    takes_signed_inputs=False,
    learning=("classification", "regression"),
    parameters=(
        learning_rate(0.1),
        weight_decay(1e-4),
        activation_bits(),
        detach_max(),
    ),
    layer_bits=_layer_bits,
    takes_allocations=True,
    canonical=canonical,
    summary=(
        "Weights pass through tanh, are divided by the largest and rounded in [-1, 1].",
        "Activations are clamped to [0, 1] and rounded; nothing about a range is learned.",
        "First and last layer run at 8 bits; gradients are not quantized.",
    ),
)
