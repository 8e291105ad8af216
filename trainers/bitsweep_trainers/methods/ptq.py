"""PTQ: a trained network with its weights and activations rounded to min-max or MSE grids."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from bitsweep.bits import Bits, tied
from bitsweep.trial import Trial
from bitsweep_trainers.allocated import given_allocation, replace_body
from bitsweep_trainers.layers import (
    END_BITS,
    Computing,
    Quantized,
    fold_batch_norms,
    quantized,
    replace_layers,
    select_body,
)
from bitsweep_trainers.methods.base import Method, ParameterGroup
from bitsweep_trainers.methods.fp32 import cross_entropy_backward
from bitsweep_trainers.quantizers.uniform import RangeRounder, WeightRounder

CALIBRATION_BATCH = 128


def _convert(network: nn.Module, trial: Trial, generator: torch.Generator) -> nn.Module:
    if trial.parameters["fold_batch_norm"]:
        fold_batch_norms(network)
    replace_body(network, trial, partial(_rounded, trial=trial))
    ends = partial(_rounded, bits=tied(END_BITS), trial=trial)
    for name in ("stem", "head"):
        replace_layers(network.get_submodule(name), ends)
    return network


def _rounded(layer: Computing, bits: Bits, *, trial: Trial) -> Quantized:
    return quantized(
        layer,
        weight_quantizer=WeightRounder(
            bits=bits.weight,
            is_symmetric=trial.parameters["scheme"] == "symmetric",
            is_per_channel=trial.parameters["granularity"] == "channel",
            by_error=trial.parameters["range"] == "mse",
        ),
        input_quantizer=RangeRounder(bits=bits.activation),
    )


def _calibrate(network: nn.Module, trial: Trial, images: Tensor) -> None:
    calibrate_ranges(network, images, by_error=trial.parameters["range"] == "mse")


@torch.no_grad()
def calibrate_ranges(network: nn.Module, images: Tensor, *, by_error: bool = False) -> None:
    """Set every `RangeRounder` from the images, with the statistics that evaluation will use.

    One pass finds the ranges; `by_error` a second one the share of each that errs least. The
    inputs seen are those of layers whose weights are rounded and whose inputs are not.
    """
    network.eval()
    rounders = [one for one in network.modules() if isinstance(one, RangeRounder)]
    for phase in ("is_observing", "is_weighing") if by_error else ("is_observing",):
        for one in rounders:
            setattr(one, phase, True)
        for batch in torch.split(images, CALIBRATION_BATCH):
            network(batch)
        for one in rounders:
            setattr(one, phase, False)
    if by_error:
        for one in rounders:
            one.shrink()


def _parameter_groups(network: nn.Module, trial: Trial) -> Sequence[ParameterGroup]:
    return ()


PTQ = Method(
    convert=_convert,
    calibrate=_calibrate,
    parameter_groups=_parameter_groups,
    backward=cross_entropy_backward,
    select=select_body,
    chosen=given_allocation,
)
