"""VGG-7 of the quantization literature: 2x(128C3)-MP2-2x(256C3)-MP2-2x(512C3)-MP2-1024FC."""

from torch import nn

from bitsweep.declaration import Shape
from bitsweep_trainers.models.declared import VGG7_UNITS, VGG7_WIDTHS
from bitsweep_trainers.models.network import Network, convolution, named


def vgg7(shape: Shape, classes: int) -> Network:
    """A batch norm and a ReLU behind every layer but the last; no dropout."""
    channels, height, width = shape
    stem = named(
        conv=convolution(channels, VGG7_WIDTHS[0], kernel=3, padding=1),
        bn=nn.BatchNorm2d(VGG7_WIDTHS[0]),
        relu=nn.ReLU(),
    )
    body: dict[str, nn.Module] = {}
    given = VGG7_WIDTHS[0]
    for index, out_channels in enumerate(VGG7_WIDTHS[1:], start=1):
        body[f"conv{index}"] = convolution(given, out_channels, kernel=3, padding=1)
        body[f"bn{index}"] = nn.BatchNorm2d(out_channels)
        body[f"relu{index}"] = nn.ReLU()
        if index % 2:
            body[f"pool{index}"] = nn.MaxPool2d(2)
        given = out_channels
    body["flatten"] = nn.Flatten()
    flat = given * (height // 2 // 2 // 2) * (width // 2 // 2 // 2)
    body["linear"] = nn.Linear(flat, VGG7_UNITS, bias=False)
    body["bn_linear"] = nn.BatchNorm1d(VGG7_UNITS)
    body["relu_linear"] = nn.ReLU()
    return Network(
        stem=stem, body=named(**body), head=named(linear=nn.Linear(VGG7_UNITS, classes))
    )
