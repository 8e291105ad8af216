"""The exact counts of ResNet-20 and ResNet-18: MACs, BitOps, sizes and mean bits.

Golden numbers were computed by formula, apart from this code.
"""

from collections.abc import Iterator

import pytest

from bitsweep.bits import Bits, tied
from bitsweep.cost import (
    Convention,
    Layer,
    LayerBits,
    MeanBits,
    Place,
    bitops,
    mean_bits,
    size_bits,
    weight_size_bits,
)
from bitsweep_trainers.models.declared import MODELS

CIFAR = (3, 32, 32)
RESNET20 = MODELS["resnet20"].layers(CIFAR, 10)
RESNET20_B = MODELS["resnet20-b"].layers(CIFAR, 10)
RESNET20_DIVISIONS = {
    "stem.": (1, 442_368, 432),
    "body.stage1.": (6, 14_155_776, 13_824),
    "body.stage2.0.conv1": (1, 1_179_648, 4_608),
    "body.stage2.": (6, 1_179_648 + 11_796_480, 4_608 + 46_080),
    "body.stage3.0.conv1": (1, 1_179_648, 18_432),
    "body.stage3.": (6, 1_179_648 + 11_796_480, 18_432 + 184_320),
    "body.": (18, 40_108_032, 267_264),
    "head.": (1, 640, 640),
    "": (20, 40_551_040, 268_336),
}


def conv(name: str, place: Place, channels: tuple[int, int], kernel: int, side: int) -> Layer:
    """A layer of ResNet-18 whose output is side x side."""
    weights = channels[0] * channels[1] * kernel * kernel
    return Layer(
        name=name,
        kind="conv",
        place=place,
        macs=weights * side * side,
        weights=weights,
        norm_channels=channels[1],
    )


def resnet18_stage(stage: int, before: int, width: int, side: int) -> Iterator[Layer]:
    """Two basic blocks; the first has a projection where the width changes."""
    yield conv(f"layer{stage}.0.conv1", "body", (before, width), 3, side)
    yield conv(f"layer{stage}.0.conv2", "body", (width, width), 3, side)
    if before != width:
        yield conv(f"layer{stage}.0.downsample", "body", (before, width), 1, side)
    yield conv(f"layer{stage}.1.conv1", "body", (width, width), 3, side)
    yield conv(f"layer{stage}.1.conv2", "body", (width, width), 3, side)


RESNET18 = (
    conv("conv1", "first", (3, 64), 7, 112),
    *resnet18_stage(1, 64, 64, 56),
    *resnet18_stage(2, 64, 128, 28),
    *resnet18_stage(3, 128, 256, 14),
    *resnet18_stage(4, 256, 512, 7),
    Layer(name="fc", kind="linear", place="last", macs=512_000, weights=512_000, biases=1_000),
)


def uniform(
    layers: tuple[Layer, ...], bits: Bits, *, body_scalars: int = 0, end_scalars: int = 0
) -> tuple[LayerBits, ...]:
    """The same bits in every layer of the body; the conventions set those of the ends."""
    return tuple(
        LayerBits(
            weight=bits.weight,
            activation=bits.activation,
            scalars=body_scalars if layer.place == "body" else end_scalars,
        )
        for layer in layers
    )


def body_of(layers: tuple[Layer, ...]) -> list[Layer]:
    return [layer for layer in layers if layer.place == "body"]


@pytest.mark.parametrize("prefix", sorted(RESNET20_DIVISIONS))
def test_macs_and_weights_of_resnet20_are_exact(prefix: str) -> None:
    part = [layer for layer in RESNET20 if layer.name.startswith(prefix)]

    assert RESNET20_DIVISIONS[prefix] == (
        len(part),
        sum(layer.macs for layer in part),
        sum(layer.weights for layer in part),
    )


def test_projections_of_resnet20_are_two_and_cost_131_072_macs_each() -> None:
    projections = [layer for layer in RESNET20_B if "shortcut" in layer.name]

    assert [layer.macs for layer in projections] == [131_072, 131_072]
    assert sum(layer.macs for layer in RESNET20_B) == 40_813_184
    assert sum(layer.macs for layer in body_of(RESNET20_B)) == 40_370_176


def test_counts_of_resnet18_are_exact() -> None:
    body = body_of(RESNET18)

    assert len(RESNET18) == 21
    assert sum(layer.macs for layer in RESNET18) == 1_814_073_344
    assert [sum(x.macs for x in body if x.name.startswith(f"layer{n}")) for n in (1, 2, 3, 4)] == [
        462_422_016,
        411_041_792,
        411_041_792,
        411_041_792,
    ]
    assert sum(layer.macs for layer in body) == 1_695_547_392
    assert sum(layer.weights for layer in body) == 11_157_504
    assert RESNET18[0].weights == 9_408
    assert sum(x.weights + x.biases + 2 * x.norm_channels for x in RESNET18) == 11_689_512


@pytest.mark.parametrize(
    ("layers", "convention", "golden"),
    [
        (
            RESNET20,
            Convention.BODY,
            {
                2: 160_432_128,
                3: 360_972_288,
                4: 641_728_512,
                8: 2_566_914_048,
                32: 41_070_624_768,
            },
        ),
        (
            RESNET20,
            Convention.WHOLE_ENDS8,
            {2: 188_784_640, 3: 389_324_800, 4: 670_081_024, 8: 2_595_266_560},
        ),
        (
            RESNET20,
            Convention.WHOLE_ENDS32,
            {
                2: 614_072_320,
                3: 814_612_480,
                4: 1_095_368_704,
                8: 3_020_554_240,
                32: 41_524_264_960,
            },
        ),
        (
            RESNET18,
            Convention.WHOLE_ENDS8,
            {2: 14_367_850_496, 3: 22_845_587_456, 4: 34_714_419_200, 8: 116_100_694_016},
        ),
        (
            RESNET18,
            Convention.WHOLE_ENDS32,
            {
                2: 128_152_764_416,
                3: 136_630_501_376,
                4: 148_499_333_120,
                8: 229_885_607_936,
                32: 1_857_611_104_256,
            },
        ),
    ],
    ids=["resnet20-body", "resnet20-8", "resnet20-32", "resnet18-8", "resnet18-32"],
)
def test_bitops_at_uniform_bits_are_exact(
    layers: tuple[Layer, ...], convention: Convention, golden: dict[int, int]
) -> None:
    found = {bits: bitops(layers, uniform(layers, tied(bits)), convention) for bits in golden}

    assert found == golden


def test_a_network_in_floating_point_has_its_ends_at_32_bits_under_every_convention() -> None:
    full = uniform(RESNET20, tied(32))

    assert bitops(RESNET20, full, Convention.WHOLE_ENDS8) == 41_524_264_960
    assert weight_size_bits(RESNET20, full, Convention.WHOLE_ENDS8) == 8_586_752


@pytest.mark.parametrize(
    ("bits", "golden"),
    [
        (Bits(weight=4, activation=8), 1_311_809_536),
        (Bits(weight=2, activation=8), 670_081_024),
        (Bits(weight=4, activation=4), 670_081_024),
    ],
    ids=lambda value: value.label if isinstance(value, Bits) else "",
)
def test_bitops_see_only_the_product_of_weight_and_activation_bits(
    bits: Bits, golden: int
) -> None:
    assert bitops(RESNET20, uniform(RESNET20, bits), Convention.WHOLE_ENDS8) == golden


@pytest.mark.parametrize(
    ("layers", "golden"),
    [
        (RESNET20, {2: 543_104, 3: 810_368, 4: 1_077_632, 8: 2_146_688}),
        (RESNET18, {2: 26_486_272, 3: 37_643_776, 4: 48_801_280, 8: 93_431_296}),
    ],
    ids=["resnet20", "resnet18"],
)
def test_sizes_of_the_weights_with_8_bit_ends_are_exact(
    layers: tuple[Layer, ...], golden: dict[int, int]
) -> None:
    found = {
        bits: weight_size_bits(layers, uniform(layers, tied(bits)), Convention.WHOLE_ENDS8)
        for bits in golden
    }

    assert found == golden


def test_resnet20_at_4_bits_takes_140_408_bytes_in_all() -> None:
    four = uniform(RESNET20, tied(4), body_scalars=2, end_scalars=2)
    size = size_bits(RESNET20, four, Convention.WHOLE_ENDS8)

    assert size == 1_123_264
    assert size // 8 == 140_408


def nested(latent_bits: int) -> tuple[LayerBits, ...]:
    """ResNet-20 that serves 2, 3 and 4 bits: one weight step, three activation steps a layer."""
    return tuple(
        LayerBits(weight=4, activation=4, stored=latent_bits, scalars=4, norm_copies=3)
        if layer.place == "body"
        else LayerBits(weight=8, activation=8, scalars=2)
        for layer in RESNET20
    )


@pytest.mark.parametrize(
    ("latent_bits", "golden"), [(4, 1_210_432), (32, 1_210_432 + 267_264 * 28)]
)
def test_a_nested_network_keeps_three_batch_norms_and_its_latent_weights(
    latent_bits: int, golden: int
) -> None:
    assert size_bits(RESNET20, nested(latent_bits), Convention.WHOLE_ENDS8) == golden


@pytest.mark.parametrize(
    ("kind", "golden"),
    [
        (MeanBits.LAYER, 3.0),
        (MeanBits.WEIGHT, 2.2),
        (MeanBits.MAC, 2.5),
        (MeanBits.EFFECTIVE, 2.645751),
    ],
)
def test_the_four_mean_bits_of_two_layers_differ(kind: MeanBits, golden: float) -> None:
    layers = [
        Layer(name="a", kind="conv", place="body", macs=100, weights=10),
        Layer(name="b", kind="conv", place="body", macs=300, weights=90),
    ]
    bits = [LayerBits(weight=4, activation=4), LayerBits(weight=2, activation=2)]

    assert mean_bits(layers, bits, kind) == pytest.approx(golden, abs=5e-7)


def test_the_mean_of_bitops_is_not_the_bitops_of_the_mean_bits() -> None:
    layer = [Layer(name="a", kind="conv", place="body", macs=1, weights=1)]
    halves = [LayerBits(weight=bits, activation=bits, share=0.5) for bits in (2, 4)]

    assert sum(bitops(layer, [half], Convention.BODY) for half in halves) == 10
    assert bitops(layer, [LayerBits(weight=3, activation=3)], Convention.BODY) == 9
