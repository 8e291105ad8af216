"""Bit-Mixer (arXiv 2103.17267): one network whose layers change their bits at run time."""

from collections.abc import Sequence

from bitsweep.bits import Bits
from bitsweep.cost import Layer, LayerBits
from bitsweep.space import Parameter, Parameters
from bitsweep.trainer import MethodDeclaration
from bitsweep_trainers.methods.declared.common import (
    ALL_KINDS,
    CHOSEN,
    END_BITS,
    learning_rate,
    weight_decay,
)
from bitsweep_trainers.methods.declared.shared_weights import END_SCALARS, equal_bits_only

PAPER = "arXiv 2103.17267"
WEIGHT_BITS = (2, 3, 4, 5, 6, 7, 8)
SHORTCUT = "shortcut"
INERT_ALONE = ("truncation", "uniform_share")


def reader_of(names: Sequence[str], index: int) -> str:
    """The layer that reads the output of layer `index`, out of the names in order of execution.

    The next one that is no projection of a shortcut: a projection runs beside other layers. The
    last layer reads its own output: there is none behind it.

    >>> reader_of(["body.0.conv2", "body.0.shortcut.conv", "head.linear"], 0)
    'head.linear'
    """
    behind = names[index + 1 :]
    return next((one for one in behind if SHORTCUT not in one.split(".")), names[-1])


def num_transitions(layers: Sequence[Layer], index: int, num_widths: int) -> int:
    """Batch norms behind a layer: pairs of its bits and its reader's; an end has one width."""
    reader = reader_of([one.name for one in layers], index)
    places = {one.name: one.place for one in layers}
    ends = (layers[index].place, places[reader])
    copies = 1
    for place in ends:
        copies *= num_widths if place == "body" else 1
    return copies


def _layer_bits(
    layers: Sequence[Layer], bits: Bits, parameters: Parameters, all_bits: tuple[Bits, ...]
) -> tuple[LayerBits, ...]:
    """Stored are the codes of the largest width, one weight step, a step of the input per width.

    A batch norm for each pair of bits before and behind it.
    """
    count = len(all_bits)
    return tuple(
        LayerBits(
            weight=bits.weight,
            activation=bits.activation,
            stored=max(one.weight for one in all_bits),
            scalars=1 + count,
            norm_copies=num_transitions(layers, index, count),
        )
        if layer.place == "body"
        else LayerBits(
            weight=END_BITS,
            activation=END_BITS,
            scalars=END_SCALARS,
            norm_copies=num_transitions(layers, index, count),
        )
        for index, layer in enumerate(layers)
    )


def _canonical(parameters: Parameters, all_bits: tuple[Bits, ...]) -> Parameters:
    """With one width no code is cut, and layers that draw their own bits draw the same."""
    if len(all_bits) > 1:
        return parameters
    return {name: value for name, value in parameters.items() if name not in INERT_ALONE}


def _check(parameters: Parameters, all_bits: tuple[Bits, ...]) -> None:
    """Equal bits; the two first stages fit into the training."""
    equal_bits_only("bit_mixer", WEIGHT_BITS)(parameters, all_bits)
    shares = [float(parameters.get(name, 0)) for name in ("activation_share", "uniform_share")]
    if sum(shares) > 1:
        raise ValueError(
            f"activation_share and uniform_share are shares of one training, got {shares}"
        )


DECLARATION = MethodDeclaration(
    name="bit_mixer",
    title="Bit-Mixer",
    source=PAPER,
    serves="all",
    weight_bits=WEIGHT_BITS,
    numerics=1,
    layer_kinds=ALL_KINDS,
    learning=("classification", "regression"),
    parameters=(
        learning_rate(0.03),
        weight_decay(1e-4),
        Parameter(
            name="truncation",
            kind="choice",
            choices=("floor", "round"),
            default="round",
            meaning="how weight codes of the largest width lose their low bits: by floor, or by "
            "rounding a second time",
            source="floor: a later paper's account of Bit-Mixer; round (double rounding) trains "
            "better in few epochs",
        ),
        Parameter(
            name="drop_lowest",
            kind="bool",
            default=False,
            meaning="the largest width does without its lowest weight code, -2^(B-1)",
            source="a later paper's account",
        ),
        Parameter(
            name="activation_share",
            kind="float",
            low=0.0,
            high=1.0,
            default=1 / 3,
            meaning="first share of the training, in which activations alone are quantized",
            source=f"stages: {PAPER}; thirds: {CHOSEN}",
        ),
        Parameter(
            name="uniform_share",
            kind="float",
            low=0.0,
            high=1.0,
            default=1 / 3,
            meaning="second share, in which all layers run at the bits of the step; in the rest "
            "a layer draws its own bits with a probability that rises from 0 to 1",
            source=f"stages: {PAPER}; thirds: {CHOSEN}",
        ),
        Parameter(
            name="step_learning_rate_ratio",
            kind="float",
            low=0.0,
            high=100.0,
            default=1.0,
            meaning="learning rate of the step sizes over that of the weights",
            source=CHOSEN,
        ),
    ),
    layer_bits=_layer_bits,
    canonical=_canonical,
    check=_check,
    summary=(
        "Each layer may run at any of the widths: fewer bits are the high bits of its codes.",
        "Batch norms belong to a pair of bits: of the layer before and of the layer behind.",
        "Each step trains one allocation: first activations alone, then one width for all layers,",
        "then layer by layer at random.",
    ),
)
