"""The layers of the networks for series and for vectors, as arithmetic."""

from bitsweep.cost import Layer
from bitsweep.declaration import ModelDeclaration, Shape
from bitsweep_trainers.models.counting import Convolution1d, linear

AUTOENCODER_UNITS = 128
COMPRESSION = 4


def signal_cnn_layers(shape: Shape, classes: int) -> tuple[Layer, ...]:
    """The stem at the length of the series, then convolutions at a quarter and an eighth of it."""
    channels, length = shape
    stem = Convolution1d(in_channels=channels, out_channels=16, kernel=7)
    conv1 = Convolution1d(in_channels=16, out_channels=32, kernel=5)
    conv2 = Convolution1d(in_channels=32, out_channels=64, kernel=5)
    return (
        stem.layer("stem.conv", "first", length=length),
        conv1.layer("body.conv1", "body", length=length // 4),
        conv2.layer("body.conv2", "body", length=length // 4 // 2),
        linear("head.linear", "last", 64, classes),
    )


def code_size(numbers: int) -> int:
    """The numbers that the encoder sends for a vector of so many."""
    return max(1, numbers // COMPRESSION)


def channel_autoencoder_layers(shape: Shape, outputs: int) -> tuple[Layer, ...]:
    """Two layers to the code, three from it back to the vector."""
    (numbers,) = shape
    units, code = AUTOENCODER_UNITS, code_size(numbers)
    return (
        linear("stem.linear", "first", numbers, units, is_normed=True),
        linear("body.encode", "body", units, code, is_normed=True),
        linear("body.decode", "body", code, units, is_normed=True),
        linear("body.refine", "body", units, units, is_normed=True),
        linear("head.linear", "last", units, outputs),
    )


SIGNAL_MODELS = (
    ModelDeclaration(
        name="signal-cnn",
        title="three convolutions over a series, 13 thousand parameters",
        source="chosen",
        numerics=2,  # at 1, ABN's drawn bits and bf16's exceptions passed its convolutions by
        layers=signal_cnn_layers,
        data_kind="series",
        least_side=8,
    ),
    ModelDeclaration(
        name="channel-autoencoder",
        title="an autoencoder of linear maps; its code has a quarter of the numbers",
        source="chosen; the task is that of CsiNet (Wen et al., arXiv 1712.08919)",
        numerics=1,
        layers=channel_autoencoder_layers,
        data_kind="vectors",
    ),
)
