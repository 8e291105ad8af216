"""Residual networks for small images (He et al., arXiv 1512.03385, section 4.2), width 16.

Shortcuts that change the shape: option A has no parameters, option B a 1x1 projection.
"""

from collections.abc import Iterator
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from bitsweep.declaration import Shape
from bitsweep_trainers.models.network import Network, convolution, named, pooled_classifier

WIDTHS = (16, 32, 64)
Shortcut = Literal["A", "B"]


class PadShortcut(nn.Module):
    """Option A: every `stride`-th pixel, and zero channels on both sides of the given ones."""

    def __init__(self, *, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        added = self.out_channels - self.in_channels
        pixels = features[:, :, :: self.stride, :: self.stride]
        return functional.pad(pixels, (0, 0, 0, 0, added // 2, added - added // 2))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which runs after them."""

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int, shortcut: nn.Module
    ) -> None:
        super().__init__()
        self.conv1 = convolution(in_channels, out_channels, kernel=3, stride=stride, padding=1)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = convolution(out_channels, out_channels, kernel=3, padding=1)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = shortcut
        self.relu2 = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        residual = self.relu1(self.bn1(self.conv1(features)))
        residual = self.bn2(self.conv2(residual))
        summed: Tensor = self.relu2(residual + self.shortcut(features))
        return summed


def resnet(shape: Shape, classes: int, *, blocks_per_stage: int, shortcut: Shortcut) -> Network:
    """Three stages of widths 16, 32, 64; depth 6 * blocks_per_stage + 2."""
    stem = named(
        conv=convolution(shape[0], WIDTHS[0], kernel=3, padding=1),
        bn=nn.BatchNorm2d(WIDTHS[0]),
        relu=nn.ReLU(),
    )
    stages: dict[str, nn.Module] = {}
    in_channels = WIDTHS[0]
    for index, width in enumerate(WIDTHS, start=1):
        blocks = _blocks(in_channels, width, count=blocks_per_stage, shortcut=shortcut)
        stages[f"stage{index}"] = nn.Sequential(*blocks)
        in_channels = width
    return Network(stem=stem, body=named(**stages), head=pooled_classifier(in_channels, classes))


def _blocks(
    in_channels: int, width: int, *, count: int, shortcut: Shortcut
) -> Iterator[BasicBlock]:
    """The blocks of one stage; the first halves the image where the width grows."""
    for _ in range(count):
        stride = 1 if in_channels == width else 2
        path = _shortcut(in_channels, width, stride=stride, option=shortcut)
        yield BasicBlock(in_channels, width, stride=stride, shortcut=path)
        in_channels = width


def _shortcut(in_channels: int, out_channels: int, *, stride: int, option: Shortcut) -> nn.Module:
    if in_channels == out_channels:
        return nn.Identity()
    if option == "A":
        return PadShortcut(in_channels=in_channels, out_channels=out_channels, stride=stride)
    return named(
        conv=convolution(in_channels, out_channels, kernel=1, stride=stride),
        bn=nn.BatchNorm2d(out_channels),
    )
