"""Parameters and cost arithmetic that several methods share."""

from collections.abc import Sequence

from bitsweep.bits import Bits
from bitsweep.cost import Layer, LayerBits
from bitsweep.space import Parameter, Parameters

END_BITS = 8
CHOSEN = "chosen"
ALL_KINDS = ("conv", "conv1d", "depthwise", "linear")


def learning_rate(default: float, source: str = CHOSEN) -> Parameter:
    """Peak learning rate of the weights; the loop's cosine takes it to zero."""
    return Parameter(
        name="learning_rate",
        kind="float",
        low=1e-6,
        high=10.0,
        default=default,
        meaning="peak learning rate of the weights (SGD, momentum 0.9, cosine to 0)",
        source=source,
    )


def weight_decay(default: float, source: str = CHOSEN) -> Parameter:
    """L2 decay of the weights; batch norms and quantizer parameters have none."""
    return Parameter(
        name="weight_decay",
        kind="float",
        low=0.0,
        high=1.0,
        default=default,
        meaning="L2 weight decay of the weights; none on batch norms and quantizer parameters",
        source=source,
    )


def activation_bits() -> Parameter:
    """Activation bits: those of the weights, or fixed at 8, or left in floating point."""
    return Parameter(
        name="activation_bits",
        kind="choice",
        choices=("tied", 8, 32),
        default="tied",
        meaning="bits of the body's input activations: as the weights, or fixed",
        source=CHOSEN,
    )


def norm_storage(layer: Layer, parameters: Parameters) -> tuple[int, int]:
    """(batch norms, scalars) that a layer keeps of its norm: folded, a shift a channel is left.

    The scales are then within the weights.
    """
    return (0, layer.norm_channels) if parameters["fold_batch_norm"] else (1, 0)


def one_network_bits(
    layers: Sequence[Layer], bits: Bits, *, weight_scalars: int = 1, activation_scalars: int = 1
) -> tuple[LayerBits, ...]:
    """A network of one bit-width with 8-bit ends, and its 32-bit scalars per layer."""
    scalars = weight_scalars + activation_scalars
    body_scalars = weight_scalars + (activation_scalars if bits.activation < 32 else 0)
    return tuple(
        LayerBits(weight=bits.weight, activation=bits.activation, scalars=body_scalars)
        if layer.place == "body"
        else LayerBits(weight=END_BITS, activation=END_BITS, scalars=scalars)
        for layer in layers
    )
