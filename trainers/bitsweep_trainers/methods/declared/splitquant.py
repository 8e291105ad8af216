"""SplitQuant: rounding after training, with each layer split into three; costs as they are."""

from collections.abc import Sequence

from bitsweep.bits import FULL_PRECISION_BITS, Bits
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

PAPER = "arXiv 2501.12428"
NUM_PARTS = 3
INDEX_BITS = 2


def _layer_bits(
    layers: Sequence[Layer], bits: Bits, parameters: Parameters, all_bits: tuple[Bits, ...]
) -> tuple[LayerBits, ...]:
    """Dense: 3 b bits a weight, multiplied and stored. Sparse: b multiplied, b + 2 stored.

    Every grid of the body and of the ends has a scale and a zero-point. A folded batch norm leaves
    a shift a channel, counted among the scalars.
    """
    return tuple(
        _body(layer, bits, parameters)
        if layer.place == "body"
        else LayerBits(
            weight=END_BITS,
            activation=END_BITS,
            scalars=4 + norm_storage(layer, parameters)[1],
            norm_copies=norm_storage(layer, parameters)[0],
        )
        for layer in layers
    )


def _body(layer: Layer, bits: Bits, parameters: Parameters) -> LayerBits:
    per_channel = parameters["granularity"] == "channel"
    weight_grids = NUM_PARTS * (layer.out_channels if per_channel else 1)
    input_grids = NUM_PARTS if parameters.get("split_activations", False) else 1
    if bits.activation == FULL_PRECISION_BITS:
        input_grids = 0
    is_dense = parameters["storage"] == "dense"
    norm_copies, shifts = norm_storage(layer, parameters)
    return LayerBits(
        weight=(NUM_PARTS if is_dense else 1) * bits.weight,
        activation=bits.activation,
        stored=NUM_PARTS * bits.weight if is_dense else bits.weight + INDEX_BITS,
        scalars=2 * (weight_grids + input_grids) + shifts,
        norm_copies=norm_copies,
    )


DECLARATION = MethodDeclaration(
    name="splitquant",
    title="SplitQuant",
    source=PAPER,
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
            default="tensor",
            meaning="clusters and grids of a layer's weights, or of each output channel's",
            source=f"tensor: {PAPER}; channel: chosen",
        ),
        Parameter(
            name="storage",
            kind="choice",
            choices=("dense", "sparse"),
            default="dense",
            meaning="how the cost is counted, not the numbers: three layers with their zeros, or "
            "zeros skipped and 2 bits of cluster index stored with each weight",
            source=CHOSEN,
        ),
        activation_bits(),
        Parameter(
            name="split_activations",
            kind="bool",
            default=True,
            meaning="each third of an input's channels has a range of its own",
            source=PAPER,
            when={"activation_bits": ("tied", 8)},
        ),
        Parameter(
            name="fold_batch_norm",
            kind="bool",
            default=True,
            meaning="fold each batch norm into the layer before it, then split and round",
            source=CHOSEN,
        ),
    ),
    layer_bits=_layer_bits,
    takes_allocations=True,
    trains=False,
    needs_start=True,
    summary=(
        "Splits each layer into three that hold its lower, middle and upper weights (3-means).",
        "Each is rounded to 2^b values between its extremes and zero; their outputs are added.",
        "Counts three times the products and the stored weights, unless zeros are skipped.",
        "First and last layer run at 8 bits, whole.",
    ),
)
