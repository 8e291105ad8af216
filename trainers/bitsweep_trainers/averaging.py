"""A moving average of a network's state, measured and kept in place of the last step's."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def ramped(decay: float, num_updates: int) -> float:
    """The decay of one update: min(decay, (1 + n) / (10 + n)), as TensorFlow ramps it up.

    Without it the start weighs decay^n, most of a short training.

    >>> [round(ramped(0.9, n), 4) for n in (1, 10, 1000)]
    [0.1818, 0.55, 0.9]
    """
    return min(decay, (1 + num_updates) / (10 + num_updates))


class Average:
    """e <- d e + (1 - d) x after each step, x being every floating-point tensor of the state.

    Quantizer parameters and batch-norm statistics are averaged like weights; whole numbers are
    not, nor what a module names in its `not_averaged`. Begins as a copy of the network.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        self.values = {name: one.detach().clone() for name, one in _tensors(network)}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the state after a step."""
        self.num_updates += 1
        weight = 1 - ramped(self.decay, self.num_updates)
        for name, one in _tensors(network):
            self.values[name].lerp_(one, weight)

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Within the block the network has the averaged state; then its own again."""
        kept = {name: one.detach().clone() for name, one in _tensors(network)}
        _copy(self.values, network)
        try:
            yield
        finally:
            _copy(kept, network)

    def state(self) -> dict[str, Any]:  # torch.save takes anything
        """What a restarted training needs."""
        return {"num_updates": self.num_updates, "values": self.values}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.num_updates = int(state["num_updates"])
        for name, one in self.values.items():
            one.copy_(state["values"][name])


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    live = {
        f"{path}.{name}" if path else name
        for path, module in network.named_modules()
        for name in getattr(module, "not_averaged", ())
    }
    for name, one in network.state_dict().items():
        if isinstance(one, Tensor) and one.is_floating_point() and name not in live:
            yield name, one


@torch.no_grad()
def _copy(values: dict[str, Tensor], network: nn.Module) -> None:
    for name, one in _tensors(network):
        one.copy_(values[name])
