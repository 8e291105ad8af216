"""Bit-Mixer (arXiv 2103.17267): one network whose layers change their bits at run time."""

from collections.abc import Sequence

from bitsweep.bits import Bits
from bitsweep.cost import Layer, LayerBits
from bitsweep.declaration import MethodDeclaration
from bitsweep.space import Parameter, Parameters
from bitsweep_trainers.methods.declared.common import (
    ALL_KINDS,
    CHOSEN,
    END_BITS,
    learning_rate,
    weight_decay,
)
from bitsweep_trainers.methods.declared.shared_weights import (
    END_SCALARS,
    SAMPLED,
    check_sampling,
    equal_bits_only,
    sampled_allocations,
    without_idle_sampling,
)
from bitsweep_trainers.models.projections import REKEYED, projected_block

PAPER = "arXiv 2103.17267"
WEIGHT_BITS = (2, 3, 4, 5, 6, 7, 8)
INERT_ALONE = ("truncation", "uniform_share", "search", "search_share", *SAMPLED)
NONE = "none"


def reader_of(names: Sequence[str], index: int) -> str:
    """The layer that reads the output of layer `index`, out of the names in order of execution.

    The next one that is no projection of a shortcut: a projection runs beside other layers. The
    last layer reads its own output: there is none behind it.

    >>> reader_of(["body.0.conv2", "body.0.shortcut.conv", "head.linear"], 0)
    'head.linear'
    """
    behind = names[index + 1 :]
    return next((one for one in behind if projected_block(one) is None), names[-1])


def num_transitions(layers: Sequence[Layer], index: int, num_widths: int) -> int:
    """Batch norms behind a layer: pairs of its bits and its reader's; an end has one width."""
    reader = reader_of([one.name for one in layers], index)
    places = {one.name: one.place for one in layers}
    ends = (layers[index].place, places[reader])
    copies = 1
    for place in ends:
        copies *= num_widths if place == "body" else 1
    return copies


def allocation_layer_bits(
    layers: Sequence[Layer], body_bits: Sequence[Bits], all_bits: tuple[Bits, ...]
) -> tuple[LayerBits, ...]:
    """Body layers, in order, at bits of their own.

    Stored are the codes of the largest width, one weight step, a step of the input per width, and
    a batch norm for each pair of bits before and behind it.
    """
    num_widths = len(all_bits)
    remaining = iter(body_bits)
    found = []
    for index, layer in enumerate(layers):
        norm_copies = num_transitions(layers, index, num_widths)
        if layer.place != "body":
            found.append(
                LayerBits(
                    weight=END_BITS,
                    activation=END_BITS,
                    scalars=END_SCALARS,
                    norm_copies=norm_copies,
                )
            )
            continue
        bits = next(remaining)
        found.append(
            LayerBits(
                weight=bits.weight,
                activation=bits.activation,
                stored=max(one.weight for one in all_bits),
                scalars=1 + num_widths,
                norm_copies=norm_copies,
            )
        )
    return tuple(found)


def _layer_bits(
    layers: Sequence[Layer], bits: Bits, parameters: Parameters, all_bits: tuple[Bits, ...]
) -> tuple[LayerBits, ...]:
    """All body layers at the same bits."""
    return allocation_layer_bits(layers, [bits] * len(layers), all_bits)


def _canonical(parameters: Parameters, all_bits: tuple[Bits, ...]) -> Parameters:
    """With one width no code is cut, layers draw the same bits, and there is nothing to search.

    No teacher, no search and no measured allocations leave no trace.
    """
    inert = INERT_ALONE if len(all_bits) == 1 else ()
    idle = [name for name in ("teacher", "search") if parameters.get(name) == NONE]
    kept = {name: value for name, value in parameters.items() if name not in (*inert, *idle)}
    return without_idle_sampling(kept)


def _check(parameters: Parameters, all_bits: tuple[Bits, ...]) -> None:
    """Equal bits; the two first stages fit into the training."""
    equal_bits_only("bit_mixer", WEIGHT_BITS)(parameters, all_bits)
    check_sampling(parameters)
    shares = [float(parameters.get(name, 0)) for name in ("activation_share", "uniform_share")]
    if sum(shares) > 1:
        raise ValueError(
            f"activation_share and uniform_share are shares of one training, got {shares}"
        )


def held_share(parameters: Parameters) -> float:
    """The share of the training images that is kept for the search."""
    return float(parameters["search_share"]) if parameters.get("search", NONE) != NONE else 0.0


DECLARATION = MethodDeclaration(
    name="bit_mixer",
    title="Bit-Mixer",
    source=PAPER,
    serves="all",
    keeps_plain=lambda given, bits: False,
    weight_bits=WEIGHT_BITS,
    numerics=1,
    numerics_on=REKEYED,
    has_kernels=True,
    held_share=held_share,
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
        Parameter(
            name="teacher",
            kind="choice",
            choices=(NONE, "fp32"),
            default=NONE,
            meaning="who teaches besides the labels: nobody, or the FP32 network it starts from",
            source="fp32: a later paper's account of Bit-Mixer",
        ),
        Parameter(
            name="distillation_weight",
            kind="float",
            low=0.0,
            high=1.0,
            default=0.5,
            meaning="weight of the teacher's soft labels in the loss",
            source=CHOSEN,
            when={"teacher": ("fp32",)},
        ),
        Parameter(
            name="distillation_temperature",
            kind="float",
            low=0.1,
            high=20.0,
            default=1.0,
            meaning="temperature of the soft labels; the soft loss is scaled by its square",
            source=CHOSEN,
            when={"teacher": ("fp32",)},
        ),
        Parameter(
            name="search",
            kind="choice",
            choices=(NONE, "greedy"),
            default=NONE,
            meaning="after training, bits layer by layer under budgets of mean bits, half a bit "
            "apart; measured beside the same bits in a shuffled order",
            source=f"greedy under an average: {PAPER}; details: {CHOSEN}",
        ),
        Parameter(
            name="search_share",
            kind="float",
            low=0.02,
            high=0.2,
            default=0.1,
            meaning="share of the training images that the search sees and the network never",
            source=CHOSEN,
            when={"search": ("greedy",)},
        ),
        *sampled_allocations(),
    ),
    layer_bits=_layer_bits,
    refuses={"workers_per_trial": "its search on held-out images runs in one process"},
    canonical=_canonical,
    check=_check,
    needs_start_when={"teacher": "fp32"},
    needs_classes_when={"teacher": "fp32", "search": "greedy"},
    summary=(
        "Each layer may run at any of the widths: fewer bits are the high bits of its codes.",
        "Batch norms belong to a pair of bits: of the layer before and of the layer behind.",
        "Each step trains one allocation: first activations alone, then one width for all layers,",
        "then layer by layer at random.",
    ),
)
