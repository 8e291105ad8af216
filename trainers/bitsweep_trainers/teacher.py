"""A frozen copy of the start network that teaches the one it became."""

from copy import deepcopy

import torch
from torch import Tensor, nn


class Teacher:
    """The plain network in evaluation mode and fp32; no part of the network that learns.

    It is made again from the start's checkpoint when a trial is restarted, so it is kept in no
    state; it follows the images to their device.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """What it says of normalised images (N, C, H, W): (N, classes)."""
        self._network.to(images.device)
        found: Tensor = self._network(images)
        return found
