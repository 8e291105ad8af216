"""The training loop of every method, in the open: batch, gradients, step, evaluation.

What differs between methods stands in their `backward` and `parameter_groups`; nothing here asks
which method it trains.
"""

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from math import cos, isfinite, pi
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Adam, Optimizer

from bitsweep.errors import Diverged
from bitsweep.measurement import Evaluation, Measurement
from bitsweep.trainer import Workspace
from bitsweep.trial import Trial, trial_document
from bitsweep_trainers.averaging import Average
from bitsweep_trainers.checkpoint import fitting, read_checkpoint
from bitsweep_trainers.clock import Clock
from bitsweep_trainers.data.augment import Augmentation, augment, normalise
from bitsweep_trainers.data.cache import data_of
from bitsweep_trainers.data.load import Arrays
from bitsweep_trainers.divergence import first_not_finite
from bitsweep_trainers.evaluate import measure_all
from bitsweep_trainers.methods.base import Method, ParameterGroup
from bitsweep_trainers.parallel import SOLO, Group
from bitsweep_trainers.precision import train_in_bf16
from bitsweep_trainers.random_streams import stream as stream

MOMENTUM = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """All that a run of the loop changes or reads; the network and the data on one device.

    `order` draws batches and augmentation, `noise` what the method draws in its `backward`: the
    data come in an order that depends on the seed alone. `average`: what is measured in place of
    the weights, if the recipe asks for it.
    """

    trial: Trial
    method: Method
    network: nn.Module
    data: Arrays
    augmentation: Augmentation
    groups: Sequence[ParameterGroup]
    optimizers: tuple[Optimizer, ...]
    order: torch.Generator
    noise: torch.Generator
    average: Average | None = None
    group: Group = SOLO

    @property
    def images_per_step(self) -> int:
        """The trial's batch, or all training images where there are fewer."""
        return min(self.trial.batch_size, len(self.data.train_labels))

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the training images; the incomplete last one is left out."""
        return len(self.data.train_labels) // self.images_per_step


def prepare(
    network: nn.Module,
    method: Method,
    *,
    trial: Trial,
    data: Arrays,
    augmentation: Augmentation,
    group: Group = SOLO,
) -> Training:
    """The training of a converted and calibrated network, before its first step."""
    groups = method.parameter_groups(network, trial)
    if trial.precision == "bf16":
        train_in_bf16(network)
    decay = trial.recipe.ema_decay
    return Training(
        trial=trial,
        method=method,
        network=network,
        data=data,
        augmentation=augmentation,
        groups=groups,
        optimizers=optimizers_of(groups),
        order=stream(trial.seed, "order"),
        noise=stream(trial.seed, "method"),
        average=None if decay is None else Average(network, decay),
        group=group,
    )


def run(training: Training, workspace: Workspace) -> Generator[Evaluation, None, None]:
    """Train and yield an evaluation after each epoch; continue from the workspace's state.

    State is saved when a yield has returned, and after the last epoch also before what the method
    learns then; the final checkpoint before the last yield. Raises Diverged when a loss is not
    finite.
    """
    trial, group = training.trial, training.group
    group.share_file(workspace.state_path)
    done = restore(training, workspace.state_path)
    clock = Clock(done.seconds)
    for epoch in range(done.measured + 1, trial.epochs + 1):
        if epoch > done.trained:
            with clock.running():
                train_epoch(training, epoch)
        measurements: tuple[Measurement, ...] = ()
        if group.is_leader:
            measurements = measure(training, workspace, epoch=epoch, clock=clock)
        yield evaluation_of(training, measurements, epoch=epoch, seconds=clock.seconds)
        if group.is_leader:
            save_state(training, workspace.state_path, epoch=epoch, seconds=clock.seconds)


def evaluation_of(
    training: Training, measurements: tuple[Measurement, ...], *, epoch: int, seconds: float
) -> Evaluation:
    """What is reported of an epoch."""
    return Evaluation(
        epoch=epoch,
        seconds=seconds,
        examples=epoch * training.steps_per_epoch * training.images_per_step,
        measurements=measurements,
    )


def train_epoch(training: Training, epoch: int) -> None:
    """One pass over the training images, epochs counted from 1."""
    trial, network, data = training.trial, training.network, training.data
    network.train()
    training.method.begin_epoch(network, trial, epoch)
    for index, batch in enumerate(batches(training)):
        images, labels = data.train_images[batch], data.train_labels[batch]
        images = augment(images, training.augmentation, training.order)
        images = normalise(images, data.mean, data.std)
        images, labels = training.group.share_of(images, labels)
        set_learning_rates(training.optimizers, rate_factor(training, epoch, index))
        for optimizer in training.optimizers:
            optimizer.zero_grad(set_to_none=True)
        drawn = training.noise.get_state()
        loss = gradients(training, images, labels)
        loss = training.group.mean_gradients(training.groups, loss)
        if not isfinite(loss):
            training.noise.set_state(drawn)
            raise diverged(training, images, labels, loss=loss, epoch=epoch)
        clip_gradients(training.groups)
        for optimizer in training.optimizers:
            optimizer.step()
        if training.average is not None:
            training.average.update(network)
    training.group.settle(network)


def diverged(
    training: Training, images: Tensor, labels: Tensor, *, loss: float, epoch: int
) -> Diverged:
    """What to raise of a step whose loss is not finite: takes it again, watched."""
    where = first_not_finite(training.network, partial(gradients, training, images, labels))
    return Diverged(f"loss is {loss} at epoch {epoch}, first in {where}")


def measure(
    training: Training, workspace: Workspace, *, epoch: int, clock: Clock
) -> tuple[Measurement, ...]:
    """What the network, or its average, gives after an epoch; after the last one it is kept.

    The clock counts what the method learns after the last epoch, as part of the training.
    """
    trial, network, data = training.trial, training.network, training.data
    is_last = epoch == trial.epochs
    with training.average.applied(network) if training.average else nullcontext():
        if is_last:

            def save() -> None:
                seconds, path = clock.seconds, workspace.state_path
                save_state(training, path, epoch=epoch, seconds=seconds, is_measured=False)

            with clock.running():
                training.method.after(network, trial, data, save)
        measurements = measure_all(network, trial, data, is_last=is_last, epoch=epoch)
        if is_last:
            save_checkpoint(network, trial, workspace.final_checkpoint)
    return measurements


def gradients(training: Training, images: Tensor, labels: Tensor) -> float:
    """Add the mean gradients of a batch, whole or in equal parts, and return its mean loss.

    All parts see the same draws of the method; batch norms see each part by itself. ValueError
    if the parts would not be equal.
    """
    trial, network = training.trial, training.network
    targets = smoothed(labels, trial)
    num_parts = trial.recipe.micro_batches(len(labels))
    drawn = training.noise.get_state()
    total = 0.0
    for some, wanted in zip(images.chunk(num_parts), targets.chunk(num_parts), strict=True):
        training.noise.set_state(drawn)
        total += training.method.backward(network, trial, some, wanted, training.noise).item()
    if num_parts > 1:
        for group in training.groups:
            for one in group.parameters:
                if one.grad is not None:
                    one.grad.div_(num_parts)
    return total / num_parts


def smoothed(labels: Tensor, trial: Trial) -> Tensor:
    """Labels (N,), or (1 - s) onehot + s / classes (N, classes) (Szegedy et al., 1512.00567).

    s is the recipe's; 0 leaves them as they are.
    """
    s = trial.recipe.label_smoothing
    if s == 0:
        return labels
    classes = data_of(trial).classes
    return functional.one_hot(labels, classes) * (1 - s) + s / classes


def batches(training: Training) -> Iterator[Tensor]:
    """The indices of one epoch's batches, in the order that `order` draws."""
    labels = training.data.train_labels
    order = torch.randperm(len(labels), generator=training.order).to(labels.device)
    size = training.images_per_step
    return iter(order[: training.steps_per_epoch * size].view(-1, size))


def optimizers_of(groups: Sequence[ParameterGroup]) -> tuple[Optimizer, ...]:
    """SGD with momentum for the groups that ask for it, Adam for the others; groups may be empty.

    Each optimizer group remembers its peak learning rate under "peak".
    """
    asked: dict[str, list[dict[str, Any]]] = {"sgd": [], "adam": []}  # torch's own group records
    for group in groups:
        if group.parameters:
            asked[group.optimizer].append(
                {
                    "params": list(group.parameters),
                    "lr": group.learning_rate,
                    "peak": group.learning_rate,
                    "weight_decay": group.weight_decay,
                }
            )
    optimizers: list[Optimizer] = []
    if asked["sgd"]:
        optimizers.append(SGD(asked["sgd"], momentum=MOMENTUM))
    if asked["adam"]:
        optimizers.append(Adam(asked["adam"]))
    return tuple(optimizers)


def cosine(step: int, num_steps: int) -> float:
    """Factor of the peak learning rate: 1 at the first step, towards 0 after the last.

    >>> [round(cosine(step, 4), 3) for step in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    """
    return 0.5 * (1.0 + cos(pi * step / num_steps))


def schedule(step: int, num_steps: int, *, warmup_steps: int) -> float:
    """Factor of the peak learning rate: linear up to 1 in the warm-up, then the cosine.

    >>> [round(schedule(step, 6, warmup_steps=2), 3) for step in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return cosine(step - warmup_steps, num_steps - warmup_steps)


def rate_factor(training: Training, epoch: int, index: int) -> float:
    """The factor of the peak learning rates at a step of an epoch; epochs from 1, steps from 0."""
    steps = training.steps_per_epoch
    return schedule(
        (epoch - 1) * steps + index,
        training.trial.epochs * steps,
        warmup_steps=training.trial.recipe.warmup_epochs * steps,
    )


def set_learning_rates(optimizers: Sequence[Optimizer], factor: float) -> None:
    """Scale every group's peak learning rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor


def clip_gradients(groups: Sequence[ParameterGroup]) -> None:
    """Clip the gradient norm of each group that asks for it."""
    for group in groups:
        if group.clip_norm is not None:
            nn.utils.clip_grad_norm_(group.parameters, group.clip_norm)


def save_checkpoint(network: nn.Module, trial: Trial, path: Path) -> None:
    """Write the trained network with the trial it comes from."""
    save_whole({"trial": trial_document(trial), "network": network.state_dict()}, path)


def save_state(
    training: Training, path: Path, *, epoch: int, seconds: float, is_measured: bool = True
) -> None:
    """Write everything that comes after this epoch depends on; its measurements may be to come."""
    document = {
        "trial_id": training.trial.id,
        "epoch": epoch,
        "is_measured": is_measured,
        "seconds": seconds,
        "network": training.network.state_dict(),
        "optimizers": [one.state_dict() for one in training.optimizers],
        "order": training.order.get_state(),
        "noise": training.noise.get_state(),
    }
    if training.average is not None:
        document["average"] = training.average.state()
    save_whole(document, path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How far a training came: epochs trained, epochs measured and yielded, seconds trained."""

    trained: int = 0
    measured: int = 0
    seconds: float = 0.0


def restore(training: Training, path: Path) -> Done:
    """Read the state back, if there is one, else nothing is done.

    Raise ValueError for the state of another trial, InputError for a damaged one: what was
    recorded of the trial stays, and without its state it is trained from its start.
    """
    if not path.exists():
        return Done()
    remedy = "remove it, and `run FILE --retry failed` trains the trial from its start"
    state = read_checkpoint(path, holds=("trial_id", "epoch", "network"), remedy=remedy)
    if state["trial_id"] != training.trial.id:
        raise ValueError(f"{path} holds the state of trial {state['trial_id']}; remove it")
    with fitting(path, remedy=remedy):
        return _restored(training, state)


def _restored(training: Training, state: dict[str, Any]) -> Done:  # as torch.load gives it
    training.network.load_state_dict(state["network"])
    for optimizer, saved in zip(training.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    training.order.set_state(state["order"])
    training.noise.set_state(state["noise"])
    if training.average is not None:
        training.average.restore(state["average"])
    epoch = int(state["epoch"])
    measured = epoch if state.get("is_measured", True) else epoch - 1  # older states: always
    return Done(trained=epoch, measured=measured, seconds=float(state["seconds"]))


def save_whole(document: dict[str, Any], path: Path) -> None:  # torch.save takes anything
    """Write a file whole or not at all, also when the machine stops."""
    scratch = path.with_suffix(".tmp")
    with scratch.open("wb") as file:
        torch.save(document, file)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
