"""The bits that each layer of the body has: those of the trial, or those given to it per layer."""

from collections.abc import Callable

from torch import nn

from bitsweep.bits import Bits, parse_allocation
from bitsweep.taking import by_layer
from bitsweep.trial import Trial
from bitsweep_trainers.layers import Computing, computing_layers, replace_layers
from bitsweep_trainers.methods.base import Chosen


def body_bits(trial: Trial, num_layers: int) -> tuple[Bits, ...]:
    """The bits of each layer of the body: those of a given allocation, else the trial's one.

    ValueError for an allocation of another body.
    """
    if trial.allocation is None:
        (bits,) = trial.bits
        return (bits,) * num_layers
    return by_layer(parse_allocation(trial.allocation), num_layers)


def replace_body(
    network: nn.Module, trial: Trial, make: Callable[[Computing, Bits], nn.Module]
) -> None:
    """Put make(layer, its bits) in the place of each layer of the body, in `modules()` order."""
    body = network.get_submodule("body")
    bits = iter(body_bits(trial, len(computing_layers(body))))
    replace_layers(body, lambda layer: make(layer, next(bits)))


def given_allocation(network: nn.Module, trial: Trial) -> Chosen | None:
    """The allocation that a trial was given; None where its network runs at the trial's bits."""
    if trial.allocation is None:
        return None
    return Chosen(allocation=parse_allocation(trial.allocation))
