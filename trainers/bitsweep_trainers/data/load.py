"""A data set split into tensors, ready for the device."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from bitsweep.errors import InputError
from bitsweep.trial import Trial
from bitsweep_trainers.data.arrays import Images
from bitsweep_trainers.data.cache import data_path, declaration, expected_sha256, read_verified
from bitsweep_trainers.data.image_files import ImageFiles
from bitsweep_trainers.data.image_folder import MEAN, STD, folder_and_size, read_folder
from bitsweep_trainers.data.sample_files import read_samples
from bitsweep_trainers.data.samples import Samples
from bitsweep_trainers.data.split import split_train


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrays:
    """Images uint8 (N, C, H, W), labels int64 (N,), on the CPU.

    Or series float (N, C, L) with labels; or vectors float (N, numbers) with targets like them; or
    images that are still files, an `ImageFiles` in the place of each tensor of images.

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
        raw = read_verified(path, expected_sha256(data, path))
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


def load_of(trial: Trial) -> Arrays:
    """The data of a trial, by name or from its path; InputError where it cannot be read."""
    if trial.data_path is None:
        return load(trial.data)
    path = Path(trial.data_path)
    folder, size = folder_and_size(path)
    return load_folder(folder, size) if folder.is_dir() else load_samples(read_samples(path))


def load_folder(folder: Path, size: int) -> Arrays:
    """A folder of images that stay files; mean and sd are those of ImageNet."""
    files = read_folder(folder)

    def part(labelled: Sequence[tuple[str, int]]) -> tuple[Tensor, Tensor]:
        images = ImageFiles([folder / name for name, _ in labelled], size)
        labels = torch.tensor([label for _, label in labelled], dtype=torch.long)
        return cast(Tensor, images), labels  # it behaves as one where images are used

    train, validation, test = part(files.train), part(files.validation), part(files.test)
    return _arrays(train, validation, test, mean=MEAN, std=STD)


def load_samples(samples: Samples) -> Arrays:
    """Series with their classes, or vectors whose targets are they themselves, scaled to sd 1."""
    is_train = samples.part == 0
    train = samples.values[is_train]
    if samples.kind == "series":
        mean = tuple(float(one) for one in train.mean(axis=(0, 2)))
        std = tuple(max(float(one), 1e-12) for one in train.std(axis=(0, 2)))
        targets = torch.from_numpy(samples.labels)
    else:  # one scale for all numbers: a channel's direction is what counts
        mean, std = (0.0,), (max(float(train.std()), 1e-12),)
        targets = torch.from_numpy(samples.values / np.float32(std[0]))
    values = torch.from_numpy(samples.values)
    parts = [torch.from_numpy(np.flatnonzero(samples.part == index)) for index in range(3)]
    pairs = [(values[one], targets[one]) for one in parts]
    return _arrays(*pairs, mean=mean, std=std)


Pair = tuple[Tensor, Tensor]


def _arrays(
    train: Pair, validation: Pair, test: Pair, *, mean: tuple[float, ...], std: tuple[float, ...]
) -> Arrays:
    return Arrays(
        train_images=train[0],
        train_labels=train[1],
        validation_images=validation[0],
        validation_labels=validation[1],
        test_images=test[0],
        test_labels=test[1],
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
