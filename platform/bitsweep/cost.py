"""What a network costs, by pure arithmetic on its layers and their bits: BitOps, size, mean bits.

Every figure names its convention: which layers count, and at how many bits the first and the last
layer are counted.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from math import ceil, isfinite, sqrt
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


def fewest_norm_values(layers: Sequence[Layer]) -> int:
    """The values a channel that a batch norm sees of one sample, where it sees the fewest.

    2, which is enough in training, where no layer has a norm behind it.
    """
    return min((one.macs // one.weights for one in layers if one.norm_channels), default=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBits:
    """The bits one layer runs at, as the arithmetic sees them.

    `weight` and `activation` are the factors of the BitOps: a layer of MBQuant with n branches of
    2 bits has weight = 2 n (a narrow branch adds 2 r). `stored` is what one weight of the single
    network takes on disk (None: as `weight`), `scalars` the 32-bit step sizes and zero-points,
    `norm_copies` the batch norms kept side by side, `share` the part of samples at these bits,
    `copies` how many times the layer is computed and stored (a stem for each branch).
    """

    weight: float
    activation: float
    stored: float | None = None
    scalars: int = 0
    norm_copies: int = 1
    share: float = 1.0
    copies: int = 1

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

    These are the least that an end counts at: one that runs at more bits counts at those. A
    network that is not quantized at all counts its ends at 32 bits under every convention.
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
            end = LayerBits(
                weight=max(ends, bits.weight),
                activation=max(ends, bits.activation),
                scalars=bits.scalars if ends == 8.0 else 0,
                norm_copies=bits.norm_copies,
                share=bits.share,
                copies=bits.copies,
            )
            counted.append((layer, end))
    return counted


def bitops(
    layers: Sequence[Layer], layer_bits: Sequence[LayerBits], convention: Convention
) -> float:
    """Sum of MACs * weight bits * activation bits; fractional bits and shares give a mean."""
    return sum(
        layer.macs * bits.copies * bits.weight * bits.activation * bits.share
        for layer, bits in _counted(layers, layer_bits, convention)
    )


def weight_size_bits(
    layers: Sequence[Layer], layer_bits: Sequence[LayerBits], convention: Convention
) -> int:
    """Bits of the stored weights alone."""
    counted = _counted(layers, layer_bits, convention)
    return round(sum(layer.weights * bits.copies * bits.stored_bits for layer, bits in counted))


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


QUANTILES = (0.05, 0.5, 0.95)
MOST_POINTS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleCosts:
    """How the body's BitOps spread over samples: points (BitOps of one sample, samples), rising.

    The ends and an agent cost every sample the same; that is the difference between conventions.
    """

    points: tuple[tuple[float, int], ...]

    def __post_init__(self) -> None:
        values = [value for value, _ in self.points]
        is_rising = all(one < other for one, other in pairwise(values))
        if not values or not is_rising or not all(isfinite(one) for one in values):
            raise ValueError("costs of samples are finite and rise from point to point")
        if values[0] < 0 or min(count for _, count in self.points) < 1:
            raise ValueError("a point of costs has BitOps of at least 0 and at least one sample")

    @property
    def total(self) -> int:
        """The number of samples."""
        return sum(count for _, count in self.points)

    @property
    def mean(self) -> float:
        """Mean BitOps of a sample."""
        return sum(value * count for value, count in self.points) / self.total

    @property
    def most(self) -> float:
        """BitOps of the dearest sample."""
        return self.points[-1][0]

    def quantile(self, share: float) -> float:
        """The least cost that at least this share of the samples does not exceed.

        >>> SampleCosts(points=((1.0, 19), (5.0, 1))).quantile(0.95)
        1.0
        """
        rank, seen = ceil(share * self.total - 1e-9), 0
        for value, count in self.points:
            seen += count
            if seen >= rank:
                return value
        return self.most

    def summary(self) -> dict[str, float]:
        """Mean, p5, p50, p95 and max."""
        quantiles = {f"p{100 * share:g}": self.quantile(share) for share in QUANTILES}
        return {"mean": self.mean, **quantiles, "max": self.most}


def spread(bitops: Iterable[float], *, most_points: int = MOST_POINTS) -> SampleCosts:
    """The costs of single samples as points: exact while there are few different ones.

    Of more than `most_points`, neighbours stand together at their mean, so that about so many
    remain; the mean, the quantiles 5, 50 and 95 %, the least and the largest cost stay exact.

    >>> spread([4.0, 16.0, 4.0]).points
    ((4.0, 2), (16.0, 1))
    """
    exact = SampleCosts(points=tuple(sorted(Counter(bitops).items())))
    if len(exact.points) <= most_points:
        return exact
    kept = {exact.points[0][0], exact.most, *(exact.quantile(share) for share in QUANTILES)}
    size, points, group = exact.total / most_points, [], list[tuple[float, int]]()
    for value, count in exact.points:
        if value in kept:
            points += [*_together(group), (value, count)]
            group = []
            continue
        group.append((value, count))
        if sum(number for _, number in group) >= size:
            points += _together(group)
            group = []
    return SampleCosts(points=tuple(points))


def _together(group: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """One point for a group, at its mean; none for none."""
    count = sum(number for _, number in group)
    return [(sum(value * number for value, number in group) / count, count)] if group else []
