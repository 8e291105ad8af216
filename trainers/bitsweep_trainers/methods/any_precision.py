"""Any-Precision DNN (arXiv 1911.07346): widths from the largest down, each teaching the next."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from bitsweep.trial import Trial
from bitsweep_trainers.layers import (
    Computing,
    Quantized,
    float_groups,
    quantize_ends,
    quantized,
    replace_layers,
    step_group,
)
from bitsweep_trainers.methods.base import Method, ParameterGroup
from bitsweep_trainers.quantizers.any_precision import ScaledWeights
from bitsweep_trainers.quantizers.dorefa import UnitActivations
from bitsweep_trainers.switchable import (
    calibrate_widths,
    joint_backward,
    select_switchable,
    switch_norms,
)


def _body_layer(source: Computing, *, bits: int, detach_max: bool, backend: str) -> Quantized:
    return quantized(
        source,
        weight_quantizer=ScaledWeights(bits=bits, detach_max=detach_max),
        input_quantizer=UnitActivations(bits=bits, backend=backend),
    )


def _convert(network: nn.Module, trial: Trial, generator: torch.Generator) -> nn.Module:
    quantize_ends(network, backend=trial.backend)
    body = network.get_submodule("body")
    make = partial(
        _body_layer,
        backend=trial.backend,
        bits=trial.bits[-1].weight,
        detach_max=bool(trial.parameters["detach_max"]),
    )
    replace_layers(body, make)
    switch_norms(body, [one.weight for one in trial.bits])
    return network


def _calibrate(network: nn.Module, trial: Trial, images: Tensor) -> None:
    calibrate_widths(network, images, trial.bits, select=select_switchable)


def _parameter_groups(network: nn.Module, trial: Trial) -> Sequence[ParameterGroup]:
    parameters = trial.parameters
    learning_rate = float(parameters["learning_rate"])
    return (
        *float_groups(
            network,
            learning_rate=learning_rate,
            weight_decay=float(parameters["weight_decay"]),
        ),
        step_group(
            network, learning_rate=learning_rate * float(parameters["step_learning_rate_ratio"])
        ),
    )


def distilled_loss(
    logits: Tensor, larger: Sequence[Tensor], labels: Tensor, *, distillation: str
) -> Tensor:
    """The loss of one width; `larger`: logits of the larger widths, the largest first, detached.

    Cross-entropy with the labels for the largest width and under "hard"; else with the softmax of
    the next larger width ("recursive") or of the largest one ("soft"). Logits (N, classes).
    """
    if not larger or distillation == "hard":
        return functional.cross_entropy(logits, labels)
    teacher = larger[-1] if distillation == "recursive" else larger[0]
    return functional.cross_entropy(logits, functional.softmax(teacher, 1))


def _backward(
    network: nn.Module, trial: Trial, images: Tensor, labels: Tensor, generator: torch.Generator
) -> Tensor:
    """The sum of all widths' losses; a single width declares no distillation."""
    distillation = str(trial.parameters.get("distillation", "hard"))

    def loss(logits: Tensor, larger: Sequence[Tensor]) -> Tensor:
        return distilled_loss(logits, larger, labels, distillation=distillation)

    return joint_backward(network, images, trial.bits[::-1], loss=loss)


ANY_PRECISION = Method(
    convert=_convert,
    calibrate=_calibrate,
    parameter_groups=_parameter_groups,
    backward=_backward,
    select=select_switchable,
)
