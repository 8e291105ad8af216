"""What CPQ with DropBits declares: its parameters, which of them are inert, and its cost."""

from collections.abc import Sequence

from bitsweep.bits import Bits
from bitsweep.cost import Layer, LayerBits
from bitsweep.space import Condition, Parameter, Parameters, Value
from bitsweep.trainer import MethodDeclaration
from bitsweep_trainers.methods.declared.common import (
    ALL_KINDS,
    CHOSEN,
    activation_bits,
    learning_rate,
    one_network_bits,
    weight_decay,
)

PAPER = "arXiv 2109.02100"
RQ = "arXiv 1810.01875"
L0 = "arXiv 1712.01312"
STE_CHOICES = ("max", "full", "plain")
# Plain is the default: under max no gradient reaches a pre-activation in the zero cell.
INPUT_STE_CHOICES = ("plain", "max", "full")
IS_MASKED: Condition = {"sharing": ("bitwise", "endpoints")}
IS_CONCRETE: Condition = {**IS_MASKED, "mask": ("hard_concrete",)}
LEARNS_MASKS: Condition = {**IS_CONCRETE, "ste": ("max", "full")}
MASK_PARAMETERS = (
    "nest",
    "mask",
    "keep_probability",
    "tau",
    "learn_keep_probability",
    "keep_learning_rate",
)
SIGMA_PARAMETERS = ("sigma_ratio", "learn_sigma", "sigma_tied")


def _choice(
    name: str, choices: tuple[Value, ...], meaning: str, source: str, when: Condition | None = None
) -> Parameter:
    """A choice whose default is the first."""
    return Parameter(
        name=name,
        kind="choice",
        choices=choices,
        default=choices[0],
        meaning=meaning,
        source=source,
        when=when or {},
    )


def _number(
    name: str,
    default: float,
    low: float,
    high: float,
    meaning: str,
    source: str = CHOSEN,
    when: Condition | None = None,
) -> Parameter:
    return Parameter(
        name=name,
        kind="float",
        low=low,
        high=high,
        default=default,
        meaning=meaning,
        source=source,
        when=when or {},
    )


def _switch(
    name: str, default: bool, meaning: str, source: str, when: Condition | None = None
) -> Parameter:
    return Parameter(
        name=name, kind="bool", default=default, meaning=meaning, source=source, when=when or {}
    )


PARAMETERS = (
    learning_rate(0.02),
    weight_decay(1e-4),
    activation_bits(),
    _choice("ste", STE_CHOICES, "gradient of the weights' choice of point", PAPER),
    _choice("ste_act", INPUT_STE_CHOICES, "gradient of the activations' choice of point", CHOSEN),
    _choice("grid", ("sym", "full"), "weight grid: symmetric, or two's complement", CHOSEN),
    _choice(
        "sharing", ("bitwise", "endpoints", "off"), "DropBits: which points share a mask", PAPER
    ),
    _switch("nest", False, "a level is kept only when all lower ones are", CHOSEN, IS_MASKED),
    _choice("mask", ("hard_concrete", "bernoulli"), "distribution of a mask", PAPER, IS_MASKED),
    _number(
        "keep_probability",
        0.9,
        0.01,
        0.999,
        "keep probability Pi of the masks at the start",
        when=IS_MASKED,
    ),
    _number("tau", 2 / 3, 0.05, 2.0, "temperature of hard concrete masks", L0, IS_CONCRETE),
    _number("sigma_ratio", 1 / 3, 0.05, 2.0, "noise width over step size at the start, both"),
    _switch("learn_sigma", True, "whether the noise widths learn", RQ),
    _switch("sigma_tied", True, "sigma scales with alpha, or is free as in RQ", CHOSEN),
    _choice(
        "alpha_init",
        ("mse", "max", "percentile"),
        "step sizes at the start: least squared error, largest value, 99.9th percentile",
        CHOSEN,
    ),
    _number(
        "quantizer_learning_rate_ratio",
        0.1,
        1e-3,
        10.0,
        "learning rate of alpha and sigma (Adam) over that of the weights",
    ),
    _switch("learn_keep_probability", True, "whether Pi learns", PAPER, LEARNS_MASKS),
    _number(
        "keep_learning_rate",
        0.01,
        1e-4,
        0.1,
        "learning rate of the logits of Pi (Adam)",
        when={**LEARNS_MASKS, "learn_keep_probability": (True,)},
    ),
)


def canonical(given: Parameters, all_bits: tuple[Bits, ...]) -> Parameters:
    """Remove what has no effect at these bits.

    At 2 bits nothing can be dropped; a single mask cannot nest; without a probability (plain
    gradients, no masks) sigma means nothing.
    """
    kept = dict(given)
    width = max(bits.weight for bits in all_bits)
    if width == 2:
        kept["sharing"] = "off"
    if kept["sharing"] == "off":
        kept = {name: value for name, value in kept.items() if name not in MASK_PARAMETERS}
    if kept["sharing"] == "bitwise" and width == 3:
        kept.pop("nest", None)
    if all(bits.activation == 32 for bits in all_bits):
        kept.pop("ste_act", None)
    is_plain = kept["ste"] == kept.get("ste_act", "plain") == "plain"
    if is_plain and kept["sharing"] == "off":
        kept = {name: value for name, value in kept.items() if name not in SIGMA_PARAMETERS}
    return kept


def layer_bits(
    layers: Sequence[Layer], bits: Bits, parameters: Parameters, all_bits: tuple[Bits, ...]
) -> tuple[LayerBits, ...]:
    """One alpha for the weights and one for the input; sigma and Pi only serve the training."""
    return one_network_bits(layers, bits)


DECLARATION = MethodDeclaration(
    name="cpq_dropbits",
    title="CPQ with DropBits",
    source=PAPER,
    serves="one",
    weight_bits=(2, 3, 4, 5, 6, 8),
    numerics=1,
    layer_kinds=ALL_KINDS,
    learning=("classification", "regression"),
    parameters=PARAMETERS,
    layer_bits=layer_bits,
    canonical=canonical,
    summary=(
        "Each value is noisy; the forward pass takes its most probable grid point.",
        "The gradient enters the probability of that point alone, whose slope vanishes at the",
        "point: weights gather there without a clustering loss.",
        "DropBits drops groups of weight points at random in training; keep rates are learned.",
        "Evaluation is plain rounding with one learned step per layer.",
    ),
)
