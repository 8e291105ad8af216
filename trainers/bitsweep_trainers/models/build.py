"""Networks by their declared names."""

from collections.abc import Callable
from functools import partial

import torch

from bitsweep.errors import UnknownName, nearest
from bitsweep.trainer import Shape
from bitsweep_trainers.models.lenet5 import lenet5
from bitsweep_trainers.models.network import Network, initialise
from bitsweep_trainers.models.resnet import resnet
from bitsweep_trainers.models.small_cnn import small_cnn

BUILDERS: dict[str, Callable[[Shape, int], Network]] = {
    "small-cnn": small_cnn,
    "lenet5": lenet5,
    "resnet8": partial(resnet, blocks_per_stage=1, shortcut="A"),
    "resnet8-b": partial(resnet, blocks_per_stage=1, shortcut="B"),
    "resnet20": partial(resnet, blocks_per_stage=3, shortcut="A"),
    "resnet20-b": partial(resnet, blocks_per_stage=3, shortcut="B"),
}


def build(name: str, shape: Shape, classes: int, generator: torch.Generator) -> Network:
    """The network on the generator's device, weights drawn from it; UnknownName if there is none.

    `shape` is that of an image: (channels, height, width).
    """
    if name not in BUILDERS:
        raise UnknownName(f"unknown model {name!r}{nearest(name, list(BUILDERS))}")
    with torch.device("meta"):  # else the modules draw weights of their own, from the global seed
        network = BUILDERS[name](shape, classes)
    network.to_empty(device=generator.device)
    initialise(network, generator)
    return network
