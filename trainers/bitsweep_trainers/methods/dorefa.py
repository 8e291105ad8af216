"""DoReFa (arXiv 1606.06160): tanh weights in [-1, 1], inputs clamped to [0, 1]; no learned range.

Gradients are not quantized.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from bitsweep.bits import Bits
from bitsweep.trial import Trial
from bitsweep_trainers.allocated import given_allocation, replace_body
from bitsweep_trainers.layers import (
    Computing,
    Quantized,
    calibrate_steps,
    float_groups,
    quantize_ends,
    quantized,
    select_body,
    step_group,
)
from bitsweep_trainers.methods.base import Method, ParameterGroup
from bitsweep_trainers.methods.fp32 import cross_entropy_backward
from bitsweep_trainers.quantizers.dorefa import DorefaWeights, UnitActivations


def _convert(network: nn.Module, trial: Trial, generator: torch.Generator) -> nn.Module:
    quantize_ends(network, backend=trial.backend)
    replace_body(network, trial, partial(_layer, trial=trial))
    return network


def _layer(source: Computing, bits: Bits, *, trial: Trial) -> Quantized:
    detach_max = bool(trial.parameters.get("detach_max", True))  # inert at 1 bit
    return quantized(
        source,
        weight_quantizer=DorefaWeights(bits=bits.weight, detach_max=detach_max),
        input_quantizer=UnitActivations(bits=bits.activation, backend=trial.backend),
    )


def _calibrate(network: nn.Module, trial: Trial, images: Tensor) -> None:
    calibrate_steps(network, images)


def _parameter_groups(network: nn.Module, trial: Trial) -> Sequence[ParameterGroup]:
    learning_rate = float(trial.parameters["learning_rate"])
    weight_decay = float(trial.parameters["weight_decay"])
    return (
        *float_groups(network, learning_rate=learning_rate, weight_decay=weight_decay),
        step_group(network, learning_rate=learning_rate),
    )


DOREFA = Method(
    convert=_convert,
    calibrate=_calibrate,
    parameter_groups=_parameter_groups,
    backward=cross_entropy_backward,
    select=select_body,
    chosen=given_allocation,
)
