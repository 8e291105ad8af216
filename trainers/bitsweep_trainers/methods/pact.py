"""PACT (arXiv 1805.06085): DoReFa's weights, inputs clipped at a learned level alpha per layer."""

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
from bitsweep_trainers.quantizers.clipping import ClippedActivations
from bitsweep_trainers.quantizers.dorefa import DorefaWeights


def _convert(network: nn.Module, trial: Trial, generator: torch.Generator) -> nn.Module:
    quantize_ends(network, backend=trial.backend)
    replace_body(network, trial, partial(_layer, trial=trial))
    return network


def _layer(source: Computing, bits: Bits, *, trial: Trial) -> Quantized:
    given = trial.parameters
    return quantized(
        source,
        weight_quantizer=DorefaWeights(
            bits=bits.weight, detach_max=bool(given.get("detach_max", True))
        ),
        input_quantizer=ClippedActivations(
            bits=bits.activation,
            alpha=float(given.get("alpha", 1.0)),
            is_calibrated=given.get("alpha_gradient") == "calibrated",
            backend=trial.backend,
        ),
    )


def _clipping(network: nn.Module) -> list[ClippedActivations]:
    return [one for one in network.modules() if isinstance(one, ClippedActivations)]


def _calibrate(network: nn.Module, trial: Trial, images: Tensor) -> None:
    """Ranges in one pass, each on inputs that are quantized before it."""
    handles = []
    if trial.parameters.get("alpha_init") == "mse":
        handles = [one.register_forward_pre_hook(_initialise) for one in _clipping(network)]
    calibrate_steps(network, images)
    for handle in handles:
        handle.remove()


def _initialise(quantizer: nn.Module, inputs: tuple[Tensor]) -> None:
    assert isinstance(quantizer, ClippedActivations)
    quantizer.initialise(inputs[0])


def _parameter_groups(network: nn.Module, trial: Trial) -> Sequence[ParameterGroup]:
    learning_rate = float(trial.parameters["learning_rate"])
    weight_decay = float(trial.parameters["weight_decay"])
    ratio = float(trial.parameters.get("alpha_learning_rate_ratio", 1.0))
    alphas = [one.alpha for one in _clipping(network) if one.alpha.requires_grad]
    return (
        *float_groups(network, learning_rate=learning_rate, weight_decay=weight_decay),
        step_group(network, learning_rate=learning_rate),
        ParameterGroup(
            name="alphas",
            parameters=alphas,
            learning_rate=learning_rate * ratio,
            weight_decay=float(trial.parameters.get("alpha_decay", 0.0)),
        ),
    )


PACT = Method(
    convert=_convert,
    calibrate=_calibrate,
    parameter_groups=_parameter_groups,
    backward=cross_entropy_backward,
    select=select_body,
    chosen=given_allocation,
)
