"""Networks by their declared names."""

from collections.abc import Callable
from functools import partial

import torch

from bitsweep.declaration import Shape
from bitsweep.errors import UnknownName, nearest
from bitsweep_trainers.models.from_torchvision import mobilenet_v2, torchvision_resnet
from bitsweep_trainers.models.lenet5 import lenet5
from bitsweep_trainers.models.network import Network, initialise
from bitsweep_trainers.models.resnet import resnet
from bitsweep_trainers.models.signals import channel_autoencoder, signal_cnn
from bitsweep_trainers.models.small_cnn import small_cnn
from bitsweep_trainers.models.vgg import vgg7

BUILDERS: dict[str, Callable[[Shape, int], Network]] = {
    "small-cnn": small_cnn,
    "lenet5": lenet5,
    "resnet8": partial(resnet, blocks_per_stage=1, shortcut="A"),
    "resnet8-b": partial(resnet, blocks_per_stage=1, shortcut="B"),
    "resnet20": partial(resnet, blocks_per_stage=3, shortcut="A"),
    "resnet20-b": partial(resnet, blocks_per_stage=3, shortcut="B"),
    "resnet32": partial(resnet, blocks_per_stage=5, shortcut="A"),
    "resnet32-b": partial(resnet, blocks_per_stage=5, shortcut="B"),
    "vgg7": vgg7,
    "resnet18": partial(torchvision_resnet, name="resnet18"),
    "resnet18-small": partial(torchvision_resnet, name="resnet18", is_small=True),
    "resnet34": partial(torchvision_resnet, name="resnet34"),
    "resnet50": partial(torchvision_resnet, name="resnet50"),
    "mobilenet-v2": mobilenet_v2,
    "signal-cnn": signal_cnn,
    "channel-autoencoder": channel_autoencoder,
}


def build(name: str, shape: Shape, classes: int, generator: torch.Generator) -> Network:
    """The network on the generator's device, weights drawn from it; UnknownName if there is none.

    `shape` is that of a sample, as in `ModelDeclaration`.
    """
    if name not in BUILDERS:
        raise UnknownName(f"unknown model {name!r}{nearest(name, list(BUILDERS))}")
    with torch.device("meta"):  # else the modules draw weights of their own, from the global seed
        network = BUILDERS[name](shape, classes)
    network.to_empty(device=generator.device)
    initialise(network, generator)
    return network
