"""What CPQ with DropBits declares: its parameters, which of them are inert, and its cost."""

from collections.abc import Sequence

from bitsweep.bits import Bits
from bitsweep.cost import Layer, LayerBits
from bitsweep.declaration import MethodDeclaration
from bitsweep.space import Condition, Parameter, Parameters, Value
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
IS_FIXED: Condition = {"task": ("fixed",)}
IS_HETERO: Condition = {"task": ("hetero",)}
DEFAULT_INITIAL_BITS = 4
LOWEST_BITS = 2
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
    _choice(
        "task",
        ("fixed", "hetero"),
        "fixed: bits are given; hetero: a bit-length per layer is learned",
        PAPER,
    ),
    activation_bits(),
    _choice("ste", STE_CHOICES, "gradient of the weights' choice of point", PAPER),
    _choice("ste_act", INPUT_STE_CHOICES, "gradient of the activations' choice of point", CHOSEN),
    _choice("grid", ("sym", "full"), "weight grid: symmetric, or two's complement", CHOSEN),
    _choice(
        "sharing", ("bitwise", "endpoints", "off"), "DropBits: which points share a mask", PAPER
    ),
    _switch(
        "nest",
        False,
        "a level is kept only when all lower ones are",
        CHOSEN,
        {**IS_FIXED, **IS_MASKED},
    ),
    _switch(
        "nest",
        True,
        "a level is kept only when all lower ones are (learned lengths)",
        CHOSEN,
        {**IS_HETERO, **IS_MASKED},
    ),
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
    _choice(
        "initial_bits",
        (DEFAULT_INITIAL_BITS, 3, 5, 6),
        "bits of every layer when the learning of lengths begins",
        CHOSEN,
        IS_HETERO,
    ),
    _number(
        "lambda",
        1e-3,
        0.0,
        10.0,
        "price of a level, times the layer's weight c, in units of the loss",
        PAPER,
        IS_HETERO,
    ),
    _choice(
        "reg_weight",
        ("one", "size", "bitops"),
        "weight c of a layer in the price: 1, its share of the weights, of the BitOps",
        CHOSEN,
        IS_HETERO,
    ),
    _number(
        "target_bits",
        0.0,
        0.0,
        6.0,
        "the price is due above so many mean bits as read out, weighted by c, alone; 0: always",
        when=IS_HETERO,
    ),
    _switch(
        "learn_activations",
        False,
        "whether the inputs' bit-lengths are learned too, a mask per level",
        CHOSEN,
        IS_HETERO,
    ),
    _number(
        "finetune_fraction",
        0.3,
        0.0,
        0.9,
        "share of the epochs that train on with the lengths read out and kept; 0: none does",
        when=IS_HETERO,
    ),
)


def canonical(given: Parameters, all_bits: tuple[Bits, ...]) -> Parameters:
    """Remove what has no effect at these bits.

    At 2 bits nothing can be dropped; a single mask cannot nest; without a probability (plain
    gradients, no masks) sigma means nothing.
    """
    kept = dict(given)
    if kept.get("task") == "fixed":
        del kept["task"]  # trials with given bits are what they were without the choice
    kept.pop("initial_bits", None)  # they stand in the trial's bits
    if not kept.get("target_bits", True):
        del kept["target_bits"]
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


def learned_from(given: Parameters) -> Bits | None:
    """The bits that learned lengths start from; None where bits are given."""
    if given.get("task") != "hetero":
        return None
    first = int(given.get("initial_bits", DEFAULT_INITIAL_BITS))
    fixed = given.get("activation_bits", "tied")
    return Bits(weight=first, activation=first if fixed == "tied" else int(fixed))


def numerics_of(given: Parameters) -> dict[str, int]:
    """Those of rules that only some parameters ask for; 1 was before there were any here.

    target_bits: at 1 the price stood at the expected bits, and lengths were read out as they
    stood. finetune_fraction: at 1 a share of 0 gave the last epoch to fine-tuning.
    """
    found = {"target_bits": 2} if given.get("target_bits") else {}
    if given.get("finetune_fraction") == 0:
        found["finetune_fraction"] = 2
    return found


def check(given: Parameters, all_bits: tuple[Bits, ...]) -> None:
    """ValueError for lengths that could not be learned, and for activations of one bit."""
    if min(one.activation for one in all_bits) < 2:
        raise ValueError("a grid of activations has at least 2 bits, got 1")
    if given.get("task") != "hetero":
        return
    needed: dict[str, tuple[Value, ...]] = {
        "sharing": ("bitwise", "endpoints"),
        "mask": ("hard_concrete",),
        "ste": ("max", "full"),
        "learn_keep_probability": (True,),
    }
    for name, values in needed.items():
        if given.get(name) not in values:
            shown = " or ".join(repr(one) for one in values)
            raise ValueError(f"task 'hetero' needs {name} {shown}, got {given.get(name)!r}")
    _check_activations(given)
    _check_target(given)


def _check_activations(given: Parameters) -> None:
    if not given["learn_activations"]:
        return
    if given["activation_bits"] != "tied":
        message = "learn_activations needs activation_bits 'tied': it starts at initial_bits"
        raise ValueError(f"{message}, got {given['activation_bits']!r}")
    if given["ste_act"] == "plain":
        raise ValueError("learn_activations needs ste_act 'max' or 'full', got 'plain'")
    if given["reg_weight"] == "size":
        message = "learn_activations needs reg_weight 'one' or 'bitops': "
        raise ValueError(f"{message}activations take no part of a model's size")


def _check_target(given: Parameters) -> None:
    target = float(given["target_bits"])
    if not target:
        return
    if not LOWEST_BITS <= target <= int(given["initial_bits"]):
        wanted = f"0 or a number in [{LOWEST_BITS}, {given['initial_bits']}] (initial_bits)"
        raise ValueError(f"target_bits must be {wanted}, got {target:g}")
    if given["sharing"] != "bitwise" or not given["nest"]:
        message = "target_bits needs sharing 'bitwise' and nest true"
        raise ValueError(f"{message}: else the price does not count bits")


DECLARATION = MethodDeclaration(
    name="cpq_dropbits",
    title="CPQ with DropBits",
    source=PAPER,
    serves="one",
    weight_bits=(2, 3, 4, 5, 6, 8),
    # at 1, a mask that no element came near had a gradient below its precision; since 3 the
    # gradient under masks is not relative to the chosen point: the last bits of sums differ
    numerics=3,
    has_kernels=True,
    layer_kinds=ALL_KINDS,
    learning=("classification", "regression"),
    parameters=PARAMETERS,
    layer_bits=layer_bits,
    canonical=canonical,
    check=check,
    learned_from=learned_from,
    numerics_of=numerics_of,
    bit_prices=("lambda", "target_bits", "reg_weight", "initial_bits"),
    takes_allocations=True,
    summary=(
        "Each value is noisy; the forward pass takes its most probable grid point.",
        "The gradient enters the probability of that point alone, whose slope vanishes at the",
        "point: weights gather there without a clustering loss.",
        "DropBits drops groups of weight points at random in training; keep rates are learned.",
        "Evaluation is plain rounding with one learned step per layer.",
    ),
)
