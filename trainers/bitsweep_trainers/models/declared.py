"""The layers of every network as arithmetic: MACs, weights and channels, without torch.

A layer is named by its path in the network that `build` makes.
"""

from collections.abc import Iterator
from functools import partial

from bitsweep.cost import Layer
from bitsweep.declaration import ModelDeclaration, Shape
from bitsweep_trainers.models.counting import Convolution, linear
from bitsweep_trainers.models.declared_signals import SIGNAL_MODELS
from bitsweep_trainers.models.declared_torchvision import TORCHVISION_MODELS

RESNET_WIDTHS = (16, 32, 64)
VGG7_WIDTHS = (128, 128, 256, 256, 512, 512)
VGG7_UNITS = 1024


def small_cnn_layers(shape: Shape, classes: int) -> tuple[Layer, ...]:
    """The stem at the size of the image, then a convolution at half and one at a quarter of it."""
    channels, height, width = shape
    stem = Convolution(in_channels=channels, out_channels=16, kernel=3, padding=1)
    conv1 = Convolution(in_channels=16, out_channels=32, kernel=3, padding=1)
    conv2 = Convolution(in_channels=32, out_channels=64, kernel=3, padding=1)
    return (
        stem.layer("stem.conv", "first", output=(height, width)),
        conv1.layer("body.conv1", "body", output=(height // 2, width // 2)),
        conv2.layer("body.conv2", "body", output=(height // 2 // 2, width // 2 // 2)),
        linear("head.linear", "last", 64, classes),
    )


def lenet5_layers(shape: Shape, classes: int) -> tuple[Layer, ...]:
    """Convolutions without padding, each followed by a pool that halves the image."""
    channels, height, width = shape
    stem = Convolution(in_channels=channels, out_channels=32, kernel=5)
    conv = Convolution(in_channels=32, out_channels=64, kernel=5)
    at_stem = stem.output(height, width)
    at_conv = conv.output(at_stem[0] // 2, at_stem[1] // 2)
    flat = 64 * (at_conv[0] // 2) * (at_conv[1] // 2)
    return (
        stem.layer("stem.conv", "first", output=at_stem),
        conv.layer("body.conv", "body", output=at_conv),
        linear("body.linear", "body", flat, 512, is_normed=True),
        linear("head.linear", "last", 512, classes),
    )


def vgg7_layers(shape: Shape, classes: int) -> tuple[Layer, ...]:
    """Three pairs of convolutions, each at half the size of the one before, then 1024 units."""
    channels, height, width = shape
    size, given = (height, width), channels
    layers = []
    for index, out_channels in enumerate(VGG7_WIDTHS):
        one = Convolution(in_channels=given, out_channels=out_channels, kernel=3, padding=1)
        is_first = index == 0
        path = "stem.conv" if is_first else f"body.conv{index}"
        layers.append(one.layer(path, "first" if is_first else "body", output=size))
        given = out_channels
        if index % 2:
            size = (size[0] // 2, size[1] // 2)
    flat = given * size[0] * size[1]
    return (
        *layers,
        linear("body.linear", "body", flat, VGG7_UNITS, is_normed=True),
        linear("head.linear", "last", VGG7_UNITS, classes),
    )


def resnet_layers(
    shape: Shape, classes: int, *, blocks_per_stage: int, is_projected: bool
) -> tuple[Layer, ...]:
    """Three stages of widths 16, 32, 64; the second and the third begin with stride 2."""
    channels, height, width = shape
    stem = Convolution(in_channels=channels, out_channels=RESNET_WIDTHS[0], kernel=3, padding=1)
    layers = [stem.layer("stem.conv", "first", output=(height, width))]
    in_channels, size = RESNET_WIDTHS[0], (height, width)
    for stage, out_channels in enumerate(RESNET_WIDTHS, start=1):
        for block in range(blocks_per_stage):
            path = f"body.stage{stage}.{block}"
            first = Convolution(
                in_channels=in_channels,
                out_channels=out_channels,
                kernel=3,
                stride=1 if in_channels == out_channels else 2,
                padding=1,
            )
            size = first.output(*size)
            layers += _block_layers(path, first, output=size, is_projected=is_projected)
            in_channels = out_channels
    return (*layers, linear("head.linear", "last", in_channels, classes))


def _block_layers(
    path: str, first: Convolution, *, output: tuple[int, int], is_projected: bool
) -> Iterator[Layer]:
    """conv1, conv2 and, where the shape changes, the projection of option B."""
    width = first.out_channels
    second = Convolution(in_channels=width, out_channels=width, kernel=3, padding=1)
    yield first.layer(f"{path}.conv1", "body", output=output)
    yield second.layer(f"{path}.conv2", "body", output=output)
    if is_projected and first.stride != 1:
        projection = Convolution(
            in_channels=first.in_channels, out_channels=width, kernel=1, stride=first.stride
        )
        yield projection.layer(f"{path}.shortcut.conv", "body", output=output)


def _resnet(
    name: str, title: str, *, blocks_per_stage: int, is_projected: bool
) -> ModelDeclaration:
    return ModelDeclaration(
        name=name,
        title=title,
        source="He et al., arXiv 1512.03385, section 4.2",
        numerics=1,
        layers=partial(
            resnet_layers, blocks_per_stage=blocks_per_stage, is_projected=is_projected
        ),
    )


_DECLARED = (
    ModelDeclaration(
        name="small-cnn",
        title="three convolutions, 24 thousand parameters",
        source="chosen",
        numerics=1,
        layers=small_cnn_layers,
        least_side=4,
    ),
    ModelDeclaration(
        name="lenet5",
        title="LeNet-5: 32C5-MP2-64C5-MP2-512FC, batch norms",
        source="LeCun et al. 1998, in the form of quantization papers",
        numerics=1,
        layers=lenet5_layers,
        least_side=16,
    ),
    _resnet("resnet8", "ResNet-8, shortcuts A", blocks_per_stage=1, is_projected=False),
    _resnet("resnet8-b", "ResNet-8, shortcuts B", blocks_per_stage=1, is_projected=True),
    _resnet("resnet20", "ResNet-20, shortcuts A", blocks_per_stage=3, is_projected=False),
    _resnet("resnet20-b", "ResNet-20, shortcuts B", blocks_per_stage=3, is_projected=True),
    _resnet("resnet32", "ResNet-32, shortcuts A", blocks_per_stage=5, is_projected=False),
    _resnet("resnet32-b", "ResNet-32, shortcuts B", blocks_per_stage=5, is_projected=True),
    ModelDeclaration(
        name="vgg7",
        title="VGG-7: 2x(128C3)-MP2-2x(256C3)-MP2-2x(512C3)-MP2-1024FC, batch norms",
        source="Louizos et al., arXiv 1810.01875; batch norms chosen",
        numerics=1,
        layers=vgg7_layers,
        least_side=8,
    ),
    *TORCHVISION_MODELS,
    *SIGNAL_MODELS,
)
MODELS: dict[str, ModelDeclaration] = {one.name: one for one in _DECLARED}
