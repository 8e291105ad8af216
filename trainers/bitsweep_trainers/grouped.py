"""Seeds of one configuration trained together: epochs as one network, all else one by one.

Every member has the training it would have alone, with its own network, draws and files; what
happens between epochs is `loop`'s.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isfinite
from time import perf_counter

import torch
from torch import Tensor

from bitsweep.errors import Diverged
from bitsweep.measurement import Evaluation
from bitsweep.trainer import Round, Workspace
from bitsweep_trainers import loop
from bitsweep_trainers.clock import Clock
from bitsweep_trainers.data.augment import augment_each, normalise
from bitsweep_trainers.loop import Done, Training
from bitsweep_trainers.stacked import (
    Stack,
    clip_gradients,
    laid_out,
    mean_losses,
    stack,
    unstack,
    without,
)


def run(trainings: Sequence[Training], workspaces: Sequence[Workspace]) -> Iterator[Round]:
    """Train and yield a round after each epoch; continue from the workspaces' states.

    A place of a round is its training's evaluation, or the Diverged that ended it, or None where
    it has nothing new: those that are behind are trained first. State is saved when a yield has
    returned, as in `loop.run`. Seconds are a member's equal share of the time of all.
    """
    pairs = list(zip(trainings, workspaces, strict=True))
    done = [loop.restore(one, place.state_path) for one, place in pairs]
    ended: set[int] = set()
    while due := _furthest_behind(trainings, done, ended):
        epoch = done[due[0]].measured + 1
        outcomes: list[Evaluation | Diverged | None] = [None] * len(pairs)
        untrained = [index for index in due if done[index].trained < epoch]
        began = perf_counter()
        lost = train_epoch([trainings[index] for index in untrained], epoch)
        elapsed = perf_counter() - began
        for place, index in enumerate(untrained):
            outcomes[index] = lost.get(place)
            seconds = done[index].seconds + elapsed / len(untrained)
            done[index] = replace(done[index], trained=epoch, seconds=seconds)
        for index in due:
            done[index] = replace(done[index], measured=epoch)
            if outcomes[index] is None:
                outcomes[index] = _measured(*pairs[index], done[index])
        yield tuple(outcomes)
        for index in due:
            if isinstance(outcomes[index], Diverged):
                ended.add(index)
                continue
            one, workspace = pairs[index]
            loop.save_state(one, workspace.state_path, epoch=epoch, seconds=done[index].seconds)


def _furthest_behind(
    trainings: Sequence[Training], done: Sequence[Done], ended: set[int]
) -> list[int]:
    """Those with the fewest epochs behind them among the ones that are not at their end."""
    unfinished = [
        index
        for index, one in enumerate(trainings)
        if index not in ended and done[index].measured < one.trial.epochs
    ]
    fewest = min((done[index].measured for index in unfinished), default=0)
    return [index for index in unfinished if done[index].measured == fewest]


def _measured(training: Training, workspace: Workspace, done: Done) -> Evaluation | Diverged:
    epoch, clock = done.measured, Clock(done.seconds)
    try:
        measurements = loop.measure(training, workspace, epoch=epoch, clock=clock)
    except Diverged as error:
        return error
    return loop.evaluation_of(training, measurements, epoch=epoch, seconds=clock.seconds)


def train_epoch(members: Sequence[Training], epoch: int) -> dict[int, Diverged]:
    """One pass of each member over its training images; those that diverged, by their place.

    Members whose networks differ in more than numbers, as in the sign of an input's codes, are
    trained one part after the other: each part is one network.
    """
    lost: dict[int, Diverged] = {}
    for places in _alike(members):
        found = _train_alike([members[place] for place in places], epoch)
        lost |= {places[index]: error for index, error in found.items()}
    return lost


def _alike(members: Sequence[Training]) -> list[list[int]]:
    """The places of members whose networks do the same: equal in what they keep beside tensors."""
    parts: dict[str, list[int]] = {}
    for place, one in enumerate(members):
        state = one.network.state_dict()
        kept = {name: value for name, value in state.items() if not isinstance(value, Tensor)}
        parts.setdefault(repr(kept), []).append(place)
    return list(parts.values())


def _train_alike(members: Sequence[Training], epoch: int) -> dict[int, Diverged]:
    """As `loop.train_epoch`, for all members at once; a member that diverges leaves the stack."""
    for one in members:
        one.network.train()
        one.method.begin_epoch(one.network, one.trial, epoch)
    order_TSN = torch.stack([torch.stack(tuple(loop.batches(one))) for one in members], dim=1)
    lost: dict[int, Diverged] = {}
    left = list(range(len(members)))
    together = stack(members)
    for index in range(len(order_TSN)):
        images, targets = _batches(together.members, order_TSN[index])
        for optimizer in together.optimizers:
            optimizer.zero_grad(set_to_none=True)
        losses = mean_losses(together, images, targets)
        losses.sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        is_finite = losses.detach().isfinite()
        if not is_finite.all():
            found = _diverged(together, images, order_TSN[index], losses=losses, epoch=epoch)
            lost |= {left[place]: error for place, error in found.items()}
            left = [one for one in left if one not in lost]
            if not left:
                return lost
            together = without(together, list(found))
            order_TSN = order_TSN[:, is_finite]
        clip_gradients(together)
        factor = loop.rate_factor(members[0], epoch, index)
        loop.set_learning_rates(together.optimizers, factor)
        for optimizer in together.optimizers:
            optimizer.step()
    unstack(together)
    for one in together.members:
        loop.set_learning_rates(one.optimizers, factor)
    return lost


def _diverged(
    together: Stack, images_NS: Tensor, indices_SN: Tensor, *, losses: Tensor, epoch: int
) -> dict[int, Diverged]:
    """What to say of each member whose loss is not finite, by its place in the stack."""
    unstack(together)
    found = {}
    for place, (one, loss) in enumerate(zip(together.members, losses.tolist(), strict=True)):
        if not isfinite(loss):
            labels = one.data.train_labels[indices_SN[place]]
            images = images_NS[:, place]
            found[place] = loop.diverged(one, images, labels, loss=loss, epoch=epoch)
    return found


def _batches(members: Sequence[Training], indices_SN: Tensor) -> tuple[Tensor, Tensor]:
    """A batch of each member: images (N, S, C, ...), and targets (S, N) or (S, N, classes)."""
    first = members[0]
    data = first.data
    images = augment_each(
        data.train_images[indices_SN.flatten()],
        first.augmentation,
        [one.order for one in members],
    )
    images = normalise(images, data.mean, data.std)
    targets = loop.smoothed(data.train_labels[indices_SN], first.trial)
    return laid_out(images, first.trial, len(members)), targets
