"""PACT: learned clipping of activations (Choi et al., 2018), one network per bit-width."""

from collections.abc import Sequence

from bitsweep.bits import Bits
from bitsweep.cost import Layer, LayerBits
from bitsweep.declaration import MethodDeclaration
from bitsweep.space import Condition, Parameter, Parameters
from bitsweep_trainers.methods.declared.common import (
    ALL_KINDS,
    activation_bits,
    learning_rate,
    one_network_bits,
    weight_decay,
)
from bitsweep_trainers.methods.declared.dorefa import canonical, detach_max

PAPER = "arXiv 1805.06085"
SAT = "arXiv 1912.10207"
HAS_ALPHA: Condition = {"activation_bits": ("tied", 8)}


def _layer_bits(
    layers: Sequence[Layer], bits: Bits, parameters: Parameters, all_bits: tuple[Bits, ...]
) -> tuple[LayerBits, ...]:
    """One alpha per input; the weights' range is fixed, but 1-bit weights have their mean."""
    body = one_network_bits(layers, bits, weight_scalars=int(bits.weight == 1))
    ends = one_network_bits(layers, bits)
    return tuple(
        inner if layer.place == "body" else end
        for layer, inner, end in zip(layers, body, ends, strict=True)
    )


DECLARATION = MethodDeclaration(
    name="pact",
    title="PACT",
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
        Parameter(
            name="alpha_init",
            kind="choice",
            choices=("mse", "fixed"),
            default="mse",
            meaning="clipping levels at the start: least squared error on training images, or "
            "one value for all layers",
            source=f"fixed: {PAPER}; mse: chosen",
            when=HAS_ALPHA,
        ),
        Parameter(
            name="alpha",
            kind="float",
            low=0.01,
            high=1000.0,
            default=10.0,
            meaning="clipping level of every layer at the start",
            source=PAPER,
            when={**HAS_ALPHA, "alpha_init": ("fixed",)},
        ),
        Parameter(
            name="alpha_gradient",
            kind="choice",
            choices=("paper", "calibrated"),
            default="paper",
            meaning="gradient of alpha below it: 0, or the rounding error (CG-PACT)",
            source=f"paper: {PAPER}; calibrated: {SAT}",
            when=HAS_ALPHA,
        ),
        Parameter(
            name="alpha_decay",
            kind="float",
            low=0.0,
            high=1.0,
            default=1e-4,
            meaning="L2 decay of the clipping levels; without it they grow",
            source=PAPER,
            when=HAS_ALPHA,
        ),
        Parameter(
            name="alpha_learning_rate_ratio",
            kind="float",
            low=0.0,
            high=100.0,
            default=1.0,
            meaning="learning rate of the clipping levels over that of the weights",
            source=f"1: {PAPER}",
            when=HAS_ALPHA,
        ),
    ),
    layer_bits=_layer_bits,
    takes_allocations=True,
    canonical=canonical,
    summary=(
        "Clips each layer's input at a level that gradient descent and L2 decay balance.",
        "Weights as in DoReFa: tanh, divided by the largest, rounded in [-1, 1].",
        "First and last layer run at 8 bits.",
    ),
)
