"""Residual blocks, ours and torchvision's, by their parts; inverted ones are none of them."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from bitsweep_trainers.models.resnet import BasicBlock


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """A block: its convolutions in order, its last batch norm, and what its shortcut is called."""

    module: nn.Module
    layers: tuple[str, ...]
    last_norm: str
    shortcut_name: str

    @property
    def first(self) -> nn.Module:
        """The convolution that reads the block's input."""
        return self.module.get_submodule(self.layers[0])

    @property
    def last(self) -> nn.Module:
        """The convolution whose output the shortcut's is added to."""
        return self.module.get_submodule(self.layers[-1])

    @property
    def shortcut(self) -> nn.Module:
        """What leads past the convolutions; torchvision's blocks leave out an identity."""
        found: nn.Module | None = getattr(self.module, self.shortcut_name)
        return nn.Identity() if found is None else found

    def set_shortcut(self, shortcut: nn.Module) -> None:
        """Lead past the convolutions in another way."""
        setattr(self.module, self.shortcut_name, shortcut)


def residual_of(module: nn.Module) -> Residual | None:
    """The parts of a residual block, None of any other module.

    torchvision's are told by their attributes: it need not be installed.
    """
    if isinstance(module, BasicBlock):
        name = "shortcut"
    elif hasattr(module, "downsample") and hasattr(module, "conv1"):
        name = "downsample"
    else:
        return None
    count = 3 if hasattr(module, "conv3") else 2
    layers = tuple(f"conv{index}" for index in range(1, count + 1))
    return Residual(module=module, layers=layers, last_norm=f"bn{count}", shortcut_name=name)


def residuals_of(network: nn.Module) -> Iterator[tuple[str, Residual]]:
    """(path, block) of every residual block, in `modules()` order."""
    for path, module in list(network.named_modules()):
        block = residual_of(module)
        if block is not None:
            yield path, block
