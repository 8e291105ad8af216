"""ALQ (arXiv 1912.08883) in this package's loop: each channel of weights has bits of its own.

Bases that the loss needs least are removed before training, in rounds; then every step moves the
weights, takes the nearest bases, fits the coordinates and forgets the rest: there is no weight in
floating point from one step to the next.
"""

from collections.abc import Sequence
from functools import partial
from math import sqrt
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bitsweep.bits import Bits
from bitsweep.trial import Trial
from bitsweep_trainers.batches import cut
from bitsweep_trainers.layers import (
    Computing,
    Quantized,
    calibrate_steps,
    float_groups,
    quantize_ends,
    quantized,
    quantized_layers,
    replace_layers,
    step_group,
)
from bitsweep_trainers.methods.base import Method, ParameterGroup
from bitsweep_trainers.methods.declared.alq import num_kept
from bitsweep_trainers.methods.fp32 import cross_entropy_backward
from bitsweep_trainers.quantizers.learned_step import LearnedStep
from bitsweep_trainers.quantizers.multi_bit import MultiBitWeights, removal_costs

CALIBRATION_BATCH = 128
FIRST_BETA, SECOND_BETA = 0.9, 0.999
Body = tuple[Tensor, MultiBitWeights]


def _convert(network: nn.Module, trial: Trial, generator: torch.Generator) -> nn.Module:
    quantize_ends(network, backend=trial.backend)
    replace_layers(network.get_submodule("body"), partial(_layer, trial=trial))
    return network


def _layer(source: Computing, *, trial: Trial) -> Quantized:
    (bits,) = trial.bits
    return quantized(
        source,
        weight_quantizer=MultiBitWeights(bits=bits.weight, num_groups=len(source.weight)),
        input_quantizer=LearnedStep(
            bits=bits.activation, role="activation", backend=trial.backend
        ),
    )


def _body(network: nn.Module) -> list[Body]:
    """The weights of the body with their quantizers."""
    layers = quantized_layers(network.get_submodule("body"))
    found = [(layer.weight, layer.weight_quantizer) for _, layer in layers]
    return [(weight, one) for weight, one in found if isinstance(one, MultiBitWeights)]


def _calibrate(network: nn.Module, trial: Trial, images: Tensor) -> None:
    """Set steps, start all bases, then remove those that matter least, a part in each round.

    The loss is taken at what the network says before its weights are cut into bases.
    """
    calibrate_steps(network, images)
    with torch.no_grad():
        labels = network(images).argmax(1)
    body = _body(network)
    targets = [weight.detach().clone() for weight, _ in body]
    for (_, quantizer), target in zip(body, targets, strict=True):
        quantizer.start(target)
    rounds = int(trial.parameters["rounds"])
    for index in range(1, rounds + 1):
        costs = _costs(network, trial, images, labels)
        for (_, quantizer), cost, target in zip(body, costs, targets, strict=True):
            quantizer.remove(cost, _num_removed(quantizer, trial, index / rounds))
            quantizer.refit(target)
    if not trial.parameters["keeps_master"]:
        _forget(network)


def _num_removed(quantizer: MultiBitWeights, trial: Trial, progress: float) -> int:
    """How many bases go, so that a part `progress` of all that will go is gone."""
    total, present = quantizer.kept.numel(), int(quantizer.kept.sum())
    share = float(trial.parameters["kept_share"])
    left = total - round(progress * (total - num_kept(total, share)))
    return present - left


def _costs(network: nn.Module, trial: Trial, images: Tensor, labels: Tensor) -> list[Tensor]:
    """What removing each coordinate costs, by layer; m and h from AMSGrad over the images."""
    rate = float(trial.parameters["basis_learning_rate"])
    quantizers = [one for _, one in _body(network)]
    moments = [torch.zeros(3, *one.kept.shape, device=one.kept.device) for one in quantizers]
    batches = list(
        zip(
            cut(images, CALIBRATION_BATCH, trial=trial),
            cut(labels, CALIBRATION_BATCH, trial=trial),
            strict=True,
        )
    )
    for batch, wanted in batches:
        for kept, gradient in zip(moments, _gradients(network, batch, wanted), strict=True):
            _update(kept, gradient)
    first = rate / (1 - FIRST_BETA ** len(batches))
    second = 1 / sqrt(1 - SECOND_BETA ** len(batches))
    return [
        removal_costs(one.coordinates, first * kept[0], second * kept[2].sqrt())
        for one, kept in zip(quantizers, moments, strict=True)
    ]


def _update(moments: Tensor, gradient: Tensor) -> None:
    """AMSGrad's running mean, running square and greatest square so far, in place."""
    moments[0].lerp_(gradient, 1 - FIRST_BETA)
    moments[1].lerp_(gradient.square(), 1 - SECOND_BETA)
    torch.maximum(moments[2], moments[1], out=moments[2])


def _gradients(network: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    """dL/dalpha = beta^T dL/dw of each layer's coordinates (G, K)."""
    body = _body(network)
    loss = cross_entropy(network(images), labels)
    found = torch.autograd.grad(loss, [weight for weight, _ in body])
    return [
        (one.bases(weight.detach()).mT @ gradient.flatten(1).unsqueeze(2)).squeeze(2)
        for (weight, one), gradient in zip(body, found, strict=True)
    ]


@torch.no_grad()
def _forget(network: nn.Module) -> None:
    """Fit bases and coordinates to the weights, then put their sums in the weights' place."""
    for weight, quantizer in _body(network):
        quantizer.refit(weight)
        weight.copy_(quantizer.values(weight))


def _parameter_groups(network: nn.Module, trial: Trial) -> Sequence[ParameterGroup]:
    """Weights of the body by Adam, a step of it in each; ends and norms by SGD."""
    learning_rate = float(trial.parameters["learning_rate"])
    weight_decay = float(trial.parameters["weight_decay"])
    in_body = {id(weight) for weight, _ in _body(network)}
    kernels, norms = float_groups(network, learning_rate=learning_rate, weight_decay=weight_decay)
    return (
        ParameterGroup(
            name="ends",
            parameters=[one for one in kernels.parameters if id(one) not in in_body],
            learning_rate=learning_rate,
            weight_decay=weight_decay,
        ),
        norms,
        step_group(network, learning_rate=learning_rate),
        ParameterGroup(
            name="bases",
            parameters=[one for one in kernels.parameters if id(one) in in_body],
            learning_rate=float(trial.parameters["basis_learning_rate"]),
            optimizer="adam",
        ),
    )


def _take_in(network: nn.Module, *, keeps_master: bool) -> None:
    if not keeps_master:
        _forget(network)
        return
    for weight, quantizer in _body(network):
        quantizer.refit(weight)


def _backward(
    network: nn.Module, trial: Trial, images: Tensor, labels: Tensor, generator: torch.Generator
) -> Tensor:
    """Bring the weights, which the optimizer has moved, back to sums; then the batch's gradients.

    With a master the weights stay as they moved, and only the coordinates are fitted to them.
    Of a batch that comes in parts only the first, when no gradient is there yet, finds moved
    weights.
    """
    is_moved = all(weight.grad is None for weight, _ in _body(network))
    if is_moved:
        _take_in(network, keeps_master=bool(trial.parameters["keeps_master"]))
    return cross_entropy_backward(network, trial, images, labels, generator)


def _select(network: nn.Module, bits: Bits) -> None:
    """Nothing to set: bases were removed for one width; ValueError for another one."""
    for path, layer in quantized_layers(network.get_submodule("body")):
        made_for = Bits(
            weight=cast(int, layer.weight_quantizer.bits),  # MultiBitWeights: see `_layer`
            activation=cast(int, layer.input_quantizer.bits),
        )
        if made_for != bits:
            raise ValueError(f"{path} was made for {made_for.label}, not for {bits.label}")


ALQ = Method(
    convert=_convert,
    calibrate=_calibrate,
    parameter_groups=_parameter_groups,
    backward=_backward,
    select=_select,
)
