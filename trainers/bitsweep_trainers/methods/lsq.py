"""LSQ (arXiv 1902.08153): learned steps around the weights and the input of every layer."""

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
    learned_step_layer,
    quantize_ends,
    select_body,
    step_group,
)
from bitsweep_trainers.methods.base import Method, ParameterGroup
from bitsweep_trainers.methods.fp32 import cross_entropy_backward


def _convert(network: nn.Module, trial: Trial, generator: torch.Generator) -> nn.Module:
    counts_batch = bool(trial.parameters["n_counts_batch"])
    quantize_ends(network, backend=trial.backend, n_counts_batch=counts_batch)
    replace_body(network, trial, partial(_layer, trial=trial))
    return network


def _layer(source: Computing, bits: Bits, *, trial: Trial) -> Quantized:
    return learned_step_layer(
        source,
        weight_bits=bits.weight,
        activation_bits=bits.activation,
        backend=trial.backend,
        n_counts_batch=bool(trial.parameters["n_counts_batch"]),
    )


def _calibrate(network: nn.Module, trial: Trial, images: Tensor) -> None:
    calibrate_steps(network, images)


def _parameter_groups(network: nn.Module, trial: Trial) -> Sequence[ParameterGroup]:
    learning_rate = float(trial.parameters["learning_rate"])
    step_rate = learning_rate * float(trial.parameters["step_learning_rate_ratio"])
    weight_decay = float(trial.parameters["weight_decay"])
    return (
        *float_groups(network, learning_rate=learning_rate, weight_decay=weight_decay),
        step_group(network, learning_rate=step_rate),
    )


LSQ = Method(
    convert=_convert,
    calibrate=_calibrate,
    parameter_groups=_parameter_groups,
    backward=cross_entropy_backward,
    select=select_body,
    chosen=given_allocation,
)
