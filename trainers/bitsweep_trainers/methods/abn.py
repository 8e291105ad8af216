"""ABN (arXiv 2204.09992): a super-network of layer-wise bits, trained by sampled allocations."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from bitsweep.measurement import Measurement
from bitsweep.trial import Trial
from bitsweep_trainers.data.cache import data_of
from bitsweep_trainers.data.load import Arrays
from bitsweep_trainers.layers import float_groups, step_group
from bitsweep_trainers.methods.base import Method, ParameterGroup
from bitsweep_trainers.methods.bit_mixer import Progress, nested_steps, progress_of
from bitsweep_trainers.methods.declared.abn import held_share
from bitsweep_trainers.policy.kept import NAME, KeptPolicy
from bitsweep_trainers.policy.measured import (
    learn_policy,
    measure_allocation,
    policy_measurements,
)
from bitsweep_trainers.sampled import sampled_measurements
from bitsweep_trainers.supernet import (
    accumulate,
    allocate,
    decision_layers,
    draw_allocation,
    draw_uniform,
    initialise_weight_steps,
    layerwise_probability,
    super_network,
)
from bitsweep_trainers.switchable import calibrate_widths, select_switchable


def _convert(network: nn.Module, trial: Trial, generator: torch.Generator) -> nn.Module:
    parameters = trial.parameters
    super_network(
        network,
        [one.weight for one in trial.bits],
        weight_source="nested" if parameters.get("weight_source") == "nested" else "latent",
        start="three_sigma" if parameters.get("step_start") == "three_sigma" else "lsq",
        has_own_norms=parameters.get("norms") == "own",
        backend=trial.backend,
    )
    network.add_module("progress", progress_of(trial, num_steps_of(trial)))
    if held_share(trial.parameters):
        network.add_module(NAME, KeptPolicy())
    return network


def num_steps_of(trial: Trial) -> int:
    """Steps of a whole training: epochs times whole batches."""
    num_images = round((1 - held_share(trial.parameters)) * data_of(trial).sizes["train"])
    return max(1, trial.epochs * max(1, num_images // trial.batch_size))


def _after(network: nn.Module, trial: Trial, data: Arrays, save: Callable[[], None]) -> None:
    if held_share(trial.parameters):
        save()
        learn_policy(network, trial, data, save)


def _finish(network: nn.Module, trial: Trial, data: Arrays) -> tuple[Measurement, ...]:
    ruled = policy_measurements(network, trial, data) if held_share(trial.parameters) else ()
    listed = sampled_measurements(
        network,
        trial,
        data,
        num_decisions=len(decision_layers(network)),
        allocate=allocate,
        measure=partial(measure_allocation, network, trial, data, allocator="random"),
    )
    return (*ruled, *listed)


def _calibrate(network: nn.Module, trial: Trial, images: Tensor) -> None:
    initialise_weight_steps(network)
    calibrate_widths(network, images, trial.bits, select=select_switchable)


def _parameter_groups(network: nn.Module, trial: Trial) -> Sequence[ParameterGroup]:
    parameters = trial.parameters
    learning_rate = float(parameters["learning_rate"])
    step_rate = learning_rate * float(parameters["step_learning_rate_ratio"])
    return (
        *float_groups(
            network,
            learning_rate=learning_rate,
            weight_decay=float(parameters["weight_decay"]),
        ),
        step_group(network, learning_rate=step_rate),
        ParameterGroup(
            name="nested_steps",
            parameters=[one.step for one in nested_steps(network)],
            learning_rate=step_rate,
        ),
    )


def distilled_loss(
    logits: Tensor, soft_labels: Tensor, labels: Tensor, *, weight: float
) -> Tensor:
    """(1 - w) CE(z, y) + w KL(p || softmax z), meaned over the batch (section 2.6).

    Logits (N, classes); p (N, classes) are probabilities, which get no gradient.
    """
    hard = functional.cross_entropy(logits, labels)
    soft = functional.kl_div(
        functional.log_softmax(logits, 1), soft_labels.detach(), reduction="batchmean"
    )
    return (1 - weight) * hard + weight * soft


def network_loss(
    logits: Tensor, seen: Sequence[Tensor], *, labels: Tensor, teacher: str, weight: float
) -> Tensor:
    """The loss of one allocation, `seen` being the logits of those before it; the first is max."""
    if not seen or teacher == "none":
        return functional.cross_entropy(logits, labels)
    teachers = seen if teacher == "ensemble" else seen[:1]
    soft_labels = torch.stack([functional.softmax(one, 1) for one in teachers]).mean(0)
    return distilled_loss(logits, soft_labels, labels, weight=weight)


def drawn_allocations(
    trial: Trial, num_decisions: int, *, progress: float, generator: torch.Generator
) -> list[tuple[int, ...]]:
    """The allocations of one step: the largest width, random ones, the smallest width."""
    widths = [one.weight for one in trial.bits]
    largest = (widths[-1],) * num_decisions
    if len(widths) == 1:
        return [largest]
    parameters = trial.parameters
    drawn = [largest]
    num_random = int(parameters["random_networks"])
    if num_random:
        probability = layerwise_probability(
            progress,
            uniform_share=float(parameters["uniform_share"]),
            rising_share=float(parameters["rising_share"]),
        )
        tilt = float(parameters["tilt"])
    for _ in range(num_random):
        is_layerwise = torch.rand((), generator=generator).item() < probability
        drawn.append(
            draw_allocation(widths, num_decisions, tilt=tilt, generator=generator)
            if is_layerwise
            else draw_uniform(widths, num_decisions, generator=generator)
        )
    if parameters["minimum_network"]:
        drawn.append((widths[0],) * num_decisions)
    return drawn


def _backward(
    network: nn.Module, trial: Trial, images: Tensor, labels: Tensor, generator: torch.Generator
) -> Tensor:
    """The sum of the losses of the step's allocations, its gradients clipped by element."""
    parameters = trial.parameters
    progress = network.get_submodule("progress")
    assert isinstance(progress, Progress)
    allocations = drawn_allocations(
        trial, len(decision_layers(network)), progress=progress.share, generator=generator
    )
    progress.advance()
    loss = partial(
        network_loss,
        labels=labels,
        teacher=str(parameters.get("teacher", "none")),
        weight=float(parameters.get("distillation_weight", 0.0)),
    )
    total = accumulate(network, images, allocations, loss=loss)
    clip = float(parameters["gradient_clip"])
    if clip > 0 and progress.is_between_steps:
        # The loop takes the mean over the parts of a batch; what is clipped here is their sum.
        nn.utils.clip_grad_value_(network.parameters(), clip * progress.parts)
    return total


ABN = Method(
    convert=_convert,
    calibrate=_calibrate,
    parameter_groups=_parameter_groups,
    backward=_backward,
    select=select_switchable,
    after=_after,
    finish=_finish,
)
