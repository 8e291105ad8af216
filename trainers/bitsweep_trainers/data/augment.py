"""Batches of uint8 images made new and normalised, on whatever device they lie."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from bitsweep_trainers.data.image_files import ImageFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """`pad` black pixels on each side, then a random crop of the old size; random mirroring.

    `is_resized`: images that are still files are decoded by random parts of them.
    """

    pad: int = 0
    is_flipped: bool = False
    is_resized: bool = False

    def __post_init__(self) -> None:
        if self.pad < 0:
            raise ValueError(f"padding is not negative, got {self.pad}")


NO_AUGMENTATION = Augmentation()
AUGMENTATIONS: dict[str, Augmentation] = {
    "fashion-mnist-6k": NO_AUGMENTATION,
    "fashion-mnist": NO_AUGMENTATION,
    "mnist": NO_AUGMENTATION,
    "cifar10": Augmentation(pad=4, is_flipped=True),
    "cifar100": Augmentation(pad=4, is_flipped=True),
}
IMAGE_FOLDER = Augmentation(is_resized=True, is_flipped=True)


def augment(
    images: Tensor | ImageFiles, augmentation: Augmentation, generator: torch.Generator
) -> Tensor:
    """(N, C, H, W) -> the same shape and type, each image by draws of its own.

    Draws come from the generator, on its device: a CPU generator gives the same images on any
    device. Without augmentation nothing is drawn and the images themselves come back.
    """
    return augment_each(images, augmentation, (generator,))


def augment_each(
    images: Tensor | ImageFiles,
    augmentation: Augmentation,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """The same for equal batches one behind the other, a generator for each: as one by one.

    All are varied at once: on a GPU several batches take hardly longer than one.
    """
    if isinstance(images, ImageFiles):
        images = _decoded(images, augmentation, generators)
    each = len(images) // len(generators)
    shifts, coins = [], []
    for generator in generators:
        if augmentation.pad:
            shifts.append(_shifts(each, augmentation.pad, generator))
        if augmentation.is_flipped:
            coins.append(_coins(each, generator))
    if shifts:
        images = _cropped(images, augmentation.pad, torch.cat(shifts, dim=1))
    if coins:
        images = _flipped(images, torch.cat(coins))
    return images


def _decoded(
    images: ImageFiles, augmentation: Augmentation, generators: Sequence[torch.Generator]
) -> Tensor:
    if not augmentation.is_resized:
        return images.centred()
    each = len(images) // len(generators)
    parts = (images[index * each : (index + 1) * each] for index in range(len(generators)))
    return torch.cat([one.cropped(draws) for one, draws in zip(parts, generators, strict=True)])


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability 1/2."""
    return _flipped(images, _coins(len(images), generator))


def _coins(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device) < 0.5


def _flipped(images: Tensor, coins: Tensor) -> Tensor:
    return torch.where(coins.to(images.device)[:, None, None, None], images.flip(3), images)


def random_crop(images: Tensor, pad: int, generator: torch.Generator) -> Tensor:
    """Shift each image by -pad to pad pixels both ways; what comes in is black (0)."""
    return _cropped(images, pad, _shifts(len(images), pad, generator))


def _shifts(count: int, pad: int, generator: torch.Generator) -> Tensor:
    """Pixels down and right (2, N)."""
    return torch.randint(2 * pad + 1, (2, count), generator=generator, device=generator.device)


def _cropped(images: Tensor, pad: int, shifts: Tensor) -> Tensor:
    count, _, height, width = images.shape
    down, right = shifts.to(images.device)
    padded = functional.pad(images, (pad, pad, pad, pad))
    # A view of all windows: indexing it copies whole rows, six times faster than by pixels.
    windows_NCYXHW = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows_NCYXHW[torch.arange(count, device=images.device), :, down, right]


def normalise(images: Tensor | ImageFiles, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (N, C, H, W) -> float32 (images / 255 - mean) / std, per channel.

    Floats (N, C, ...) -> (values - mean) / std. Files are decoded by their centre.

    >>> normalise(torch.tensor([[[[0, 255]]]], dtype=torch.uint8), [0.5], [0.25]).tolist()
    [[[[-2.0, 2.0]]]]
    """
    if isinstance(images, ImageFiles):
        images = images.centred()
    if images.is_floating_point():
        shape = (len(mean), *(1,) * (images.dim() - 2))
        shifts = torch.tensor(list(mean), device=images.device).view(shape)
        return (images - shifts) / torch.tensor(list(std), device=images.device).view(shape)
    scale = torch.tensor([1 / (255 * one) for one in std], device=images.device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=images.device)
    return images.float() * scale[:, None, None] + shift[:, None, None]
