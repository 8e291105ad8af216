"""The layers of every network as arithmetic: MACs, weights and channels, without torch.

A layer is named by its path in the network that `build` makes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from bitsweep.cost import Layer, Place
from bitsweep.trainer import ModelDeclaration, Shape

RESNET_WIDTHS = (16, 32, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """A square convolution as the counts see it; `padding` on all four sides."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int = 1
    padding: int = 0

    def output(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of what it gives."""
        reach = 2 * self.padding - self.kernel
        return (height + reach) // self.stride + 1, (width + reach) // self.stride + 1

    def layer(self, name: str, place: Place, *, output: tuple[int, int]) -> Layer:
        """MACs = C_in * C_out * k * k * H_out * W_out; a batch norm follows, so no bias."""
        weights = self.in_channels * self.out_channels * self.kernel**2
        return Layer(
            name=name,
            kind="conv",
            place=place,
            macs=weights * output[0] * output[1],
            weights=weights,
            norm_channels=self.out_channels,
            in_channels=self.in_channels,
            out_channels=self.out_channels,
        )


def linear(
    name: str, place: Place, in_channels: int, out_channels: int, *, is_normed: bool = False
) -> Layer:
    """A linear map, with a batch norm or else a bias behind it; MACs = weights = in * out."""
    return Layer(
        name=name,
        kind="linear",
        place=place,
        macs=in_channels * out_channels,
        weights=in_channels * out_channels,
        biases=0 if is_normed else out_channels,
        norm_channels=out_channels if is_normed else 0,
        in_channels=in_channels,
        out_channels=out_channels,
    )


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
    ),
    ModelDeclaration(
        name="lenet5",
        title="LeNet-5: 32C5-MP2-64C5-MP2-512FC, batch norms",
        source="LeCun et al. 1998, in the form of quantization papers",
        numerics=1,
        layers=lenet5_layers,
    ),
    _resnet("resnet8", "ResNet-8, shortcuts A", blocks_per_stage=1, is_projected=False),
    _resnet("resnet8-b", "ResNet-8, shortcuts B", blocks_per_stage=1, is_projected=True),
    _resnet("resnet20", "ResNet-20, shortcuts A", blocks_per_stage=3, is_projected=False),
    _resnet("resnet20-b", "ResNet-20, shortcuts B", blocks_per_stage=3, is_projected=True),
)
MODELS: dict[str, ModelDeclaration] = {one.name: one for one in _DECLARED}
