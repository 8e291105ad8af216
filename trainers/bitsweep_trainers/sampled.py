"""A pinned list of layer-wise allocations, measured on a trained super-network without training.

With the batch norms' running statistics and, where asked for, with statistics of the allocation's
own, as later code of ABN's group estimates them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil
from typing import Protocol

import torch
from torch import Tensor, nn

from bitsweep import measurement
from bitsweep.measurement import Measurement, Split
from bitsweep.trial import Trial
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.data.load import Arrays
from bitsweep_trainers.judging import EVALUATION_BATCH
from bitsweep_trainers.random_streams import stream
from bitsweep_trainers.supernet import Allocate, draw_allocation, re_estimated

LIST_SEED = 0
LIST_TILT = 3.0


class Measure(Protocol):
    """Measures a super-network on a split, one width per decision."""

    def __call__(
        self, *, split: Split, widths: Sequence[int], protocol: measurement.Protocol
    ) -> Measurement: ...


def listed_allocations(
    widths: Sequence[int], num_decisions: int, count: int
) -> tuple[tuple[int, ...], ...]:
    """So many different allocations, stratified by cost; all there are where these are no more.

    The list depends on its arguments alone: every trial and seed is measured at the same ones.

    >>> listed_allocations([2, 4], 2, 100)
    ((2, 2), (2, 4), (4, 2), (4, 4))
    """
    if count >= len(widths) ** num_decisions:
        return tuple(product(widths, repeat=num_decisions))
    draws = stream(LIST_SEED, "measured allocations")
    found: dict[tuple[int, ...], None] = {}  # in order, each once
    while len(found) < count:
        found[draw_allocation(widths, num_decisions, tilt=LIST_TILT, generator=draws)] = None
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingBatches:
    """Training samples without augmentation, normalised batch by batch, (N, C, ...) each."""

    data: Arrays
    rows: Tensor

    def __iter__(self) -> Iterator[Tensor]:
        """Batches of about equal size: their statistics count alike."""
        for rows in self.rows.chunk(ceil(len(self.rows) / EVALUATION_BATCH)):
            yield normalise(self.data.train_images[rows], self.data.mean, self.data.std)


def norm_batches(data: Arrays, num_images: int) -> TrainingBatches:
    """The training samples that statistics are estimated on: drawn, the same for every trial."""
    order = torch.randperm(len(data.train_images), generator=stream(LIST_SEED, "norm images"))
    return TrainingBatches(data=data, rows=order[:num_images].to(data.train_images.device))


def sampled_measurements(
    network: nn.Module,
    trial: Trial,
    data: Arrays,
    *,
    num_decisions: int,
    allocate: Allocate,
    measure: Measure,
) -> tuple[Measurement, ...]:
    """What `measured_allocations` of the trial asks for, on its splits; none where it is 0.

    Statistics and weights are afterwards what they were. Answers image by image are left out.
    """
    count = int(trial.parameters.get("measured_allocations", 0))
    num_images = int(trial.parameters.get("bn_images", 0))
    if count == 0:
        return ()
    batches = norm_batches(data, num_images)
    measured: list[Measurement] = []
    for widths in listed_allocations([one.weight for one in trial.bits], num_decisions, count):
        measured += [
            measure(split=split, widths=widths, protocol="running") for split in trial.splits
        ]
        if num_images == 0:
            continue
        with re_estimated(network, batches, [widths], allocate=allocate):
            measured += [
                measure(split=split, widths=widths, protocol="re-estimated")
                for split in trial.splits
            ]
    return tuple(replace(one, answers=None) for one in measured)
