"""What every network is: a stem, a body and a head, and how its weights are drawn.

The first layer lies in the stem, the last in the head; the body holds what is quantized freely.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """head(body(stem(x))): images float (N, C, H, W) or other samples -> (N, classes)."""

    def __init__(self, *, stem: nn.Module, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.body = body
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(self.stem(images)))
        return logits


def named(**modules: nn.Module) -> nn.Sequential:
    """A sequence whose parts have names, in the order given."""
    return nn.Sequential(OrderedDict(modules))


def convolution(
    in_channels: int, out_channels: int, *, kernel: int, stride: int = 1, padding: int = 0
) -> nn.Conv2d:
    """A convolution without bias: a batch norm follows it."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=padding, bias=False)


def pooled_classifier(channels: int, classes: int) -> nn.Sequential:
    """Global average pool, then the last layer."""
    return named(
        pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), linear=nn.Linear(channels, classes)
    )


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights, in the order of `modules()`; the global generator is left alone.

    Convolutions: Kaiming normal over the fan-out (He et al., arXiv 1502.01852, eq. 14). Linear
    maps: normal with sd 1/sqrt(fan-in), bias 0, as their fan-out says nothing of their scale.
    Batch norms: affine 1 and 0.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv1d):
            nn.init.kaiming_normal_(
                module.weight, mode="fan_out", nonlinearity="relu", generator=generator
            )
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.reset_parameters()
