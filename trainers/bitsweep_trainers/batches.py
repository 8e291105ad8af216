"""Calibration images in batches, none of them too small for a network in training mode."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bitsweep.cost import fewest_norm_values
from bitsweep.trial import Trial
from bitsweep_trainers.data.cache import data_of
from bitsweep_trainers.models.declared import MODELS


def cut(values: Tensor, size: int, *, trial: Trial) -> Sequence[Tensor]:
    """Values (N, ...) in parts of `size`, the last one smaller.

    Where a batch norm of the trial's model sees one value a channel of one sample, a last part of
    one is joined to the part before: torch's norms train on two at least.
    """
    parts = torch.split(values, size)
    if len(parts) < 2 or len(parts[-1]) > 1:
        return parts
    data = data_of(trial)
    if fewest_norm_values(MODELS[trial.model].layers(data.shape, data.classes)) > 1:
        return parts
    return (*parts[:-2], torch.cat(parts[-2:]))
