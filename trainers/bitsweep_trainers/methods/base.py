"""What a quantization method is to the training loop: a few functions, no class to inherit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from bitsweep.bits import Allocation, Bits
from bitsweep.measurement import Allocator, Measurement
from bitsweep.trial import Trial
from bitsweep_trainers.data.load import Arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterGroup:
    """Parameters that learn alike. `learning_rate` is the peak; the loop's cosine scales it.

    clip_norm: gradient norm of the group is clipped to it before the step; None: not clipped.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    learning_rate: float
    weight_decay: float = 0.0
    optimizer: Literal["sgd", "adam"] = "sgd"
    clip_norm: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The allocation a network runs at where that is not one of the trial's bits, and whose it is.

    lambda_: the price of bits that it was learned at, if there is one.
    """

    allocation: Allocation
    allocator: Allocator = "fixed"
    lambda_: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A quantization method.

    convert(network, trial, generator) -> the network with quantized layers, its weights kept; what
    it draws comes from the generator. `network` has `stem`, `body` and `head`; the first layer
    lies in the stem, the last in the head, and both become 8-bit.
    calibrate(network, trial, images): initialise ranges and batch norms from normalised training
    images (N, C, H, W); called once, before the first step, with the network in training mode.
    parameter_groups(network, trial): what learns, and how.
    backward(network, trial, images, labels, generator) -> the loss (detached scalar), after adding
    the gradients of one batch for all widths of the trial. Labels are class indices (N,), or
    probabilities (N, classes) where the recipe smooths them. For each part of a batch that is
    computed in parts it is called once, each time with the generator where it was.
    select(network, bits): make the network run at these bits (evaluation).
    begin_epoch(network, trial, epoch): called before the first batch of each epoch, from 1; what
    it does depends on these alone, and doing it again changes nothing.
    chosen(network, trial): the allocation to measure where bits are a result or given per layer;
    None: the network is measured at each of the trial's bits.
    after(network, trial, data, save): what is learned on the trained network after the last epoch;
    it stays in the network's state, and save() keeps that, so that a killed trial goes on from
    there.
    finish(network, trial, data) -> measurements besides those at the widths, after the last epoch;
    the network stays as it is.

    One that declares `groups_seeds` has the `backward` of FP32 and holds nothing out, and its
    quantizers run under torch.vmap: seeds that train together share data and one forward pass.
    """

    convert: Callable[[nn.Module, Trial, torch.Generator], nn.Module]
    calibrate: Callable[[nn.Module, Trial, Tensor], None]
    parameter_groups: Callable[[nn.Module, Trial], Sequence[ParameterGroup]]
    backward: Callable[[nn.Module, Trial, Tensor, Tensor, torch.Generator], Tensor]
    select: Callable[[nn.Module, Bits], None]
    begin_epoch: Callable[[nn.Module, Trial, int], None] = lambda network, trial, epoch: None
    chosen: Callable[[nn.Module, Trial], Chosen | None] = lambda network, trial: None
    after: Callable[[nn.Module, Trial, Arrays, Callable[[], None]], None] = (
        lambda network, trial, data, save: None
    )
    finish: Callable[[nn.Module, Trial, Arrays], tuple[Measurement, ...]] = (
        lambda network, trial, data: ()
    )
