"""LeNet-5 as quantization papers use it: 32C5-MP2-64C5-MP2-512FC-softmax, with batch norms."""

from torch import nn

from bitsweep.declaration import Shape
from bitsweep_trainers.models.network import Network, convolution, named


def lenet5(shape: Shape, classes: int) -> Network:
    """Convolutions without padding; a batch norm and a ReLU also behind the hidden linear map."""
    channels, height, width = shape
    stem = named(
        conv=convolution(channels, 32, kernel=5),
        bn=nn.BatchNorm2d(32),
        relu=nn.ReLU(),
        pool=nn.MaxPool2d(2),
    )
    pooled_height, pooled_width = (((side - 4) // 2 - 4) // 2 for side in (height, width))
    body = named(
        conv=convolution(32, 64, kernel=5),
        bn1=nn.BatchNorm2d(64),
        relu1=nn.ReLU(),
        pool=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        linear=nn.Linear(64 * pooled_height * pooled_width, 512, bias=False),
        bn2=nn.BatchNorm1d(512),
        relu2=nn.ReLU(),
    )
    return Network(stem=stem, body=body, head=named(linear=nn.Linear(512, classes)))
