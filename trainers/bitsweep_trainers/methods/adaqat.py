"""AdaQAT: PACT's network at bits that are learned beside it, by finite differences of the loss.

N_w and N_a are real numbers of the whole body, or of each layer; it runs at their ceilings.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, isfinite

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bitsweep.bits import Allocation, Bits
from bitsweep.trial import Trial
from bitsweep_trainers.layers import Quantized, quantized_layers, select_body
from bitsweep_trainers.lengths import body_layers, layer_shares
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
    """N_w and N_a of some layers; part of the network, so that a checkpoint keeps them."""

    def __init__(self, bits: Bits) -> None:
        super().__init__()
        self.weight = LearnedWidth(bits.weight)
        self.activation = LearnedWidth(bits.activation)

    @property
    def bits(self) -> Bits:
        """What the layers run at."""
        return Bits(weight=self.weight.bits, activation=self.activation.bits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Layers that share their widths, and their share of the body's MACs: that of the price."""

    widths: LearnedWidths
    layers: Sequence[Quantized]
    share: float


def parts_of(network: nn.Module, trial: Trial) -> tuple[Part, ...]:
    """The whole body of a converted network, or each layer of it, in `modules()` order."""
    layers = [layer for _, layer in quantized_layers(network.get_submodule("body"))]
    found = network.get_submodule("widths")
    if isinstance(found, LearnedWidths):
        return (Part(widths=found, layers=layers, share=1.0),)
    assert isinstance(found, nn.ModuleList)
    shares = layer_shares(body_layers(trial), "bitops")
    widths = [one for one in found if isinstance(one, LearnedWidths)]
    return tuple(
        Part(widths=own, layers=(layer,), share=share)
        for own, layer, share in zip(widths, layers, shares, strict=True)
    )


def _select(layers: Sequence[Quantized], bits: Bits) -> None:
    for layer in layers:
        layer.weight_quantizer.bits = bits.weight  # type: ignore[assignment]  # a plain int
        layer.input_quantizer.bits = bits.activation  # type: ignore[assignment]


def _convert(network: nn.Module, trial: Trial, generator: torch.Generator) -> nn.Module:
    network = PACT.convert(network, trial, generator)
    (bits,) = trial.bits
    count = len(quantized_layers(network.get_submodule("body")))
    is_per_layer = trial.parameters.get("widths") == "layer"
    widths = nn.ModuleList(LearnedWidths(bits) for _ in range(count if is_per_layer else 1))
    network.add_module("widths", widths if is_per_layer else widths[0])
    return network


def _begin_epoch(network: nn.Module, trial: Trial, epoch: int) -> None:
    """Run at the bits of the widths, also where these were read from a state."""
    for part in parts_of(network, trial):
        _select(part.layers, part.widths.bits)


def _backward(
    network: nn.Module, trial: Trial, images: Tensor, labels: Tensor, generator: torch.Generator
) -> Tensor:
    """Cross-entropy of one batch at the bits as they stand; then a step of widths.

    The bits are constants for the other parameters, whose gradients are those of PACT.
    """
    loss = cross_entropy_backward(network, trial, images, labels, generator)
    parts = parts_of(network, trial)
    if not isfinite(loss.item()):
        return loss  # the loop ends the trial; widths that followed such a loss would be none
    if (part := next_part(parts)) is not None:
        _step(network, trial, part, images, labels, loss.item(), pace=len(parts))
    return loss


def next_part(parts: Sequence[Part]) -> Part | None:
    """The part that was asked least often, the first among equals; None where all is fixed."""
    learning = [
        one
        for one in parts
        if not (bool(one.widths.weight.is_fixed) and bool(one.widths.activation.is_fixed))
    ]
    return min(learning, key=_num_asked) if learning else None


def _num_asked(part: Part) -> int:
    return max(int(part.widths.weight.num_steps), int(part.widths.activation.num_steps))


def _step(
    network: nn.Module,
    trial: Trial,
    part: Part,
    images: Tensor,
    labels: Tensor,
    loss: float,
    *,
    pace: int,
) -> None:
    """Ask for the loss at one bit less, of weights and of activations, and move both widths.

    A part of several is asked once in `pace` steps, and moves by that many rates.
    """
    widths, bits = part.widths, part.widths.bits
    price = float(trial.parameters["lambda"]) * part.share
    asked = (
        (widths.weight, Bits(weight=bits.weight - 1, activation=bits.activation), "weight"),
        (
            widths.activation,
            Bits(weight=bits.weight, activation=bits.activation - 1),
            "activation",
        ),
    )
    others = {"weight": bits.activation, "activation": bits.weight}
    for width, at, name in asked:
        if bool(width.is_fixed):
            continue
        difference = loss - loss_at(network, part.layers, at, images, labels)
        if not isfinite(difference):
            continue
        width.step(
            difference,
            price * others[name],
            rate=pace * float(trial.parameters[f"{name}_bits_learning_rate"]),
            smoothing=float(trial.parameters["smoothing"]),
            max_turns=int(trial.parameters["max_turns"]),
        )
    _select(part.layers, widths.bits)


@torch.no_grad()
def loss_at(
    network: nn.Module, layers: Sequence[Quantized], bits: Bits, images: Tensor, labels: Tensor
) -> float:
    """The mean cross-entropy of a batch with layers at other bits, by its own statistics."""
    _select(layers, bits)
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
    """The bits that the widths stand at: the same in every layer of the body, or per layer."""
    parts = parts_of(network, trial)
    for part in parts:
        _select(part.layers, part.widths.bits)
    return Chosen(
        allocation=Allocation.of([part.widths.bits for part in parts]),
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
