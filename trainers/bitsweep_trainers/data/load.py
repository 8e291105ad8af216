"""A data set split into tensors, ready for the device."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bitsweep.errors import InputError
from bitsweep_trainers.data.arrays import Images
from bitsweep_trainers.data.cache import data_path, declaration, read_verified
from bitsweep_trainers.data.split import split_train


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrays:
    """Images uint8 (N, C, H, W), labels int64 (N,), on the CPU.

    mean, std: per channel over the training images / 255, those of the validation left out.
    held_images, held_labels: training images that a method keeps from its network; often none.
    """

    train_images: Tensor
    train_labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    held_images: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.uint8))
    held_labels: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))


def load(name: str, folder: Path | None = None) -> Arrays:
    """Load and verify a data set; raise InputError that says what to do when it is not there.

    `folder` is where fetched data sets lie: None means $BITSWEEP_DATA or ~/.cache/bitsweep/data.
    """
    data = declaration(name)
    path = data_path(data, folder)
    try:
        raw = read_verified(path, data.sha256)
    except (OSError, ValueError) as error:
        remedy = "install bitsweep again" if data.is_shipped else f"bitsweep data fetch {name}"
        raise InputError(f"the data set {name} cannot be read: {error}; run: {remedy}") from error
    train, validation = split_train(raw.train)
    mean, std = channel_statistics(train.images)
    return Arrays(
        train_images=torch.from_numpy(train.images),
        train_labels=torch.from_numpy(train.labels),
        validation_images=torch.from_numpy(validation.images),
        validation_labels=torch.from_numpy(validation.labels),
        test_images=torch.from_numpy(raw.test.images),
        test_labels=torch.from_numpy(raw.test.labels),
        mean=mean,
        std=std,
    )


def channel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(means, sds) of images (N, C, H, W) / 255 per channel; from exact counts, so repeatable.

    >>> channel_statistics(np.array([[[[0, 255]]]], dtype=np.uint8))
    ((0.5,), (0.5,))
    """
    values = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        counts = np.bincount(images[:, channel].ravel(), minlength=256)
        mean = float(np.average(values, weights=counts))
        variance = float(np.average((values - mean) ** 2, weights=counts))
        means.append(mean)
        deviations.append(variance**0.5)
    return tuple(means), tuple(deviations)
