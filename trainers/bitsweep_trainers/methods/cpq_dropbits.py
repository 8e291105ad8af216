"""CPQ with DropBits (arXiv 2109.02100): initialisation and training step, bits given or learned.

The quantizer lives in `quantizers.cluster_promoting`, the learning of bit-lengths in `lengths`.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from bitsweep.bits import FULL_PRECISION_BITS, Bits
from bitsweep.measurement import Measurement
from bitsweep.trial import Trial
from bitsweep_trainers.allocated import given_allocation, replace_body
from bitsweep_trainers.data.load import Arrays
from bitsweep_trainers.grid_use import log_grid_use
from bitsweep_trainers.layers import (
    Computing,
    Quantized,
    calibrate_steps,
    float_groups,
    quantize_ends,
    quantized,
    quantized_layers,
    step_group,
)
from bitsweep_trainers.lengths import (
    freeze_lengths,
    learned_allocation,
    length_penalty,
)
from bitsweep_trainers.methods.base import Chosen, Method, ParameterGroup
from bitsweep_trainers.methods.fp32 import cross_entropy_backward
from bitsweep_trainers.quantizers.categorical import Ste
from bitsweep_trainers.quantizers.cluster_promoting import (
    AlphaInit,
    ClusterPromoting,
    draw_masks,
    masks_of,
    noise_of,
    quantizers,
)
from bitsweep_trainers.quantizers.grid import GridKind


def convert(network: nn.Module, trial: Trial, generator: torch.Generator) -> nn.Module:
    """Body layers get CPQ quantizers (weights with DropBits), the ends become 8-bit LSQ layers."""
    parameters = trial.parameters
    noise = noise_of(parameters)
    # The choices below are checked when a trial's parameters are resolved.
    weight_kind = cast(GridKind, parameters["grid"])
    weight_ste = cast(Ste, parameters["ste"])
    input_ste = cast(Ste, parameters.get("ste_act", "plain"))

    def make(layer: Computing, bits: Bits) -> Quantized:
        weights = ClusterPromoting(
            bits=bits.weight,
            kind=weight_kind,
            ste=weight_ste,
            noise=noise,
            masks=masks_of(parameters, "weight"),
            backend=trial.backend,
        )
        inputs = ClusterPromoting(
            bits=bits.activation,
            kind="unsigned",
            ste=input_ste,
            noise=noise,
            masks=masks_of(parameters, "activation"),
            backend=trial.backend,
        )
        return quantized(layer, weight_quantizer=weights, input_quantizer=inputs)

    quantize_ends(network, backend=trial.backend)
    replace_body(network, trial, make)
    return network


@torch.no_grad()
def calibrate(network: nn.Module, trial: Trial, images: Tensor) -> None:
    """Step sizes: weights from the weights, inputs in one pass as the earlier layers quantize."""
    how = cast(AlphaInit, trial.parameters["alpha_init"])  # checked when resolved

    def initialise_input(quantizer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(quantizer, ClusterPromoting)
        quantizer.initialise(inputs[0], how)

    handles = []
    for _, layer in quantized_layers(network):
        if isinstance(layer.weight_quantizer, ClusterPromoting):
            layer.weight_quantizer.initialise(layer.weight, how)
        if isinstance(layer.input_quantizer, ClusterPromoting):
            handles.append(layer.input_quantizer.register_forward_pre_hook(initialise_input))
    calibrate_steps(network, images)
    for handle in handles:
        handle.remove()


def parameter_groups(network: nn.Module, trial: Trial) -> Sequence[ParameterGroup]:
    """Weights and norms by SGD; scales by Adam, so that their rate does not depend on N; Pi apart.

    Groups without a parameter are left out.
    """
    rate = float(trial.parameters["learning_rate"])
    decay = float(trial.parameters["weight_decay"])
    found = [one for one in quantizers(network) if one.bits < FULL_PRECISION_BITS]
    scales = [parameter for one in found for parameter in (one.raw_alpha, one.raw_sigma)]
    logits = [one.keep_logits for one in found if one.keep_logits is not None]
    groups = (
        *float_groups(network, learning_rate=rate, weight_decay=decay),
        step_group(network, learning_rate=rate),
        ParameterGroup(
            name="scales",
            parameters=[one for one in scales if one.requires_grad],
            learning_rate=rate * float(trial.parameters["quantizer_learning_rate_ratio"]),
            optimizer="adam",
        ),
        ParameterGroup(
            name="keep_logits",
            parameters=[one for one in logits if one.requires_grad],
            learning_rate=float(trial.parameters.get("keep_learning_rate", 0.0)),
            optimizer="adam",
            clip_norm=1.0,
        ),
    )
    return tuple(group for group in groups if group.parameters)


def backward(
    network: nn.Module, trial: Trial, images: Tensor, labels: Tensor, generator: torch.Generator
) -> Tensor:
    """Cross-entropy of one batch under one draw of the masks, and the price of learned lengths."""
    draw_masks(network, generator)
    loss = cross_entropy_backward(network, trial, images, labels, generator)
    for one in quantizers(network):
        one.drawn = None
    if (price := length_penalty(network, trial)) is not None:
        price.backward()  # type: ignore[no-untyped-call]
        loss = loss + price.detach()
    return loss


def begin_epoch(network: nn.Module, trial: Trial, epoch: int) -> None:
    """Tell how grids are used, and read the lengths out for good when the fine-tuning begins."""
    if epoch > 1:
        log_grid_use(network, trial, epoch=epoch - 1)
    if epoch > last_learning_epoch(trial):
        freeze_lengths(network, trial)


def finish(network: nn.Module, trial: Trial, data: Arrays) -> tuple[Measurement, ...]:
    """Tell how grids are used in the end; nothing more is measured."""
    log_grid_use(network, trial, epoch=trial.epochs)
    return ()


def last_learning_epoch(trial: Trial) -> int:
    """The epoch after which lengths are frozen; the last one where no share of them tunes.

    At least one epoch learns, and with a share above 0 at least one of several tunes.
    """
    tuned = float(trial.parameters.get("finetune_fraction", 0.0))
    if not tuned:
        return trial.epochs
    return max(1, min(round((1.0 - tuned) * trial.epochs), trial.epochs - 1))


def chosen(network: nn.Module, trial: Trial) -> Chosen | None:
    """The allocation as it stands, where a trial learns lengths or was given an allocation."""
    if trial.parameters.get("task") != "hetero":
        return given_allocation(network, trial)
    return Chosen(
        allocation=learned_allocation(network),
        allocator="learned",
        lambda_=float(trial.parameters["lambda"]),
    )


def select(network: nn.Module, bits: Bits) -> None:
    """Nothing to set: a network has one width; ValueError for another one."""
    for path, layer in quantized_layers(network.get_submodule("body")):
        made_for = Bits(
            weight=cast(int, layer.weight_quantizer.bits),  # ClusterPromoting: see `convert`
            activation=cast(int, layer.input_quantizer.bits),
        )
        if made_for != bits:
            raise ValueError(f"{path} was made for {made_for.label}, not for {bits.label}")


CPQ_DROPBITS = Method(
    convert=convert,
    calibrate=calibrate,
    parameter_groups=parameter_groups,
    backward=backward,
    select=select,
    begin_epoch=begin_epoch,
    finish=finish,
    chosen=chosen,
)
