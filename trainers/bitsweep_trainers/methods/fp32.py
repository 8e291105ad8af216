"""FP32: the plain network; every function is the least it can be."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bitsweep.bits import FULL_PRECISION, Bits
from bitsweep.trial import Trial
from bitsweep_trainers.layers import float_groups
from bitsweep_trainers.losses import training_loss
from bitsweep_trainers.methods.base import Method, ParameterGroup


def _convert(network: nn.Module, trial: Trial, generator: torch.Generator) -> nn.Module:
    return network


def _calibrate(network: nn.Module, trial: Trial, images: Tensor) -> None:
    """Nothing has a range to set."""


def _parameter_groups(network: nn.Module, trial: Trial) -> Sequence[ParameterGroup]:
    return float_groups(
        network,
        learning_rate=float(trial.parameters["learning_rate"]),
        weight_decay=float(trial.parameters["weight_decay"]),
    )


def cross_entropy_backward(
    network: nn.Module, trial: Trial, images: Tensor, labels: Tensor, generator: torch.Generator
) -> Tensor:
    """Add the gradients of the batch's mean loss (cross-entropy with classes), and return it."""
    loss = training_loss(network(images), labels, trial.recipe)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return loss.detach()


def _select(network: nn.Module, bits: Bits) -> None:
    if bits != FULL_PRECISION:
        raise ValueError(f"a network in floating point runs at w32a32, not at {bits.label}")


FP32 = Method(
    convert=_convert,
    calibrate=_calibrate,
    parameter_groups=_parameter_groups,
    backward=cross_entropy_backward,
    select=_select,
)
