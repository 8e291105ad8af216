"""The training loop of every method, in the open: batch, gradients, step, evaluation.

What differs between methods stands in their `backward` and `parameter_groups`; nothing here asks
which method it trains.
"""

import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import cos, isfinite, pi
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from bitsweep.errors import Diverged
from bitsweep.measurement import Evaluation
from bitsweep.trainer import Workspace
from bitsweep.trial import Trial, trial_document
from bitsweep_trainers.data.augment import Augmentation, augment, normalise
from bitsweep_trainers.data.load import Arrays
from bitsweep_trainers.evaluate import measure_all
from bitsweep_trainers.methods.base import Method, ParameterGroup
from bitsweep_trainers.random_streams import stream as stream

MOMENTUM = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """All that a run of the loop changes or reads; the network and the data on one device.

    `order` draws batches and augmentation, `noise` what the method draws in its `backward`: the
    data come in an order that depends on the seed alone.
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

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the training images; the incomplete last one is left out."""
        return max(1, len(self.data.train_labels) // self.trial.batch_size)


def prepare(
    network: nn.Module,
    method: Method,
    *,
    trial: Trial,
    data: Arrays,
    augmentation: Augmentation,
) -> Training:
    """The training of a converted and calibrated network, before its first step."""
    groups = method.parameter_groups(network, trial)
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
    )


def run(training: Training, workspace: Workspace) -> Generator[Evaluation, None, None]:
    """Train and yield an evaluation after each epoch; continue from the workspace's state.

    State is saved when a yield has returned, and after the last epoch also before what the method
    learns then; the final checkpoint before the last yield. Raises Diverged when a loss is not
    finite.
    """
    trial, network = training.trial, training.network
    done = restore(training, workspace.state_path)
    seconds = done.seconds
    for epoch in range(done.measured + 1, trial.epochs + 1):
        is_last = epoch == trial.epochs
        if epoch > done.trained:
            began = perf_counter()
            train_epoch(training, epoch)
            seconds += perf_counter() - began
        if is_last:
            save = partial(
                save_state, training, workspace.state_path, epoch=epoch, seconds=seconds
            )
            training.method.after(network, trial, training.data, partial(save, is_measured=False))
        measurements = measure_all(network, trial, training.data, is_last=is_last)
        if is_last:
            save_checkpoint(network, trial, workspace.final_checkpoint)
        yield Evaluation(
            epoch=epoch,
            seconds=seconds,
            examples=epoch * training.steps_per_epoch * trial.batch_size,
            measurements=measurements,
        )
        save_state(training, workspace.state_path, epoch=epoch, seconds=seconds)


def train_epoch(training: Training, epoch: int) -> None:
    """One pass over the training images, epochs counted from 1."""
    trial, network, data = training.trial, training.network, training.data
    num_steps = trial.epochs * training.steps_per_epoch
    network.train()
    for index, batch in enumerate(batches(training)):
        images, labels = data.train_images[batch], data.train_labels[batch]
        images = augment(images, training.augmentation, training.order)
        images = normalise(images, data.mean, data.std)
        step = (epoch - 1) * training.steps_per_epoch + index
        set_learning_rates(training.optimizers, cosine(step, num_steps))
        for optimizer in training.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss = training.method.backward(network, trial, images, labels, training.noise).item()
        if not isfinite(loss):
            where = first_not_finite(network, images)
            raise Diverged(f"loss is {loss} at epoch {epoch}, first in {where}")
        clip_gradients(training.groups)
        for optimizer in training.optimizers:
            optimizer.step()


def batches(training: Training) -> Iterator[Tensor]:
    """The indices of one epoch's batches, in the order that `order` draws."""
    labels = training.data.train_labels
    order = torch.randperm(len(labels), generator=training.order).to(labels.device)
    size = min(training.trial.batch_size, len(labels))
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


@torch.no_grad()
def first_not_finite(network: nn.Module, images: Tensor) -> str:
    """ "layer NAME", the first whose output is not finite on these images, or "the loss"."""
    found: list[str] = []

    def look(name: str, output: object) -> None:
        if isinstance(output, Tensor) and not bool(torch.isfinite(output).all()):
            found.append(name)

    handles = [
        module.register_forward_hook(lambda _module, _inputs, out, name=name: look(name, out))
        for name, module in network.named_modules()
        if not list(module.children())
    ]
    network(images)
    for handle in handles:
        handle.remove()
    return f"layer {found[0]}" if found else "the loss"


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
    save_whole(document, path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How far a training came: epochs trained, epochs measured and yielded, seconds trained."""

    trained: int = 0
    measured: int = 0
    seconds: float = 0.0


def restore(training: Training, path: Path) -> Done:
    """Read the state back, if there is one, else nothing is done.

    Raise ValueError for the state of another trial.
    """
    if not path.exists():
        return Done()
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["trial_id"] != training.trial.id:
        raise ValueError(f"{path} holds the state of trial {state['trial_id']}; remove it")
    training.network.load_state_dict(state["network"])
    for optimizer, saved in zip(training.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    training.order.set_state(state["order"])
    training.noise.set_state(state["noise"])
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
