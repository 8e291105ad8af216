"""Networks for series (convolutions over time) and for vectors (an autoencoder)."""

from torch import nn

from bitsweep.declaration import Shape
from bitsweep_trainers.models.declared_signals import AUTOENCODER_UNITS, code_size
from bitsweep_trainers.models.network import Network, named


def signal_cnn(shape: Shape, classes: int) -> Network:
    """Series float (N, C, L) -> logits (N, classes)."""
    channels, _ = shape
    stem = named(
        conv=nn.Conv1d(channels, 16, 7, padding=3, bias=False),
        bn=nn.BatchNorm1d(16),
        relu=nn.ReLU(),
        pool=nn.MaxPool1d(4),
    )
    body = named(
        conv1=nn.Conv1d(16, 32, 5, padding=2, bias=False),
        bn1=nn.BatchNorm1d(32),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool1d(2),
        conv2=nn.Conv1d(32, 64, 5, padding=2, bias=False),
        bn2=nn.BatchNorm1d(64),
        relu2=nn.ReLU(),
    )
    head = named(pool=nn.AdaptiveAvgPool1d(1), flatten=nn.Flatten(), linear=nn.Linear(64, classes))
    return Network(stem=stem, body=body, head=head)


def channel_autoencoder(shape: Shape, outputs: int) -> Network:
    """Vectors float (N, numbers) -> vectors (N, outputs).

    The code is what `body.decode` receives: at b activation bits it is `code_size` times b bits.
    """
    (numbers,) = shape
    units, code = AUTOENCODER_UNITS, code_size(numbers)
    stem = named(
        linear=nn.Linear(numbers, units, bias=False), bn=nn.BatchNorm1d(units), relu=nn.ReLU()
    )
    parts: dict[str, nn.Module] = {}
    sizes = {"encode": (units, code), "decode": (code, units), "refine": (units, units)}
    for name, (given, wanted) in sizes.items():
        parts[name] = nn.Linear(given, wanted, bias=False)
        parts[f"bn_{name}"] = nn.BatchNorm1d(wanted)
        parts[f"relu_{name}"] = nn.ReLU()
    return Network(stem=stem, body=named(**parts), head=named(linear=nn.Linear(units, outputs)))
