"""What a network costs, by pure arithmetic on its layers and their bits: BitOps, size, mean bits.

Every figure names its convention: which layers count, and at how many bits the first and the last
layer are counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import sqrt
from typing import Literal

from bitsweep.bits import FULL_PRECISION_BITS

Place = Literal["first", "body", "last", "agent"]
SCALAR_BITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer with multiplications: a convolution or a linear map; norms and pools have no MACs.

    `weights` counts the kernel alone; `norm_channels` those of the batch norm that follows it.
    Channels are counted over all groups; 0 where a model does not tell them. has_signed_input:
    no ReLU comes before it, so that its input has both signs (of no concern to costs).
    """

    name: str
    kind: Literal["conv", "depthwise", "conv1d", "linear"]
    place: Place
    macs: int
    weights: int
    biases: int = 0
    norm_channels: int = 0
    in_channels: int = 0
    out_channels: int = 0
    groups: int = 1
    has_signed_input: bool = False

    def __post_init__(self) -> None:
        if min(self.macs, self.weights) < 1 or min(self.biases, self.norm_channels) < 0:
            raise ValueError(f"layer {self.name}: macs and weights are positive counts")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBits:
    """The bits one layer runs at, as the arithmetic sees them.

    `weight` and `activation` are the factors of the BitOps: a layer of MBQuant with n branches of
    2 bits has weight = 2 n (a narrow branch adds 2 r). `stored` is what one weight of the single
    network takes on disk (None: as `weight`), `scalars` the 32-bit step sizes and zero-points,
    `norm_copies` the batch norms kept side by side, `share` the part of samples at these bits.
    """

    weight: float
    activation: float
    stored: float | None = None
    scalars: int = 0
    norm_copies: int = 1
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.weight <= 0 or self.activation <= 0 or not 0 < self.share <= 1:
            raise ValueError("bits are positive and a share lies in (0, 1]")

    @property
    def stored_bits(self) -> float:
        """Bits on disk per weight of the single network."""
        return self.weight if self.stored is None else self.stored

    @property
    def is_full_precision(self) -> bool:
        """True when nothing in this layer is quantized."""
        return self.weight == self.activation == FULL_PRECISION_BITS


class Convention(StrEnum):
    """Which layers a cost counts, and the bits of the first and the last one.

    A network that is not quantized at all counts its ends at 32 bits under every convention.
    """

    BODY = "body"
    WHOLE_ENDS8 = "whole_ends8"
    WHOLE_ENDS32 = "whole_ends32"
    WHOLE_AGENT = "whole_agent"


DEFAULT_CONVENTION = Convention.WHOLE_ENDS8


def _counted(
    layers: Sequence[Layer], layer_bits: Sequence[LayerBits], convention: Convention
) -> list[tuple[Layer, LayerBits]]:
    """Pair the layers that count with the bits they count at."""
    if len(layers) != len(layer_bits):
        raise ValueError(f"{len(layers)} layers but bits for {len(layer_bits)}")
    pairs = list(zip(layers, layer_bits, strict=True))
    is_quantized = any(not bits.is_full_precision for _, bits in pairs)
    ends = 8.0 if is_quantized and convention is not Convention.WHOLE_ENDS32 else 32.0
    counted = []
    for layer, bits in pairs:
        if layer.place == "body":
            counted.append((layer, bits))
        elif layer.place == "agent":
            if convention is Convention.WHOLE_AGENT:
                counted.append((layer, bits))
        elif convention is not Convention.BODY:
            ends_scalars = bits.scalars if ends == 8.0 else 0
            end = LayerBits(
                weight=ends,
                activation=ends,
                scalars=ends_scalars,
                norm_copies=bits.norm_copies,
                share=bits.share,
            )
            counted.append((layer, end))
    return counted


def bitops(
    layers: Sequence[Layer], layer_bits: Sequence[LayerBits], convention: Convention
) -> float:
    """Sum of MACs * weight bits * activation bits; fractional bits and shares give a mean."""
    return sum(
        layer.macs * bits.weight * bits.activation * bits.share
        for layer, bits in _counted(layers, layer_bits, convention)
    )


def weight_size_bits(
    layers: Sequence[Layer], layer_bits: Sequence[LayerBits], convention: Convention
) -> int:
    """Bits of the stored weights alone."""
    counted = _counted(layers, layer_bits, convention)
    return round(sum(layer.weights * bits.stored_bits for layer, bits in counted))


def size_bits(
    layers: Sequence[Layer], layer_bits: Sequence[LayerBits], convention: Convention
) -> int:
    """Bits of the stored model: weights, scalars, folded batch norms (scale, shift) and biases."""
    extras = sum(
        SCALAR_BITS * (bits.scalars + 2 * layer.norm_channels * bits.norm_copies + layer.biases)
        for layer, bits in _counted(layers, layer_bits, convention)
    )
    return weight_size_bits(layers, layer_bits, convention) + extras


class MeanBits(StrEnum):
    """How bit-widths are averaged over the body: a mean without its name means nothing."""

    LAYER = "layer"
    WEIGHT = "weight"
    MAC = "mac"
    EFFECTIVE = "effective"


def mean_bits(
    layers: Sequence[Layer], layer_bits: Sequence[LayerBits], kind: MeanBits = MeanBits.WEIGHT
) -> float:
    """Mean weight bits of the body; EFFECTIVE is the uniform width of equal BitOps."""
    body = _counted(layers, layer_bits, Convention.BODY)
    if kind is MeanBits.EFFECTIVE:
        operations = sum(layer.macs * bits.weight * bits.activation for layer, bits in body)
        return sqrt(operations / sum(layer.macs for layer, _ in body))
    counts = {
        MeanBits.LAYER: [1 for _ in body],
        MeanBits.WEIGHT: [layer.weights for layer, _ in body],
        MeanBits.MAC: [layer.macs for layer, _ in body],
    }[kind]
    weighted = sum(count * bits.weight for count, (_, bits) in zip(counts, body, strict=True))
    return weighted / sum(counts)
