"""AdaQAT: bits of weights and activations learned with the network, by finite differences."""

from dataclasses import replace

from bitsweep.bits import Bits, tied
from bitsweep.declaration import MethodDeclaration
from bitsweep.space import Parameter, Parameters
from bitsweep_trainers.methods.declared import pact
from bitsweep_trainers.methods.declared.common import CHOSEN

PAPER = "arXiv 2404.16876"
HIGHEST_BITS = 8
# The clipping levels and weights are PACT's; its bits are given, these are not.
PACT_PARAMETERS = tuple(
    replace(
        one, when={name: values for name, values in one.when.items() if name != "activation_bits"}
    )
    for one in pact.DECLARATION.parameters
    if one.name != "activation_bits"
)


def _number(
    name: str, default: float, low: float, high: float, meaning: str, source: str = CHOSEN
) -> Parameter:
    return Parameter(
        name=name,
        kind="float",
        low=low,
        high=high,
        default=default,
        meaning=meaning,
        source=source,
    )


PARAMETERS = (
    *PACT_PARAMETERS,
    Parameter(
        name="widths",
        kind="choice",
        choices=("body", "layer"),
        default="body",
        meaning="one pair of widths for the whole body, or one for each layer of it",
        source=f"body: {PAPER}; layer: {CHOSEN}",
    ),
    Parameter(
        name="start_bits",
        kind="int",
        low=2,
        high=HIGHEST_BITS,
        default=HIGHEST_BITS,
        meaning="bits of weights and activations at the first step",
        source=CHOSEN,
    ),
    _number(
        "lambda",
        0.15,
        0.0,
        10.0,
        "price of weight bits times activation bits, in units of the loss",
        PAPER,
    ),
    _number(
        "weight_bits_learning_rate",
        1e-3,
        0.0,
        1.0,
        "bits per step and unit of gradient, of the weights' width",
    ),
    _number(
        "activation_bits_learning_rate",
        5e-4,
        0.0,
        1.0,
        "bits per step and unit of gradient, of the activations' width",
    ),
    _number("smoothing", 0.99, 0.0, 0.9999, "decay of the mean of loss differences"),
    Parameter(
        name="max_turns",
        kind="int",
        low=1,
        high=10_000,
        default=10,
        meaning="changes of direction of a width after which it is fixed at the larger value",
        source=f"that there is such a rule: {PAPER}; 10: {CHOSEN}",
    ),
)


def learned_from(given: Parameters) -> Bits:
    """The bits of the first step."""
    return tied(int(given.get("start_bits", HIGHEST_BITS)))


def canonical(given: Parameters, all_bits: tuple[Bits, ...]) -> Parameters:
    """The bits of the first step stand in the trial's bits; the paper's widths leave no trace."""
    return {
        name: value
        for name, value in given.items()
        if name != "start_bits" and (name, value) != ("widths", "body")
    }


DECLARATION = MethodDeclaration(
    name="adaqat",
    title="AdaQAT",
    source=PAPER,
    serves="one",
    weight_bits=(2, 3, 4, 5, 6, 7, 8),
    numerics=2,  # at 1, losses at one bit less were those of fp32 also where bf16 trains
    has_kernels=True,
    layer_kinds=pact.DECLARATION.layer_kinds,
    takes_signed_inputs=False,
    refuses={
        "workers_per_trial": "widths would follow the loss of one worker's share",
        "ema_decay": "a mean of widths over steps would be rounded to bits that it never ran at",
        "micro_batch_size": "each part of a batch would move the widths, and the next part's bits",
    },
    parameters=PARAMETERS,
    layer_bits=pact.DECLARATION.layer_bits,
    canonical=canonical,
    learned_from=learned_from,
    bit_prices=("lambda", "start_bits"),
    summary=(
        "Two real numbers, one for weights and one for activations, are rounded up to the bits",
        "that the whole body (or each layer) runs at; it trains at these bits (DoReFa and PACT).",
        "Each step also asks what the loss would be at one bit less, and moves the numbers by",
        "that difference and the price of a bit. A width that swings is fixed at the larger one.",
    ),
)
