"""LSQ+ (arXiv 2004.09576): learned steps; the inputs of the body have a learned offset too."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from bitsweep.bits import FULL_PRECISION_BITS, Bits
from bitsweep.trial import Trial
from bitsweep_trainers.allocated import given_allocation, replace_body
from bitsweep_trainers.layers import (
    Computing,
    Quantized,
    calibrate_steps,
    float_groups,
    quantize_ends,
    quantized,
    quantized_layers,
    select_body,
    step_group,
)
from bitsweep_trainers.methods.base import Method, ParameterGroup
from bitsweep_trainers.methods.fp32 import cross_entropy_backward
from bitsweep_trainers.quantizers.learned_offset import OffsetActivations, weight_start
from bitsweep_trainers.quantizers.learned_step import LearnedStep


def _convert(network: nn.Module, trial: Trial, generator: torch.Generator) -> nn.Module:
    quantize_ends(network, backend=trial.backend)
    replace_body(network, trial, partial(_layer, trial=trial))
    return network


def _layer(source: Computing, bits: Bits, *, trial: Trial) -> Quantized:
    return quantized(
        source,
        weight_quantizer=LearnedStep(bits=bits.weight, role="weight", backend=trial.backend),
        input_quantizer=OffsetActivations(bits=bits.activation, backend=trial.backend),
    )


def _inputs(network: nn.Module) -> list[OffsetActivations]:
    return [one for one in network.modules() if isinstance(one, OffsetActivations)]


def _calibrate(network: nn.Module, trial: Trial, images: Tensor) -> None:
    """Ranges in one pass, each on inputs that are quantized before it."""
    by_error = trial.parameters.get("activation_init") == "mse"

    def start_inputs(quantizer: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(quantizer, OffsetActivations)
        quantizer.initialise(inputs[0], by_error=by_error)

    handles = [one.register_forward_pre_hook(start_inputs) for one in _inputs(network)]
    for _, layer in quantized_layers(network.get_submodule("body")):
        handles.append(layer.weight_quantizer.register_forward_pre_hook(_start_weights))
    calibrate_steps(network, images)
    for handle in handles:
        handle.remove()


@torch.no_grad()
def _start_weights(quantizer: nn.Module, inputs: tuple[Tensor]) -> None:
    """Replace the start that `calibrate_steps` gives, which is LSQ's."""
    assert isinstance(quantizer, LearnedStep)
    quantizer.step.copy_(weight_start(inputs[0], bits=quantizer.bits))


def _parameter_groups(network: nn.Module, trial: Trial) -> Sequence[ParameterGroup]:
    learning_rate = float(trial.parameters["learning_rate"])
    step_rate = learning_rate * float(trial.parameters["step_learning_rate_ratio"])
    weight_decay = float(trial.parameters["weight_decay"])
    learned = [one for one in _inputs(network) if one.bits < FULL_PRECISION_BITS]
    return (
        *float_groups(network, learning_rate=learning_rate, weight_decay=weight_decay),
        step_group(network, learning_rate=step_rate),
        ParameterGroup(
            name="inputs",
            parameters=[one for layer in learned for one in (layer.step, layer.offset)],
            learning_rate=step_rate,
        ),
    )


LSQ_PLUS = Method(
    convert=_convert,
    calibrate=_calibrate,
    parameter_groups=_parameter_groups,
    backward=cross_entropy_backward,
    select=select_body,
    chosen=given_allocation,
)
