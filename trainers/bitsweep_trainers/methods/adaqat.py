"""AdaQAT: PACT's network at bits that are learned beside it, by finite differences of the loss.

N_w and N_a are real numbers of the whole body; it runs at their ceilings.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, isfinite

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bitsweep.bits import Allocation, Bits
from bitsweep.trial import Trial
from bitsweep_trainers.layers import select_body
from bitsweep_trainers.methods.base import Chosen, Method
from bitsweep_trainers.methods.declared.adaqat import HIGHEST_BITS
from bitsweep_trainers.methods.fp32 import cross_entropy_backward
from bitsweep_trainers.methods.pact import PACT

# Widths stay above 1, so that there is always one bit less to ask about.
LOWEST_WIDTH = 1 + 1e-6


class LearnedWidth(nn.Module):
    """A real width N and its history; the bits are ceil(N), between 2 and 8.

    `turns` counts how often the bits changed in another direction than before; a width that did so
    too often `is_fixed`. `average` is the running mean of loss differences, `num_steps` of them.
    """

    value: Tensor
    average: Tensor
    num_steps: Tensor
    direction: Tensor
    turns: Tensor
    is_fixed: Tensor

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(float(bits), dtype=torch.float64))
        self.register_buffer("average", torch.tensor(0.0, dtype=torch.float64))
        for name in ("num_steps", "direction", "turns"):
            self.register_buffer(name, torch.tensor(0))
        self.register_buffer("is_fixed", torch.tensor(False))

    @property
    def bits(self) -> int:
        """What the network runs at."""
        return ceil(self.value.item())

    @torch.no_grad()
    def step(
        self, difference: float, price: float, *, rate: float, smoothing: float, max_turns: int
    ) -> None:
        """N <- clip(N - rate (mean of differences + price), above 1, 8).

        difference: L(bits) - L(bits - 1), averaged with decay `smoothing` from the first step on;
        price: lambda times the bits of the other width.
        """
        before = self.bits
        self.num_steps += 1
        self.average.mul_(smoothing).add_((1 - smoothing) * difference)
        mean = self.average.item() / (1 - smoothing ** int(self.num_steps.item()))
        self.value.sub_(rate * (mean + price)).clamp_(LOWEST_WIDTH, HIGHEST_BITS)
        self._note_turn(before, max_turns)

    def _note_turn(self, before: int, max_turns: int) -> None:
        change = self.bits - before
        if change == 0:
            return
        direction = 1 if change > 0 else -1
        if direction == -int(self.direction.item()):
            self.turns += 1
        self.direction.fill_(direction)
        if int(self.turns.item()) >= max_turns:
            self.value.fill_(max(before, self.bits))
            self.is_fixed.fill_(True)


class LearnedWidths(nn.Module):
    """N_w and N_a; part of the network, so that a checkpoint keeps them."""

    def __init__(self, bits: Bits) -> None:
        super().__init__()
        self.weight = LearnedWidth(bits.weight)
        self.activation = LearnedWidth(bits.activation)

    @property
    def bits(self) -> Bits:
        """What the body runs at."""
        return Bits(weight=self.weight.bits, activation=self.activation.bits)


def widths_of(network: nn.Module) -> LearnedWidths:
    """The widths of a converted network."""
    found = network.get_submodule("widths")
    assert isinstance(found, LearnedWidths)
    return found


def _convert(network: nn.Module, trial: Trial, generator: torch.Generator) -> nn.Module:
    network = PACT.convert(network, trial, generator)
    (bits,) = trial.bits
    network.add_module("widths", LearnedWidths(bits))
    return network


def _begin_epoch(network: nn.Module, trial: Trial, epoch: int) -> None:
    """Run at the bits of the widths, also where these were read from a state."""
    select_body(network, widths_of(network).bits)


def _backward(
    network: nn.Module, trial: Trial, images: Tensor, labels: Tensor, generator: torch.Generator
) -> Tensor:
    """Cross-entropy of one batch at the bits as they stand; then a step of the widths.

    The bits are constants for the other parameters, whose gradients are those of PACT.
    """
    loss = cross_entropy_backward(network, trial, images, labels, generator)
    if not isfinite(loss.item()):
        return loss  # the loop ends the trial; widths that followed such a loss would be none
    widths, bits = widths_of(network), widths_of(network).bits
    lower = {
        widths.weight: Bits(weight=bits.weight - 1, activation=bits.activation),
        widths.activation: Bits(weight=bits.weight, activation=bits.activation - 1),
    }
    rates = {
        widths.weight: float(trial.parameters["weight_bits_learning_rate"]),
        widths.activation: float(trial.parameters["activation_bits_learning_rate"]),
    }
    others = {widths.weight: bits.activation, widths.activation: bits.weight}
    for width, at in lower.items():
        if bool(width.is_fixed):
            continue
        difference = loss.item() - loss_at(network, at, images, labels)
        if not isfinite(difference):
            continue
        width.step(
            difference,
            float(trial.parameters["lambda"]) * others[width],
            rate=rates[width],
            smoothing=float(trial.parameters["smoothing"]),
            max_turns=int(trial.parameters["max_turns"]),
        )
    select_body(network, widths.bits)
    return loss


@torch.no_grad()
def loss_at(network: nn.Module, bits: Bits, images: Tensor, labels: Tensor) -> float:
    """The mean cross-entropy of a batch at other bits, by its own statistics."""
    select_body(network, bits)
    with _norms_keep_statistics(network):
        return cross_entropy(network(images), labels).item()


@contextmanager
def _norms_keep_statistics(network: nn.Module) -> Iterator[None]:
    """Batch norms in training mode use a batch's statistics and leave the running ones alone."""
    norms = [one for one in network.modules() if isinstance(one, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [one.momentum for one in norms]
    seen = [one.num_batches_tracked for one in norms]
    for one in norms:
        one.momentum = 0.0
        one.num_batches_tracked = None
    try:
        yield
    finally:
        for one, momentum, count in zip(norms, momenta, seen, strict=True):
            one.momentum, one.num_batches_tracked = momentum, count


def _chosen(network: nn.Module, trial: Trial) -> Chosen:
    """The bits that the widths stand at, the same in every layer of the body."""
    bits = widths_of(network).bits
    select_body(network, bits)
    return Chosen(
        allocation=Allocation.uniform(bits),
        allocator="learned",
        lambda_=float(trial.parameters["lambda"]),
    )


ADAQAT = Method(
    convert=_convert,
    calibrate=PACT.calibrate,
    parameter_groups=PACT.parameter_groups,
    backward=_backward,
    select=select_body,
    begin_epoch=_begin_epoch,
    chosen=_chosen,
)
