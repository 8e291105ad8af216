"""ABN (arXiv 2204.09992): one super-network whose layers run at any of the widths."""

from collections.abc import Sequence

from bitsweep.bits import FULL_PRECISION_BITS, Bits, Rule
from bitsweep.cost import Layer, LayerBits
from bitsweep.declaration import DataDeclaration, MethodDeclaration
from bitsweep.measurement import Allocator
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
from bitsweep_trainers.models.projections import projected_block

PAPER = "arXiv 2204.09992"
GROUP = "later code of the same group (CVPR 2024)"
WEIGHT_BITS = (2, 3, 4, 5, 6, 7, 8)
LEAST_HELD = 8  # a fifth of them, rounded, is two: for the margin, and again for the epoch
LAMBDAS = {"three": (0.05, 0.2, 0.8), "curve": (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)}
RULES: tuple[Allocator, ...] = (
    "learned",
    "shuffled",
    "random",
    "greedy",
    "evolutionary",
    "ilp",
    "oracle",
    "cascade",
)
INERT_ALONE = (
    "weight_source",
    "norms",
    "random_networks",
    "minimum_network",
    "tilt",
    "uniform_share",
    "rising_share",
    "teacher",
    "distillation_weight",
    "policy",
    "policy_share",
    "policy_reward",
    "policy_epochs",
    "policy_learning_rate",
    "policy_updates",
    "policy_anchor",
    "policy_lambdas",
    *SAMPLED,
)


def decisions_of(paths: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Which layers, by index, share one choice of bits: a projection and its block's first layer.

    Both read the same tensor, which is quantized once.

    >>> decisions_of(["0.conv1", "0.conv2", "0.shortcut.conv", "1.conv1"])
    ((0, 2), (1,), (3,))
    """
    groups: dict[int, list[int]] = {}
    for index, path in enumerate(paths):
        block = projected_block(path)
        in_block = [one for one in range(index) if paths[one].startswith(f"{block}.")]
        groups.setdefault(in_block[0] if in_block else index, []).append(index)
    return tuple(tuple(group) for group in groups.values())


def body_of(layers: Sequence[Layer]) -> list[Layer]:
    """The layers whose bits are chosen, in order."""
    return [one for one in layers if one.place == "body"]


def allocation_layer_bits(
    layers: Sequence[Layer],
    body_bits: Sequence[tuple[float, float]],
    parameters: Parameters,
    all_bits: tuple[Bits, ...],
) -> tuple[LayerBits, ...]:
    """The network with these (weight, activation) bits in its body layers; 8-bit ends.

    Latent weights are stored in floating point, as no width is derived from another; nested ones
    at the largest width. A batch norm and an input's step for each width.
    """
    count = len(all_bits)
    is_latent = count > 1 and parameters["weight_source"] == "latent"
    has_norms = count > 1 and parameters["norms"] == "own"
    remaining = iter(body_bits)
    found = []
    for layer in layers:
        if layer.place != "body":
            found.append(LayerBits(weight=END_BITS, activation=END_BITS, scalars=END_SCALARS))
            continue
        weight, activation = next(remaining)
        found.append(
            LayerBits(
                weight=weight,
                activation=activation,
                stored=FULL_PRECISION_BITS if is_latent else max(all_bits).weight,
                scalars=count + (count if is_latent else 1),
                norm_copies=count if has_norms else 1,
            )
        )
    return tuple(found)


def _layer_bits(
    layers: Sequence[Layer], bits: Bits, parameters: Parameters, all_bits: tuple[Bits, ...]
) -> tuple[LayerBits, ...]:
    """The same bits in every layer of the body."""
    body = [(float(bits.weight), float(bits.activation))] * len(body_of(layers))
    return allocation_layer_bits(layers, body, parameters, all_bits)


def _canonical(parameters: Parameters, all_bits: tuple[Bits, ...]) -> Parameters:
    """One width samples nothing and has no teacher; neither has a soft loss of weight 0."""
    canonical = dict(parameters)
    if canonical.get("distillation_weight") == 0:
        canonical["teacher"] = "none"
        del canonical["distillation_weight"]
    canonical = dict(without_idle_sampling(canonical))
    if len(all_bits) == 1:
        canonical = {name: one for name, one in canonical.items() if name not in INERT_ALONE}
    return canonical


def _check(parameters: Parameters, all_bits: tuple[Bits, ...]) -> None:
    """Equal bits, two of them for a policy; the first stages of mixing fit into the training."""
    equal_bits_only("abn", WEIGHT_BITS)(parameters, all_bits)
    check_sampling(parameters)
    policy = parameters.get("policy", "off")
    if policy != "off" and len(all_bits) < 2:
        raise ValueError(
            f"policy = {policy} chooses between widths, and there is only {all_bits[0].label}: "
            "give task.bits at least two, or policy = off"
        )
    shares = [float(parameters.get(name, 0)) for name in ("uniform_share", "rising_share")]
    if sum(shares) > 1:
        raise ValueError(f"uniform_share and rising_share are shares of one training: {shares}")


def held_share(parameters: Parameters) -> float:
    """The share of the training images that is kept for the policy."""
    is_off = parameters.get("policy", "off") == "off"
    return 0.0 if is_off else float(parameters["policy_share"])


def _check_data(parameters: Parameters, data: DataDeclaration) -> None:
    """ValueError where a policy would be learned and judged on too few images."""
    share, num_images = held_share(parameters), data.sizes["train"]
    if share and (num_held := round(share * num_images)) < LEAST_HELD:
        raise ValueError(
            f"policy_share = {share:g} of {num_images} training images holds {num_held} for the "
            f"policy, and at least {LEAST_HELD} are needed: raise it, or take more images"
        )


def _rules(parameters: Parameters, all_bits: tuple[Bits, ...]) -> tuple[Rule, ...]:
    """The learned policy and its rivals at each lambda, where there is a policy."""
    if len(all_bits) == 1 or parameters.get("policy", "off") == "off":
        return ()
    prices = LAMBDAS[str(parameters["policy_lambdas"])]
    return tuple(Rule(allocator=name, price=price) for name in RULES for price in prices)


MIXES = {"random_networks": (1, 2, 3, 4)}
LEARNS = {"policy": ("double_dqn", "reinforce")}
DECLARATION = MethodDeclaration(
    name="abn",
    title="ABN",
    source=PAPER,
    serves="all",
    weight_bits=WEIGHT_BITS,
    numerics=2,
    has_kernels=True,
    held_share=held_share,
    keeps_plain=lambda given, bits: len(bits) == 1 or given.get("norms") == "shared",
    least_held=LEAST_HELD,
    layer_kinds=ALL_KINDS,
    parameters=(
        learning_rate(0.04, source=GROUP),
        weight_decay(1e-4),
        Parameter(
            name="step_learning_rate_ratio",
            kind="float",
            low=0.0,
            high=100.0,
            default=0.1,
            meaning="learning rate of the step sizes over that of the weights",
            source=CHOSEN,
        ),
        Parameter(
            name="weight_source",
            kind="choice",
            choices=("latent", "nested"),
            default="latent",
            meaning="a width quantizes the weights themselves, or cuts codes of the largest width",
            source=CHOSEN,
        ),
        Parameter(
            name="step_start",
            kind="choice",
            choices=("lsq", "three_sigma"),
            default="lsq",
            meaning="first steps of latent weights: 2 mean|w| / sqrt(Qp), or the reach of mean "
            "-/+ 3 sd over 2^(b-1)",
            source=f"lsq: arXiv 1902.08153; three_sigma: {GROUP}",
            when={"weight_source": ("latent",)},
        ),
        Parameter(
            name="norms",
            kind="choice",
            choices=("own", "shared"),
            default="own",
            meaning="batch norms: one for each width of the layer before it, or one for all",
            source=GROUP,
        ),
        Parameter(
            name="random_networks",
            kind="int",
            low=0,
            high=4,
            default=2,
            meaning="layer-wise allocations drawn in each step, besides the largest width",
            source=f"3: {GROUP}; 2 with the smallest width: {CHOSEN}",
        ),
        Parameter(
            name="minimum_network",
            kind="bool",
            default=True,
            meaning="each step trains the smallest width in all layers too",
            source=CHOSEN,
        ),
        Parameter(
            name="tilt",
            kind="float",
            low=0.0,
            high=6.0,
            default=3.0,
            meaning="spread of the drawn mean bits: a layer draws b with weight exp(t b), t "
            "uniform in -/+ this for each allocation; 0: all widths alike",
            source=CHOSEN,
            when=MIXES,
        ),
        Parameter(
            name="uniform_share",
            kind="float",
            low=0.0,
            high=1.0,
            default=0.25,
            meaning="first share of the training, in which drawn networks are uniform",
            source=CHOSEN,
            when=MIXES,
        ),
        Parameter(
            name="rising_share",
            kind="float",
            low=0.0,
            high=1.0,
            default=0.35,
            meaning="next share, in which a drawn network is layer-wise with a probability that "
            "rises from 0 to 1; then all are",
            source=CHOSEN,
            when=MIXES,
        ),
        Parameter(
            name="teacher",
            kind="choice",
            choices=("max", "ensemble", "none"),
            default="max",
            meaning="whose soft labels the other networks learn: the largest width's, the mean "
            "of all that ran before in the step, nobody's",
            source=f"max: {GROUP}; ensemble: {CHOSEN}",
        ),
        Parameter(
            name="distillation_weight",
            kind="float",
            low=0.0,
            high=1.0,
            default=0.5,
            meaning="weight of the soft labels in the loss of the other networks",
            source=GROUP,
            when={"teacher": ("max", "ensemble")},
        ),
        Parameter(
            name="gradient_clip",
            kind="float",
            low=0.0,
            high=100.0,
            default=1.0,
            meaning="each element of a gradient is clipped to -/+ this after all networks; 0: off",
            source=GROUP,
        ),
        Parameter(
            name="policy",
            kind="choice",
            choices=("off", "double_dqn", "reinforce"),
            default="off",
            meaning="how a policy that chooses bits per image is learned after the last epoch",
            source=f"a decision process: {PAPER}; its form: {CHOSEN}",
        ),
        Parameter(
            name="policy_share",
            kind="float",
            low=0.05,
            high=0.2,
            default=0.1,
            meaning="share of the training images that the policy learns on and the network never",
            source=CHOSEN,
            when=LEARNS,
        ),
        Parameter(
            name="policy_reward",
            kind="choice",
            choices=("hit", "prob", "nll", "rel"),
            default="hit",
            meaning="reward of an answer: 1 if right, the label's probability, its logarithm, or "
            "1 if right less 1 if the largest widths are right",
            source=CHOSEN,
            when=LEARNS,
        ),
        Parameter(
            name="policy_epochs",
            kind="int",
            low=1,
            high=1000,
            default=30,
            meaning="epochs of the policy's training",
            source=CHOSEN,
            when=LEARNS,
        ),
        Parameter(
            name="policy_learning_rate",
            kind="float",
            low=1e-5,
            high=1e-1,
            default=1e-3,
            meaning="peak learning rate of the agent (Adam, cosine to 1e-5)",
            source=CHOSEN,
            when=LEARNS,
        ),
        Parameter(
            name="policy_updates",
            kind="int",
            low=1,
            high=10_000,
            default=40,
            meaning="gradient steps of each epoch: of Double DQN on past episodes, of REINFORCE "
            "on new ones, three sampled and one greedy of each of 16 drawn images",
            source=CHOSEN,
            when=LEARNS,
        ),
        Parameter(
            name="policy_anchor",
            kind="bool",
            default=True,
            meaning="the policy leaves the best known static allocation only where it is ahead by "
            "a margin, taken from images kept for that",
            source=CHOSEN,
            when=LEARNS,
        ),
        Parameter(
            name="policy_lambdas",
            kind="choice",
            choices=("three", "curve"),
            default="three",
            meaning="prices of BitOps at which policy and rivals are measured: 0.05, 0.2, 0.8; or "
            "0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6",
            source=CHOSEN,
            when=LEARNS,
        ),
        *sampled_allocations(),
    ),
    layer_bits=_layer_bits,
    refuses={"workers_per_trial": "its policy is learned by one process"},
    canonical=_canonical,
    rules=_rules,
    check=_check,
    check_data=_check_data,
    summary=(
        "One network whose body layers each run at any of the widths, chosen at run time.",
        "Each width has its own steps and batch norms; the weights are shared.",
        "Each step trains the largest width, the smallest and some random allocations on one",
        "batch; the largest width teaches the others.",
    ),
)
