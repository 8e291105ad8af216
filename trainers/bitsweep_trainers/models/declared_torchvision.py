"""The layers of torchvision's networks as arithmetic, under the paths that `build` gives them."""

from collections.abc import Iterator
from functools import partial

from bitsweep.cost import Layer
from bitsweep.declaration import ModelDeclaration, Shape
from bitsweep_trainers.models.counting import Convolution, linear

STAGE_WIDTHS = (64, 128, 256, 512)
EXPANSION = 4
# (expansion t, channels c, repeats n, stride s of the first): Sandler et al., table 2.
INVERTED = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
MOBILENET_STEM, MOBILENET_LAST = 32, 1280
Size = tuple[int, int]


def resnet_layers(
    shape: Shape, classes: int, *, blocks: tuple[int, ...], is_bottleneck: bool, is_small: bool
) -> tuple[Layer, ...]:
    """Four stages; `is_small`: a stem for small images, 3x3 without stride or pool."""
    channels, height, width = shape
    stem = Convolution(
        in_channels=channels,
        out_channels=64,
        kernel=3 if is_small else 7,
        stride=1 if is_small else 2,
        padding=1 if is_small else 3,
    )
    size = stem.output(height, width)
    layers = [stem.layer("stem.conv", "first", output=size)]
    if not is_small:
        pool = Convolution(in_channels=64, out_channels=64, kernel=3, stride=2, padding=1)
        size = pool.output(*size)
    given = 64
    for stage, (width_, count) in enumerate(zip(STAGE_WIDTHS, blocks, strict=True), start=1):
        for block in range(count):
            stride = 2 if stage > 1 and block == 0 else 1
            path = f"body.stage{stage}.{block}"
            make = _bottleneck if is_bottleneck else _basic
            made = list(make(path, given, width_, stride=stride, size=size))
            layers += [layer for layer, _ in made]
            size = made[-1][1]
            given = width_ * EXPANSION if is_bottleneck else width_
    return (*layers, linear("head.linear", "last", given, classes))


Placed = Iterator[tuple[Layer, Size]]


def _basic(path: str, given: int, width: int, *, stride: int, size: Size) -> Placed:
    first = Convolution(in_channels=given, out_channels=width, kernel=3, stride=stride, padding=1)
    second = Convolution(in_channels=width, out_channels=width, kernel=3, padding=1)
    after = first.output(*size)
    yield first.layer(f"{path}.conv1", "body", output=after), after
    yield second.layer(f"{path}.conv2", "body", output=after), after
    yield from _downsample(path, given, width, stride=stride, output=after)


def _bottleneck(path: str, given: int, width: int, *, stride: int, size: Size) -> Placed:
    """1x1, 3x3 with the stride (torchvision's "v1.5"), 1x1 to four times the width."""
    wide = width * EXPANSION
    first = Convolution(in_channels=given, out_channels=width, kernel=1)
    second = Convolution(in_channels=width, out_channels=width, kernel=3, stride=stride, padding=1)
    third = Convolution(in_channels=width, out_channels=wide, kernel=1)
    after = second.output(*size)
    yield first.layer(f"{path}.conv1", "body", output=size), size
    yield second.layer(f"{path}.conv2", "body", output=after), after
    yield third.layer(f"{path}.conv3", "body", output=after), after
    yield from _downsample(path, given, wide, stride=stride, output=after)


def _downsample(path: str, given: int, width: int, *, stride: int, output: Size) -> Placed:
    if stride != 1 or given != width:
        one = Convolution(in_channels=given, out_channels=width, kernel=1, stride=stride)
        yield one.layer(f"{path}.downsample.0", "body", output=output), output


def mobilenet_v2_layers(shape: Shape, classes: int) -> tuple[Layer, ...]:
    """Inverted residuals; what leaves a block has no ReLU, so that the next expands both signs."""
    channels, height, width = shape
    stem = Convolution(
        in_channels=channels, out_channels=MOBILENET_STEM, kernel=3, stride=2, padding=1
    )
    size = stem.output(height, width)
    layers = [stem.layer("stem.conv", "first", output=size)]
    given, index = MOBILENET_STEM, 1
    for expansion, out_channels, count, first_stride in INVERTED:
        for block in range(count):
            stride = first_stride if block == 0 else 1
            path = f"body.block{index}.conv"
            wide = given * expansion
            depth = Convolution(
                in_channels=wide,
                out_channels=wide,
                kernel=3,
                stride=stride,
                padding=1,
                groups=wide,
            )
            place = 0
            if expansion != 1:
                expand = Convolution(in_channels=given, out_channels=wide, kernel=1)
                name = f"{path}.0.0"
                layers.append(expand.layer(name, "body", output=size, has_signed_input=True))
                place = 1
            size = depth.output(*size)
            layers.append(depth.layer(f"{path}.{place}.0", "body", output=size))
            project = Convolution(in_channels=wide, out_channels=out_channels, kernel=1)
            layers.append(project.layer(f"{path}.{place + 1}", "body", output=size))
            given, index = out_channels, index + 1
    last = Convolution(in_channels=given, out_channels=MOBILENET_LAST, kernel=1)
    layers.append(last.layer("body.last.0", "body", output=size, has_signed_input=True))
    return (*layers, linear("head.linear", "last", MOBILENET_LAST, classes))


def _resnet(name: str, title: str, blocks: tuple[int, ...], **kinds: bool) -> ModelDeclaration:
    is_small = kinds.get("is_small", False)
    return ModelDeclaration(
        name=name,
        title=title,
        source="He et al., arXiv 1512.03385; torchvision",
        numerics=1,
        layers=partial(
            resnet_layers,
            blocks=blocks,
            is_bottleneck=kinds.get("is_bottleneck", False),
            is_small=is_small,
        ),
    )


TORCHVISION_MODELS = (
    _resnet("resnet18", "ResNet-18 (torchvision)", (2, 2, 2, 2)),
    _resnet(
        "resnet18-small",
        "ResNet-18 with a 3x3 stem and no pool, for small images",
        (2, 2, 2, 2),
        is_small=True,
    ),
    _resnet("resnet34", "ResNet-34 (torchvision)", (3, 4, 6, 3)),
    _resnet("resnet50", "ResNet-50 (torchvision)", (3, 4, 6, 3), is_bottleneck=True),
    ModelDeclaration(
        name="mobilenet-v2",
        title="MobileNetV2 (torchvision), without dropout",
        source="Sandler et al., arXiv 1801.04381; torchvision",
        numerics=1,
        layers=mobilenet_v2_layers,
    ),
)
