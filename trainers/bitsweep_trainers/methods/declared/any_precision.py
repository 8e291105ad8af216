"""Any-Precision DNN (arXiv 1911.07346): one network at several widths, each taught by the next."""

from collections.abc import Sequence

from bitsweep.bits import FULL_PRECISION_BITS, Bits
from bitsweep.cost import Layer, LayerBits
from bitsweep.declaration import MethodDeclaration
from bitsweep.space import Parameter, Parameters
from bitsweep_trainers.methods.declared.common import ALL_KINDS, learning_rate, weight_decay
from bitsweep_trainers.methods.declared.shared_weights import (
    detach_max,
    end_step_rate,
    equal_bits_only,
    shared_layer_bits,
)

PAPER = "arXiv 1911.07346"
WEIGHT_BITS = (1, 2, 3, 4, 5, 6, 7, 8, FULL_PRECISION_BITS)


def _layer_bits(
    layers: Sequence[Layer], bits: Bits, parameters: Parameters, all_bits: tuple[Bits, ...]
) -> tuple[LayerBits, ...]:
    """Each width rounds anew: stored are the codes of all widths, or 32 bits where that is less.

    One scale of the weights, mean|w|, for all widths; a batch norm for each.
    """
    return shared_layer_bits(
        layers,
        bits,
        stored=min(FULL_PRECISION_BITS, sum(one.weight for one in all_bits)),
        scalars=1,
        norm_copies=len(all_bits),
    )


def _canonical(parameters: Parameters, all_bits: tuple[Bits, ...]) -> Parameters:
    """One width has no teacher."""
    if len(all_bits) > 1:
        return parameters
    return {name: value for name, value in parameters.items() if name != "distillation"}


DECLARATION = MethodDeclaration(
    name="any_precision",
    title="Any-Precision",
    source=PAPER,
    serves="all",
    keeps_plain=lambda given, bits: False,
    weight_bits=WEIGHT_BITS,
    numerics=1,
    has_kernels=True,
    layer_kinds=ALL_KINDS,
    takes_signed_inputs=False,
    parameters=(
        learning_rate(0.05),
        weight_decay(1e-5, source="the authors' code (ImageNet)"),
        Parameter(
            name="distillation",
            kind="choice",
            choices=("recursive", "soft", "hard"),
            default="recursive",
            meaning="who teaches a width: the next larger one, the largest one, or the labels; "
            "the largest always learns from the labels",
            source=PAPER,
        ),
        end_step_rate(),
        detach_max(),
    ),
    layer_bits=_layer_bits,
    canonical=_canonical,
    check=equal_bits_only("any_precision", WEIGHT_BITS),
    summary=(
        "One weight tensor is rounded anew for each width, by DoReFa with its mean magnitude.",
        "Each width has its own batch norms; activations are clipped to [0, 1].",
        "Each step runs all widths, the largest first; each next one learns the soft labels of",
        "the width before it.",
    ),
)
