"""The small network of the quick sweeps: three convolutions, about 24 thousand parameters."""

from torch import nn

from bitsweep.declaration import Shape
from bitsweep_trainers.models.network import Network, convolution, named, pooled_classifier


def small_cnn(shape: Shape, classes: int) -> Network:
    """16C3-MP2-32C3-MP2-64C3, global average pool, classifier."""
    stem = named(
        conv=convolution(shape[0], 16, kernel=3, padding=1),
        bn=nn.BatchNorm2d(16),
        relu=nn.ReLU(),
        pool=nn.MaxPool2d(2),
    )
    body = named(
        conv1=convolution(16, 32, kernel=3, padding=1),
        bn1=nn.BatchNorm2d(32),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),
        conv2=convolution(32, 64, kernel=3, padding=1),
        bn2=nn.BatchNorm2d(64),
        relu2=nn.ReLU(),
    )
    return Network(stem=stem, body=body, head=pooled_classifier(64, classes))
