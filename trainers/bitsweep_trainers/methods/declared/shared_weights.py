"""What methods of one shared weight tensor declare alike: equal bits, and what is stored."""

from collections.abc import Callable, Sequence

from bitsweep.bits import Bits
from bitsweep.cost import Layer, LayerBits
from bitsweep.space import Parameter, Parameters
from bitsweep_trainers.methods.declared.common import CHOSEN, END_BITS

END_SCALARS = 2


def equal_bits_only(
    method: str, weight_bits: Sequence[int]
) -> Callable[[Parameters, tuple[Bits, ...]], None]:
    """A check: ValueError unless weights and activations have equal bits of those given."""

    def check(parameters: Parameters, all_bits: tuple[Bits, ...]) -> None:
        for bits in all_bits:
            if bits.weight != bits.activation or bits.weight not in weight_bits:
                known = ", ".join(map(str, weight_bits))
                raise ValueError(
                    f"{method} runs at equal bits of weights and activations out of {known}, "
                    f"got {bits.label}"
                )

    return check


def shared_layer_bits(
    layers: Sequence[Layer], bits: Bits, *, stored: float, scalars: int, norm_copies: int
) -> tuple[LayerBits, ...]:
    """Body layers at these bits, of a network that stores what serves all widths; 8-bit ends.

    The norm behind the first layer is one for all widths, as that layer is.
    """
    return tuple(
        LayerBits(
            weight=bits.weight,
            activation=bits.activation,
            stored=stored,
            scalars=scalars,
            norm_copies=norm_copies,
        )
        if layer.place == "body"
        else LayerBits(weight=END_BITS, activation=END_BITS, scalars=END_SCALARS)
        for layer in layers
    )


def end_step_rate(default: float = 0.1) -> Parameter:
    """Learning rate of the ends' steps, whose gradients are sums over widths."""
    return Parameter(
        name="step_learning_rate_ratio",
        kind="float",
        low=0.0,
        high=100.0,
        default=default,
        meaning="learning rate of the 8-bit ends' step sizes over that of the weights",
        source=CHOSEN,
    )


def detach_max() -> Parameter:
    """Whether the largest weight gets a gradient through DoReFa's normalisation."""
    return Parameter(
        name="detach_max",
        kind="bool",
        default=False,
        meaning="no gradient goes through max|tanh(w)|; differs for the largest weight alone",
        source="false: the authors' code; true: much public DoReFa code",
    )


SAMPLED = ("measured_allocations", "bn_images")
FEWEST_NORM_IMAGES = 100


def sampled_allocations() -> tuple[Parameter, ...]:
    """How many layer-wise allocations are measured after training, and how their norms are."""
    return (
        Parameter(
            name="measured_allocations",
            kind="int",
            low=0,
            high=1000,
            default=0,
            meaning="layer-wise allocations, a list that is the same for every seed, measured on "
            "the trained network; 0: none",
            source="lists of 100: the platform's metrics (mean and sd over allocations)",
        ),
        Parameter(
            name="bn_images",
            kind="int",
            low=0,
            high=20_000,
            default=5000,
            meaning="training images (all, where there are fewer) on which batch norms are "
            "estimated anew for each such allocation, which is measured with and without; 0: off",
            source="7000 on ImageNet: later code of ABN's group (CVPR 2024); 5000: chosen",
        ),
    )


def without_idle_sampling(parameters: Parameters) -> Parameters:
    """The parameters without those of measured allocations, where none is measured."""
    is_idle = parameters.get("measured_allocations", 0) == 0
    return {name: one for name, one in parameters.items() if not is_idle or name not in SAMPLED}


def check_sampling(parameters: Parameters) -> None:
    """ValueError for statistics of a handful of images."""
    num_images = int(parameters.get("bn_images", 0))
    if 0 < num_images < FEWEST_NORM_IMAGES:
        raise ValueError(
            f"bn_images is 0 (no estimation) or at least {FEWEST_NORM_IMAGES}, got {num_images}"
        )
