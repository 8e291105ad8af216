"""AdaBits (arXiv 1912.09666): all widths of one weight tensor, trained together on each batch."""

from collections.abc import Sequence
from functools import partial
from typing import get_args

import torch
from torch import Tensor, nn

from bitsweep.trial import Trial
from bitsweep_trainers.layers import (
    END_BITS,
    Computing,
    Quantized,
    float_groups,
    quantize_ends,
    quantized,
    replace_layers,
    step_group,
)
from bitsweep_trainers.losses import training_loss
from bitsweep_trainers.methods.base import Method, ParameterGroup
from bitsweep_trainers.quantizers.learned_step import LearnedStep
from bitsweep_trainers.quantizers.nested import Grid, NestedWeights, RescaledWeights
from bitsweep_trainers.switchable import (
    SwitchableClip,
    calibrate_widths,
    joint_backward,
    select_switchable,
    switch_norms,
)


def grid_of(trial: Trial) -> Grid:
    """The weight grid a trial asks for."""
    return next(one for one in get_args(Grid) if one == trial.parameters["grid"])


def _body_layer(source: Computing, *, trial: Trial) -> Quantized:
    parameters, widths = trial.parameters, [one.weight for one in trial.bits]
    return quantized(
        source,
        weight_quantizer=NestedWeights(
            bits=widths[-1], grid=grid_of(trial), detach_max=bool(parameters["detach_max"])
        ),
        input_quantizer=SwitchableClip(
            widths,
            is_shared=parameters.get("clipping") == "shared",
            backend=trial.backend,
        ),
    )


def _rescaled_layer(source: Computing, *, trial: Trial) -> Quantized:
    return quantized(
        source,
        weight_quantizer=RescaledWeights(
            bits=END_BITS, grid=grid_of(trial), detach_max=bool(trial.parameters["detach_max"])
        ),
        input_quantizer=LearnedStep(bits=END_BITS, role="activation", backend=trial.backend),
    )


def _convert(network: nn.Module, trial: Trial, generator: torch.Generator) -> nn.Module:
    if trial.parameters["last_layer"] == "rescaled":
        replace_layers(network.get_submodule("head"), partial(_rescaled_layer, trial=trial))
    quantize_ends(network, backend=trial.backend)
    body = network.get_submodule("body")
    replace_layers(body, partial(_body_layer, trial=trial))
    switch_norms(body, [one.weight for one in trial.bits])
    return network


def _calibrate(network: nn.Module, trial: Trial, images: Tensor) -> None:
    calibrate_widths(network, images, trial.bits, select=select_switchable)


def _parameter_groups(network: nn.Module, trial: Trial) -> Sequence[ParameterGroup]:
    parameters = trial.parameters
    learning_rate = float(parameters["learning_rate"])
    clips = [one for one in network.modules() if isinstance(one, SwitchableClip)]
    return (
        *float_groups(
            network,
            learning_rate=learning_rate,
            weight_decay=float(parameters["weight_decay"]),
        ),
        ParameterGroup(
            name="clips",
            parameters=[alpha for clip in clips for alpha in clip.parameters()],
            learning_rate=learning_rate * float(parameters["clip_learning_rate_ratio"]),
            weight_decay=float(parameters["clip_decay"]),
        ),
        step_group(
            network, learning_rate=learning_rate * float(parameters["step_learning_rate_ratio"])
        ),
    )


def _backward(
    network: nn.Module, trial: Trial, images: Tensor, labels: Tensor, generator: torch.Generator
) -> Tensor:
    """The sum over widths of the cross-entropy with the labels."""

    def loss(logits: Tensor, seen: Sequence[Tensor]) -> Tensor:
        return training_loss(logits, labels, trial.recipe)

    return joint_backward(network, images, trial.bits, loss=loss)


ADABITS = Method(
    convert=_convert,
    calibrate=_calibrate,
    parameter_groups=_parameter_groups,
    backward=_backward,
    select=select_switchable,
)
