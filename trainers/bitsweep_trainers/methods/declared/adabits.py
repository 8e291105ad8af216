"""AdaBits (arXiv 1912.09666): one network whose weights and activations run at several widths."""

from collections.abc import Sequence

from bitsweep.bits import Bits
from bitsweep.cost import Layer, LayerBits
from bitsweep.declaration import MethodDeclaration
from bitsweep.space import Parameter, Parameters
from bitsweep_trainers.methods.declared.common import (
    ALL_KINDS,
    CHOSEN,
    learning_rate,
    weight_decay,
)
from bitsweep_trainers.methods.declared.shared_weights import (
    detach_max,
    end_step_rate,
    equal_bits_only,
    shared_layer_bits,
)

PAPER = "arXiv 1912.09666"
CODE = "the authors' code"
SAT = "arXiv 1912.10207"
WEIGHT_BITS = (2, 3, 4, 5, 6, 7, 8)


def _layer_bits(
    layers: Sequence[Layer], bits: Bits, parameters: Parameters, all_bits: tuple[Bits, ...]
) -> tuple[LayerBits, ...]:
    """Stored are the codes of the largest width: fewer bits are their high bits.

    The grid in [-1, 1] needs no scale. A clipping level and a batch norm for each width.
    """
    is_shared = parameters.get("clipping") == "shared"
    return shared_layer_bits(
        layers,
        bits,
        stored=max(one.weight for one in all_bits),
        scalars=1 if is_shared else len(all_bits),
        norm_copies=len(all_bits),
    )


def _canonical(parameters: Parameters, all_bits: tuple[Bits, ...]) -> Parameters:
    """One width has one clipping level in any case."""
    if len(all_bits) > 1:
        return parameters
    return {name: value for name, value in parameters.items() if name != "clipping"}


DECLARATION = MethodDeclaration(
    name="adabits",
    title="AdaBits",
    source=PAPER,
    serves="all",
    keeps_plain=lambda given, bits: False,
    weight_bits=WEIGHT_BITS,
    numerics=1,
    has_kernels=True,
    layer_kinds=ALL_KINDS,
    takes_signed_inputs=False,
    learning=("classification", "regression"),
    parameters=(
        learning_rate(0.05, source=f"{CODE} (ImageNet, from FP32 weights)"),
        weight_decay(4e-5, source=CODE),
        Parameter(
            name="grid",
            kind="choice",
            choices=("symmetric", "centred", "released"),
            default="centred",
            meaning="values of the nested codes q in [-1, 1]: 2q/(2^k-1)-1, (2q+1)/2^k-1, or "
            "2q/2^k-1 as the public code computes",
            source=f"{PAPER}; centred: advised below 4 bits by the authors' README",
        ),
        Parameter(
            name="clipping",
            kind="choice",
            choices=("switchable", "shared"),
            default="switchable",
            meaning="a clipping level of the activations per width, or one for all widths",
            source=PAPER,
        ),
        Parameter(
            name="last_layer",
            kind="choice",
            choices=("rescaled", "lsq"),
            default="rescaled",
            meaning="8-bit weights of the last layer: DoReFa's, rescaled to variance 1/outputs, "
            "or by LSQ as other methods have them",
            source=f"rescaled: {SAT}; lsq: {CHOSEN}",
        ),
        Parameter(
            name="clip_learning_rate_ratio",
            kind="float",
            low=0.0,
            high=100.0,
            default=1.0,
            meaning="learning rate of the clipping levels over that of the weights",
            source=CODE,
        ),
        Parameter(
            name="clip_decay",
            kind="float",
            low=0.0,
            high=1.0,
            default=4e-5,
            meaning="L2 decay of the clipping levels",
            source=CODE,
        ),
        end_step_rate(),
        detach_max(),
    ),
    layer_bits=_layer_bits,
    canonical=_canonical,
    check=equal_bits_only("adabits", WEIGHT_BITS),
    summary=(
        "One weight tensor serves all widths: the codes of fewer bits are high bits of the most.",
        "Each width has its own batch norms and clipping levels of the activations.",
        "Each step adds up the gradients of all widths' cross-entropies on one batch.",
    ),
)
