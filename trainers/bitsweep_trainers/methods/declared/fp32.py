"""FP32: training without quantization, the start of every other method and its upper row."""

from collections.abc import Sequence

from bitsweep.bits import FULL_PRECISION_BITS, Bits
from bitsweep.cost import Layer, LayerBits
from bitsweep.declaration import MethodDeclaration
from bitsweep.space import Parameters
from bitsweep_trainers.methods.declared.common import ALL_KINDS, learning_rate, weight_decay


def _layer_bits(
    layers: Sequence[Layer], bits: Bits, parameters: Parameters, all_bits: tuple[Bits, ...]
) -> tuple[LayerBits, ...]:
    """32 bits everywhere, the ends too."""
    full = LayerBits(weight=FULL_PRECISION_BITS, activation=FULL_PRECISION_BITS)
    return tuple(full for _ in layers)


DECLARATION = MethodDeclaration(
    name="fp32",
    title="FP32",
    source="no quantization",
    serves="one",
    weight_bits=(FULL_PRECISION_BITS,),
    numerics=1,
    groups_seeds=True,
    layer_kinds=ALL_KINDS,
    learning=("classification", "regression"),
    parameters=(learning_rate(0.1), weight_decay(1e-4)),
    layer_bits=_layer_bits,
    summary=(
        "Trains the plain network in floating point.",
        "Every other method starts from its checkpoint.",
    ),
)
